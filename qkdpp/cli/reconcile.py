"""``qkdpp reconcile``: two files of sifted key to equal keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    alice: Annotated[Path, typer.Argument(help="Alice's sifted key: characters 0 and 1, or packed bits.")],
    bob: Annotated[Path, typer.Argument(help="Bob's sifted key, aligned bit by bit.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="New folder for keys and report.")] = None,
    method: Annotated[str, typer.Option(help="cascade or hamming.")] = "cascade",
    qber: Annotated[float | None, typer.Option(help="Error rate expected, if known (0 to 0.5).")] = None,
    phase_error: Annotated[
        float | None, typer.Option(help="Phase error rate you assume: amplify to n (1 - h(P)) less all costs.")
    ] = None,
    secret_bits: Annotated[int | None, typer.Option(help="Amplify to so many bits, on your own judgement.")] = None,
    packed: Annotated[
        bool, typer.Option("--packed", help="The files are packed bits, least significant first.")
    ] = False,
    bits: Annotated[int | None, typer.Option(help="Bits in each packed file; default all of them.")] = None,
    eps_sec: Annotated[float, typer.Option(help="Secrecy of the amplified key.")] = 1e-10,
    eps_cor: Annotated[float, typer.Option(help="Probability that unequal keys pass verification.")] = 1e-15,
    json_: Annotated[bool, typer.Option("--json", help="Print the balance as JSON and nothing else.")] = False,
) -> None:
    """Correct and verify two files of sifted key, and amplify on an assumption that you state.

    Without --phase-error or --secret-bits the result is equal on both sides but not secret (alice.corrected,
    bob.corrected). Raw keys that repeat themselves are refused (exit code 3).
    """
    from qkdpp.cli.console import Progress
    from qkdpp.core.errors import InputError
    from qkdpp.offline.folder import refuse_existing
    from qkdpp.offline.keytext import read_sifted
    from qkdpp.offline.reconcile import Request, balance_sheet, describe, reconcile, save
    from qkdpp.offline.steady import now

    if phase_error is not None and secret_bits is not None:
        raise InputError("--phase-error and --secret-bits exclude each other")
    if output is not None:
        refuse_existing(output)
    request = Request(
        method=method,
        qber_hint=qber,
        phase_error=phase_error,
        secret_bits=secret_bits,
        eps_sec=eps_sec,
        eps_cor=eps_cor,
    )
    keys = [read_sifted(path, packed=packed, n_bits=bits) for path in (alice, bob)]
    with Progress(quiet=json_) as progress:
        progress.step("correcting")
        outcome = reconcile(keys[0], keys[1], request, now)
    sheet = balance_sheet(keys[0], keys[1], request, outcome)
    if output is not None:
        save(output, outcome, sheet, amplified=request.amplifies)
    if json_:
        import msgspec

        print(msgspec.json.encode(sheet).decode())
    else:
        print(describe(sheet))
        print("nothing written: give -o FOLDER to keep the result" if output is None else f"written to {output}")
    if sheet["abort"] is not None:
        raise typer.Exit(3)
