"""The ``qkdpp`` command: registers the verbs and turns errors into exit codes.

Exit codes: 0 done; 2 bad input, usage or surroundings; 3 no key for a stated reason; 130 interrupted; 1 our fault.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys

import typer

from qkdpp import __version__
from qkdpp.core.errors import DeviceError, InputError

VERBS: dict[str, str] = {
    "info": "qkdpp.cli.info",
    "convert": "qkdpp.cli.convert",
    "init": "qkdpp.cli.init",
    "simulate": "qkdpp.cli.simulate",
    "rate": "qkdpp.cli.rate",
    "optimise": "qkdpp.cli.optimise",
    "distill": "qkdpp.cli.distill",
    "reconcile": "qkdpp.cli.reconcile",
    "run": "qkdpp.cli.run",
    "replay": "qkdpp.cli.replay",
    "calibrate": "qkdpp.cli.calibrate",
    "bench": "qkdpp.cli.bench",
    "devices": "qkdpp.cli.devices",
    "keys": "qkdpp.cli.keys",
    "serve": "qkdpp.cli.serve",
    "pki": "qkdpp.cli.pki",
}
"""Each module defines ``command``: a typer-annotated function, or a typer application where a verb has several."""

HOLD_KEYS = frozenset({"distill", "reconcile", "run", "replay", "calibrate", "keys", "serve"})
"""Verbs whose memory is kept out of core files."""

EXIT_INPUT, EXIT_INTERRUPTED = 2, 130


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
        if HOLD_KEYS.intersection(sys.argv[1:2]) and sys.platform != "win32":
            from qkdpp.core.guard import keep_memory_private

            keep_memory_private()
        build()()
    except (InputError, DeviceError) as error:
        _fail(str(error), EXIT_INPUT)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}", EXIT_INPUT)
    except KeyboardInterrupt:
        _fail("interrupted", EXIT_INTERRUPTED)


def _fail(message: str, code: int) -> None:
    """One line on stderr, then out; quiet where stdout is gone (a full disk, a closed pipe)."""
    print(f"qkdpp: {message}", file=sys.stderr)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - the interpreter flushes it once more
    sys.exit(code)
