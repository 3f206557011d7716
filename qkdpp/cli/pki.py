"""``qkdpp pki``: throw-away certificates for trials."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

command = typer.Typer(no_args_is_help=True, help="Throw-away certificates, for trials only.")
NO_NAMES: list[str] = []


@command.callback()
def _group() -> None:
    """Keeps ``init`` a sub-command while it is the only one."""


@command.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder for the files; an authority in it is used again.")],
    node: Annotated[list[str], typer.Option(help="Name of a node; again for more.")] = NO_NAMES,
    application: Annotated[list[str], typer.Option(help="Name of an application (SAE); again for more.")] = NO_NAMES,
    host: Annotated[list[str], typer.Option(help="Host name or address the nodes also answer to.")] = NO_NAMES,
    days: Annotated[int, typer.Option(min=1, help="How long they are valid.")] = 365,
) -> None:
    """Make an authority and certificates for two nodes and their applications.

    For trials only: the authority's key lies beside what it signs. Give each node authority.pem, its own .pem and .key,
    and nothing else.
    """
    from qkdpp.pki import AUTHORITY, create_authority, create_certificate

    made = []
    if not (folder / f"{AUTHORITY}.pem").exists():
        made.append(create_authority(folder, days))
    made += [create_certificate(folder, name, "node", days=days, hosts=tuple(host)) for name in node]
    made += [create_certificate(folder, name, "application", days=days) for name in application]
    for path in made:
        print(f"{path} (key: {path.with_suffix('.key').name})")
    print("for trials only: keep authority.key away from everything that is in service")
