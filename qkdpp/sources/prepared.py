"""Alice's record of prepared states: format ``qkdpp-prepared``, version 1 (``docs/formats/prepared.md``).

Four modes say the same thing in different ways: ``full`` holds every pulse, ``detected`` the pulses Bob may
announce with the totals of all, ``pattern`` and ``seed`` a rule (test modes: never a composable key). A record is
checked completely when it is opened, in bounded memory; afterwards states are looked up by pulse number.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.sync_string import SyncString
from qkdpp.kernels.tags import count_backward, lookup
from qkdpp.sources.prepared_file import FORMAT_NAME, Fields, Mode, open_record, read_header
from qkdpp.sources.prepared_states import (
    CHUNK,
    NOT_HELD,
    Codes,
    PreparedHeader,
    Slots,
    pattern_codes,
    pattern_totals,
    seed_codes,
    seed_totals,
    slot_chunks,
    unpack_codes,
)
from qkdpp.sources.prepared_write import DetectedWriter, States, write_prepared

if TYPE_CHECKING:
    import h5py

__all__ = [
    "FORMAT_NAME",
    "DetectedWriter",
    "PreparedHeader",
    "PreparedRecord",
    "States",
    "read_prepared",
    "write_prepared",
]


MOST_KEPT = 1 << 26
"""Bytes of pulse numbers (as gaps) and codes that stay in memory once they are checked; the rest is read again."""


class _States(Protocol):
    """One mode's way to the states: both work on valid pulse numbers."""

    def codes(self, slots: Slots) -> Codes: ...

    def totals(self) -> NDArray[np.int64]: ...


class PreparedRecord:
    """What Alice sent: a checked record, open for look-ups.

    ``n_pulses``, ``pulse_period_as``, ``intensities``, ``p_intensity``, ``p_z`` and ``sync_string`` are as in
    :class:`PreparedHeader`; ``mode`` is the file's. Bits never appear in the representation.
    """

    def __init__(self, header: PreparedHeader, mode: Mode, states: _States) -> None:
        self.header = header
        self.mode: Mode = mode
        self._states = states
        self._totals: NDArray[np.int64] | None = None

    def __repr__(self) -> str:
        return f"PreparedRecord(mode={self.mode!r}, n_pulses={self.n_pulses})"

    @property
    def n_pulses(self) -> int:
        """Pulses sent."""
        return self.header.n_pulses

    @property
    def pulse_period_as(self) -> int:
        """Attoseconds from pulse to pulse."""
        return self.header.pulse_period_as

    @property
    def intensities(self) -> tuple[float, ...]:
        """Mean photon numbers, signal first."""
        return self.header.intensities

    @property
    def p_intensity(self) -> tuple[float, ...]:
        """Probabilities of the intensities."""
        return self.header.p_intensity

    @property
    def p_z(self) -> float:
        """Probability of basis Z."""
        return self.header.p_z

    @property
    def sync_string(self) -> SyncString | None:
        """The public string among the pulses, if any."""
        return self.header.sync_string

    @property
    def test_mode(self) -> bool:
        """Whether the states follow from a rule (no key from them is secret)."""
        return self.mode in ("pattern", "seed")

    def lookup(self, slots: NDArray[np.int64]) -> NDArray[np.uint8]:
        """State codes of pulse numbers (int64[n], any order) as uint8[n]; 255 where the record does not hold one."""
        result = np.full(slots.size, NOT_HELD, dtype=np.uint8)
        valid = (slots >= 0) & (slots < self.n_pulses)
        if valid.all() and slots.size:
            return self._states.codes(slots)
        if valid.any():
            result[valid] = self._states.codes(slots[valid])
        return result

    def totals(self) -> NDArray[np.int64]:
        """Pulses sent, int64[intensities, 2, 2] by (intensity, basis, bit); pulses of the string not included.

        In seed mode the first call expands every pulse.
        """
        if self._totals is None:
            self._totals = self._states.totals().reshape(-1, 2, 2)
        return self._totals.copy()


class _Full:
    """Every pulse, packed."""

    def __init__(self, path: Path, header: PreparedHeader, fields: Fields) -> None:
        self.path, self.header = path, header
        stored = (header.n_pulses * header.bits_per_code + 7) // 8
        data = fields.dataset("codes", np.uint8, (stored,))
        self.counted = np.zeros(header.n_codes, dtype=np.int64)
        for slots in slot_chunks(header.n_pulses):
            codes = self._read(data, int(slots[0]), slots.size)
            self.counted += fields.counted("codes", header, slots, codes)

    def _read(self, data: h5py.Dataset, first: int, n: int) -> Codes:
        """Codes ``first`` (a multiple of CHUNK) to ``first + n``."""
        bits = self.header.bits_per_code
        return unpack_codes(data[first * bits // 8 : (first + n) * bits // 8 + 1], bits, n)

    def codes(self, slots: Slots) -> Codes:
        def chunk(data: h5py.File, number: int) -> Callable[[Slots], Codes]:
            first = number * CHUNK
            codes = self._read(data["codes"], first, min(CHUNK, self.header.n_pulses - first))
            return lambda wanted: codes[wanted - first]

        return _by_chunk(self.path, slots, slots // CHUNK, chunk)

    def totals(self) -> NDArray[np.int64]:
        return self.counted


class _Detected:
    """Strictly increasing pulse numbers as gaps, their codes, and the totals of all pulses."""

    def __init__(self, path: Path, header: PreparedHeader, fields: Fields) -> None:
        self.path, self.header = path, header
        gaps = fields.dataset("gaps", np.int64, None)
        self.n = gaps.shape[0]
        data = fields.dataset("codes", np.uint8, ((self.n * header.bits_per_code + 7) // 8,))
        counted = np.zeros(header.n_codes, dtype=np.int64)
        before: list[int] = []
        self.kept: list[tuple[NDArray[np.unsignedinteger], Codes]] = []
        n_kept, last = 0, -1
        for first in range(0, self.n, CHUNK):
            before.append(last)
            n = min(CHUNK, self.n - first)
            part, stored = gaps[first : first + n], self._stored(data, first, n)
            slots = fields.slots_from_gaps(part, last, header.n_pulses, first == 0)
            codes = unpack_codes(stored, header.bits_per_code, n)
            counted += fields.counted("codes", header, slots, codes)
            last = int(slots[-1])
            narrow = part.astype(np.min_scalar_type(int(part.max())))
            n_kept += narrow.nbytes + stored.nbytes
            if n_kept <= MOST_KEPT:
                self.kept.append((narrow, stored))
        self.before = np.array(before, dtype=np.int64)
        self.sent = fields.totals(header, counted)

    def _stored(self, data: h5py.Dataset, first: int, n: int) -> Codes:
        bits = self.header.bits_per_code
        stored: Codes = data[first * bits // 8 : ((first + n) * bits + 7) // 8]
        return stored

    def codes(self, slots: Slots) -> Codes:
        def chunk(data: h5py.File, number: int) -> Callable[[Slots], Codes]:
            if number < 0:
                return lambda wanted: np.full(wanted.size, NOT_HELD, dtype=np.uint8)
            if number < len(self.kept):
                gaps, stored = self.kept[number]
            else:
                first = number * CHUNK
                gaps = data["gaps"][first : first + CHUNK]
                stored = self._stored(data["codes"], first, gaps.size)
            held = np.cumsum(gaps, dtype=np.int64) + (self.before[number] if number else 0)
            codes = unpack_codes(stored, self.header.bits_per_code, gaps.size)
            return lambda wanted: lookup(held, codes, wanted, NOT_HELD)

        return _by_chunk(self.path, slots, np.searchsorted(self.before, slots) - 1, chunk)

    def totals(self) -> NDArray[np.int64]:
        return self.sent


class _Pattern:
    """A repeated pattern."""

    def __init__(self, header: PreparedHeader, fields: Fields) -> None:
        self.header = header
        self.pattern = fields.pattern(header)

    def codes(self, slots: Slots) -> Codes:
        return pattern_codes(self.header, self.pattern, slots)

    def totals(self) -> NDArray[np.int64]:
        return pattern_totals(self.header, self.pattern)


class _Seed:
    """States expanded from a seed by pulse number."""

    def __init__(self, header: PreparedHeader, fields: Fields) -> None:
        self.header = header
        self.seed = fields.bytes32("seed")

    def codes(self, slots: Slots) -> Codes:
        return seed_codes(self.header, self.seed, slots)

    def totals(self) -> NDArray[np.int64]:
        return seed_totals(self.header, self.seed)


def _by_chunk(
    path: Path,
    slots: Slots,
    numbers: NDArray[np.int64],
    chunk: Callable[[h5py.File, int], Callable[[Slots], Codes]],
) -> Codes:
    """Looks ``slots`` up chunk by chunk, each chunk of the file read once."""
    order = np.argsort(numbers, kind="stable") if count_backward(numbers) else None
    ordered = numbers if order is None else numbers[order]
    edges = [0, *(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist(), numbers.size]
    result = np.empty(slots.size, dtype=np.uint8)
    with open_record(path) as file:
        for a, b in pairwise(edges):
            where = slice(a, b) if order is None else order[a:b]
            result[where] = chunk(file, int(ordered[a]))(slots[where])
    return result


def read_prepared(path: Path | str) -> PreparedRecord:
    """Opens and checks a record; FormatError names the file and the field that is wrong."""
    path = Path(path)
    with open_record(path) as file:
        fields = Fields(path, file)
        header, mode = read_header(fields)
        states: _States
        match mode:
            case "full":
                states = _Full(path, header, fields)
            case "detected":
                states = _Detected(path, header, fields)
            case "pattern":
                states = _Pattern(header, fields)
            case "seed":
                states = _Seed(header, fields)
    return PreparedRecord(header, mode, states)
