"""The ``qkdpp`` command: registers the verbs and turns errors into exit codes.

Exit codes: 0 done; 2 bad input or usage; 3 no key for a stated reason; 1 our fault.
"""

from __future__ import annotations

import importlib
import sys

import typer

from qkdpp import __version__
from qkdpp.core.errors import InputError

VERBS: dict[str, str] = {
    "info": "qkdpp.cli.info",
    "convert": "qkdpp.cli.convert",
    "init": "qkdpp.cli.init",
    "simulate": "qkdpp.cli.simulate",
    "distill": "qkdpp.cli.distill",
    "reconcile": "qkdpp.cli.reconcile",
    "keys": "qkdpp.cli.keys",
}
"""Each module defines ``command``: a typer-annotated function, or a typer application where a verb has several."""

EXIT_INPUT = 2


def _print_version(value: bool) -> None:
    if value:
        print(f"qkdpp {__version__}")
        raise typer.Exit


def build() -> typer.Typer:
    """The application with all verbs."""
    app = typer.Typer(
        name="qkdpp",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="From single-photon detections to secret keys.",
    )

    @app.callback()
    def options(
        version: bool = typer.Option(
            False, "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ) -> None:
        pass

    for verb, module in VERBS.items():
        command = importlib.import_module(module).command
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=verb)
        else:
            app.command(verb)(command)
    return app


def main() -> None:
    """Runs the command line."""
    try:
        build()()
    except InputError as error:
        print(f"qkdpp: {error}", file=sys.stderr)
        sys.exit(EXIT_INPUT)
