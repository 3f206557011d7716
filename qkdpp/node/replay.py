"""Runs one party's own stages of recorded blocks again: same inputs, same randomness, the peer's messages as recorded.

Every message this party sends must come out byte for byte as it was sent. Keys are for comparison only: no pool and no
store is touched, and what is written is marked as not deliverable.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from qkdpp.core import stage as core
from qkdpp.core.abort import Abort, Aborted, AbortReason
from qkdpp.core.bits import Bits
from qkdpp.core.errors import FormatError, InputError
from qkdpp.core.keyfile import write_key
from qkdpp.core.ledger import Side
from qkdpp.core.stage import Message, Receive, Seal, Send, Stage
from qkdpp.link.endpoint import Record
from qkdpp.link.frame import Kind
from qkdpp.link.transcript import read_transcript
from qkdpp.node.assemble import timing_of
from qkdpp.node.config import NodeFile, load_node
from qkdpp.node.live_pulsed import resolve
from qkdpp.node.randomness import sealing_key
from qkdpp.node.recording import FOLDER, key_path, open_sealed, read_cut, read_pairs
from qkdpp.protocols import bb84, bbm92
from qkdpp.protocols.block import BlockLog
from qkdpp.protocols.distillation import Party

NOTE = "replayed for comparison, not deliverable: the peer and the key store know nothing of it"


class DifferentError(FormatError):
    """A block does not come out as it was recorded."""


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """One block of ``replay.json``.

    Attributes:
        block: its number.
        secret_bits: length of the key in ``BLOCK.test.key``; 0: no key.
        reason: why there is no key, as then.
        deliverable: never.
    """

    block: int
    secret_bits: int
    reason: str | None = None
    deliverable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run folder, opened: its node, its blocks that were recorded, and the rows of those that ended."""

    path: Path
    file: NodeFile
    key: bytes
    rows: dict[int, dict[str, Any]]

    @property
    def blocks(self) -> list[int]:
        """Numbers of the blocks that can be replayed, in order."""
        return sorted(int(path.stem) for path in (self.path / FOLDER).glob("*.sealed"))


def open_run(path: Path, key: Path | None) -> Run:
    """Opens a run folder; ``key`` None: the sealing key lies where the node file says, beside the folder of the runs.

    Raises:
        InputError: no such folder, nothing was recorded, or there is no key.
    """
    if not (path / "node.toml").exists():
        raise InputError(
            f"{path}: not the run folder of a node (no node.toml in it); name one, as `qkdpp run` printed it"
        )
    file = load_node(path / "node.toml")
    if not any((path / FOLDER).glob("*.sealed")):
        raise InputError(f"{path}: no randomness was recorded (recording.entropy = true in the node file records it)")
    key = key if key is not None else _near(path, key_path(file))
    if not key.exists():
        raise InputError(f"{key}: no sealing key there; name it with --key")
    with (path / "blocks.jsonl").open("rb") as lines:
        whole = [line for line in lines if line.endswith(b"\n")]  # a node that was killed leaves part of a line
    rows = {row["block"]: row for row in map(msgspec.json.decode, whole)}
    return Run(path=path, file=file, key=sealing_key(key), rows=rows)


def _near(run: Path, key: Path) -> Path:
    """The key, named relative to the node file, whose folder lies above that of the runs."""
    name = key.relative_to(run) if key.is_relative_to(run) else key
    for folder in (run.absolute().parent, *run.absolute().parents[1:]):
        if (folder / name).exists():
            return folder / name
    return run.parent / name


def replay_run(run: Run, out: Path) -> Iterator[Replayed]:
    """Replays block after block into the new folder ``out``; ends with ``replay.json``.

    Raises:
        DifferentError: a block comes out differently; InputError: ``out`` exists or a file is missing.
    """
    try:
        out.mkdir(mode=0o700)
    except OSError as error:
        raise InputError(f"{out}: cannot be made ({error.strerror}); name a new folder with -o") from error
    done = []
    for block in run.blocks:
        result = replay_block(run, block)
        if isinstance(result, Aborted):
            done.append(Replayed(block=block, secret_bits=0, reason=result.reason.value))
        else:
            write_key(out / f"{block}.test.key", result)
            done.append(Replayed(block=block, secret_bits=len(result)))
        yield done[-1]
    document = {"run": str(run.path), "note": NOTE, "deliverable": False, "blocks": done}
    (out / "replay.json").write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")


def replay_block(run: Run, block: int) -> Bits | Aborted:
    """The key of one block as it went to the store, or why there was none.

    Raises:
        DifferentError: it comes out differently.
    """
    row = run.rows.get(block)
    if row is None:
        raise InputError(f"{run.path}: block {block} has no row; was the run cut off? remove its recording")
    records = list(read_transcript(run.path / "transcripts" / str(block)))
    party = _Replay(records, run.file.node.role, block)
    result = party.run(_stage(run, block))
    if isinstance(result, Bits):
        pool_bits, secret_bits = int(row["pool_bits"]), int(row["secret_bits"])
        if row["abort"] is not None:
            return Aborted(reason=AbortReason(row["abort"]), evidence={"after": "the key was made"})
        if len(result) != pool_bits + secret_bits:
            raise DifferentError(f"block {block}: a key of {len(result)} bits instead of {pool_bits + secret_bits}")
        return Bits.from_bytes(result.to_bytes()[pool_bits // 8 :], secret_bits)
    if row["abort"] is None:
        raise DifferentError(f"block {block}: ends with {result.reason.value} instead of a key")
    return Aborted(reason=AbortReason(row["abort"]), evidence=result.evidence)


def _stage(run: Run, block: int) -> Stage[Bits]:
    file = run.file
    opened = open_sealed(run.path, run.key, block)
    party = Party(
        role=file.node.role,
        parameters=file.parameters,
        entropy=opened.entropy,
        log=BlockLog(now=time.monotonic),
    )
    if file.parameters.protocol == "bbm92" and file.receiver is not None:
        tags, known = read_pairs(run.path, block)
        if file.node.role == "alice":
            return bbm92.alice(tags, file.receiver.detectors(), party)
        return bbm92.live_bob(tags, file.receiver.detectors(), party, known)
    if file.node.role == "alice":
        string = file.parameters.sync_string
        built = None if string is None else string.build()
        return bb84.alice(opened.states(n_pulses=file.block_pulses, sync_string=built), party)
    cut, timing, n_pulses = read_cut(run.path, block, timing_of(file))
    found = resolve(cut, timing, n_pulses, opened.entropy)
    return bb84.bob(lambda: found.detections, party)


class _Replay:
    """Drives a stage by a transcript instead of a link; tags are taken as they are."""

    def __init__(self, records: list[Record], role: Side, block: int) -> None:
        self._own = deque(record for record in records if record.side == role)
        self._peer = deque(record for record in records if record.side != role)
        self._block = block

    def run(self, stage: Stage[Bits]) -> Bits | Aborted:
        """What the stage ends with; LINK_LOST where the transcript ends first."""
        message: Message | None = None
        try:
            while True:
                effect = stage.send(message)
                message = None
                if isinstance(effect, Send):
                    self._sent(type(effect.message).__name__, core.encode(effect.message))
                elif isinstance(effect, Seal):
                    self._take(self._own, Kind.TAG, effect.gate)
                elif isinstance(effect, Receive):
                    record = self._take(self._peer, Kind.MESSAGE, effect.expected.__name__)
                    message = core.decode(record.body, effect.expected)
                else:
                    self._take(self._peer, Kind.TAG, effect.gate)
        except StopIteration as stop:
            result: Bits = stop.value
            return result
        except Abort as abort:
            return abort.aborted

    def _sent(self, name: str, body: bytes) -> None:
        if self._take(self._own, Kind.MESSAGE, name).body != body:
            raise DifferentError(f"block {self._block}: the message {name} comes out differently")

    def _take(self, records: deque[Record], kind: Kind, name: str) -> Record:
        if not records or records[0].kind is Kind.ABORT:
            raise Abort(AbortReason.LINK_LOST, transcript="ends here")
        record = records.popleft()
        if (record.kind, record.name) != (kind, name):
            raise DifferentError(f"block {self._block}: {name} where the transcript has {record.name}")
        return record
