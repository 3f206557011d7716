"""What a run records of its blocks so that it can be replayed: tags, and (sealed) randomness and states.

Everything in here gives keys away. Tags of a block (``BLOCK.h5``) hold the receiver's bits in the clear; randomness and
the sender's states (``BLOCK.sealed``) are encrypted. The folder is the owner's alone. One file a block, written when
the block has its tags and when it has ended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkdpp.core.entropy import Entropy, OsEntropy
from qkdpp.core.errors import FormatError, InputError
from qkdpp.core.sync_string import SyncString
from qkdpp.core.tags import TimeTags
from qkdpp.node.config import NodeFile
from qkdpp.node.live_pulsed import Cut
from qkdpp.node.live_record import LiveRecord
from qkdpp.node.randomness import RecordedEntropy, ReplayedEntropy, seal, sealing_key, unseal
from qkdpp.sources import open_recording, read_all, write_recording
from qkdpp.sources.batches import Metadata
from qkdpp.timing.pair_values import Expected
from qkdpp.timing.pulsed import PulsedParams

FOLDER: Final = "recording"


class _Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """Content of a sealed file; arrays little-endian. ``slots`` and what follows are the sender's."""

    entropy: bytes
    slots: bytes = b""
    codes: bytes = b""
    totals: bytes = b""

    def __repr__(self) -> str:
        return "_Sealed()"


class CutMeta(msgspec.Struct, frozen=True, kw_only=True):
    """How the tags of a block of pulses are to be resolved (:class:`qkdpp.node.live_pulsed.Cut`)."""

    number: int
    n_pulses: int
    begin_tick: int
    range_s: float
    known_delay_ticks: dict[int, float]

    @classmethod
    def of(cls, cut: Cut, params: PulsedParams, n_pulses: int) -> CutMeta:
        """That of a cut."""
        return cls(
            number=cut.number,
            n_pulses=n_pulses,
            begin_tick=cut.begin_tick,
            range_s=cut.range_s,
            known_delay_ticks=dict(params.known_delay_ticks),
        )


class Recorder:
    """Writes the recording of a run into ``run``; what is not switched on is not written.

    InputError if the key for sealing does not serve.
    """

    def __init__(self, file: NodeFile, run: Path) -> None:
        self._section = file.recording
        self._folder = run / FOLDER
        self._entropies: dict[int, RecordedEntropy] = {}
        self._key = sealing_key(key_path(file)) if file.recording.entropy else None
        if file.recording.tags or self._key is not None:
            self._folder.mkdir(mode=0o700)

    def entropy(self, block: int) -> Entropy:
        """The randomness of a block."""
        if self._key is None:
            return OsEntropy()
        self._entropies[block] = RecordedEntropy(OsEntropy())
        return self._entropies[block]

    def tags(self, block: int, tags: TimeTags, how: CutMeta | Expected | None = None) -> None:
        """The tags of a block, and how they are resolved."""
        if not self._section.tags:
            return
        path = self._folder / f"{block}.h5"
        name = "cut" if isinstance(how, CutMeta) else "known"
        meta: Metadata = {} if how is None else {name: msgspec.json.encode(how).decode()}
        write_recording(path, [tags], format="hdf5", metadata=meta)
        path.chmod(0o600)

    def lost(self, block: int) -> None:
        """The block never begins."""
        self._entropies.pop(block, None)

    def ended(self, block: int, states: LiveRecord | None = None) -> None:
        """Seals randomness and, for the sender, the states that were looked up."""
        entropy = self._entropies.pop(block, None)
        if entropy is None or self._key is None:
            return
        content = _Sealed(entropy=bytes(entropy.kept))
        if states is not None:
            content = _Sealed(
                entropy=content.entropy,
                slots=states.asked.astype("<i8").tobytes(),
                codes=states.codes.tobytes(),
                totals=states.totals_asked.astype("<i8").tobytes(),
            )
        seal(self._folder / f"{block}.sealed", self._key, block, msgspec.msgpack.encode(content))


def key_path(file: NodeFile) -> Path:
    """Where the sealing key of a node lies."""
    return file.folder / (file.recording.key or f"{file.node.name}.sealing.key")


class RecordedStates:
    """The sender's record of a block as it was looked up. Fulfils ``PreparedStates``; secret."""

    test_mode = False

    def __init__(self, sealed: _Sealed, *, n_pulses: int, sync_string: SyncString | None) -> None:
        self._slots = np.frombuffer(sealed.slots, dtype="<i8").astype(np.int64)
        self._codes = np.frombuffer(sealed.codes, dtype=np.uint8)
        self._totals = np.frombuffer(sealed.totals, dtype="<i8").astype(np.int64).reshape(-1, 2, 2)
        self.n_pulses, self.sync_string = n_pulses, sync_string

    def __repr__(self) -> str:
        return f"RecordedStates(n_pulses={self.n_pulses})"

    def lookup(self, slots: NDArray[np.int64]) -> NDArray[np.uint8]:
        """State codes as recorded; InputError if other slots are asked for."""
        if not np.array_equal(slots, self._slots):
            raise InputError("the recorded states belong to other pulses")
        return self._codes.copy()

    def totals(self) -> NDArray[np.int64]:
        """Pulses sent by (intensity, basis, bit), int64[K, 2, 2]."""
        return self._totals.copy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a sealed file held; ``states`` only where the sender wrote it."""

    entropy: Entropy
    sealed: _Sealed

    def states(self, *, n_pulses: int, sync_string: SyncString | None) -> RecordedStates:
        """The sender's states."""
        return RecordedStates(self.sealed, n_pulses=n_pulses, sync_string=sync_string)


def open_sealed(run: Path, key: bytes, block: int) -> Opened:
    """Randomness and states of a block. FormatError if key or file are not those."""
    path = run / FOLDER / f"{block}.sealed"
    try:
        sealed = msgspec.msgpack.decode(unseal(path, key, block), type=_Sealed)
    except msgspec.DecodeError as error:
        raise FormatError(f"{path}: not a recording of a block ({error})") from error
    return Opened(entropy=ReplayedEntropy(sealed.entropy), sealed=sealed)


def read_tags(run: Path, block: int) -> TimeTags:
    """The tags of a block."""
    return read_all(open_recording(run / FOLDER / f"{block}.h5", format="hdf5"))


def read_pairs(run: Path, block: int) -> tuple[TimeTags, Expected | None]:
    """The tags of a block of pairs, and what was known of the clock."""
    path = run / FOLDER / f"{block}.h5"
    recording = open_recording(path, format="hdf5")
    try:
        known = recording.metadata.get("known")
        expected = None if known is None else msgspec.json.decode(str(known), type=Expected)
    except msgspec.DecodeError as error:
        raise FormatError(f"{path}: not the recording of a block of pairs ({error})") from error
    return read_all(recording), expected


def read_cut(run: Path, block: int, params: PulsedParams) -> tuple[Cut, PulsedParams, int]:
    """The tags of a block of pulses as they were cut, how they are timed, and the number of pulses."""
    path = run / FOLDER / f"{block}.h5"
    recording = open_recording(path, format="hdf5")
    try:
        meta = msgspec.json.decode(str(recording.metadata["cut"]), type=CutMeta)
    except (KeyError, msgspec.DecodeError) as error:
        raise FormatError(f"{path}: not the recording of a block of pulses ({error})") from error
    cut = Cut(number=meta.number, tags=read_all(recording), begin_tick=meta.begin_tick, range_s=meta.range_s)
    return cut, replace(params, known_delay_ticks=meta.known_delay_ticks), meta.n_pulses
