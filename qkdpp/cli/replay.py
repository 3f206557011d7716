"""``qkdpp replay``: the recorded blocks of a node once more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Run folder of a node.")],
    *,
    key: Annotated[
        Path | None, typer.Option(help="File of the sealing key, if it is not where the node has it.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="New folder; default RUN-replay.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object per block, and nothing else.")] = False,
) -> None:
    """Run the recorded blocks of one node again, and compare.

    Needs a run with recording.entropy = true. The node's own stages run on the recorded tags or states, with the
    recorded randomness and the peer's messages; every message and the length of every key must come out the same. Keys
    are written as BLOCK.test.key and are not deliverable: no pool and no store is touched.
    """
    import msgspec

    from qkdpp.node.replay import NOTE, open_run, replay_run
    from qkdpp.node.status import short

    out = run.with_name(run.name + "-replay") if output is None else output
    n_keys = 0
    for done in replay_run(open_run(run, key), out):
        n_keys += done.secret_bits > 0
        if json_:
            print(msgspec.json.encode(done).decode(), flush=True)
        else:
            what = done.reason if done.reason else f"{done.secret_bits:,} bits, messages and key as they were"
            print(f"block {short(done.block)}: {what}", flush=True)
    if not json_:
        print(f"{n_keys} keys in {out}; {NOTE}")
