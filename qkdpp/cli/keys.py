"""``qkdpp keys``: authentication pools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

command = typer.Typer(no_args_is_help=True, help="Authentication pools.")


@command.callback()
def _group() -> None:
    """Keeps ``pool`` a sub-command while it is the only one."""


@command.command()
def pool(
    path: Annotated[Path, typer.Argument(help="New file for Alice; Bob's copy gets the suffix .bob.")],
    tags: Annotated[int, typer.Option(help="Tags per direction; a block takes up to four in one of them.")] = 1000,
) -> None:
    """Create an authentication pool and its copy for the other party.

    Both files are secret (mode 0600) and are used up by the blocks they authenticate. Carry the copy to the other
    party by hand, name the files as alice.pool and bob.pool in run.toml, and keep no third copy.
    """
    from qkdpp.core.entropy import OsEntropy
    from qkdpp.core.keyfile import create_secret
    from qkdpp.link.pool_file import create_pool

    create_pool(path, tags, OsEntropy())
    copy = path.with_name(path.name + ".bob")
    create_secret(copy, path.read_bytes())
    print(f"{path} and {copy}: {tags} tags per direction")
