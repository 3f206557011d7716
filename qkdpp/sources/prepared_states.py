"""States of prepared pulses that follow from a rule, and the packing of state codes.

A state code is ``intensity << 2 | basis << 1 | bit`` (uint8); 255 marks a pulse that a record does not hold.
Everything here is pure and addressed by pulse number: any pulse can be reached without those before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.entropy import expand_blocks
from qkdpp.core.sync_string import SyncString

Codes = NDArray[np.uint8]
Slots = NDArray[np.int64]

NOT_HELD = 255
CHUNK = 1 << 18
"""Pulses handled at once."""
STATE_LABEL = "prepared states"
"""Name of the public stream that the seed mode expands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedHeader:
    """What a record says about the source.

    Attributes:
        n_pulses: pulses sent; numbers run from 0 to ``n_pulses - 1``.
        pulse_period_as: attoseconds from pulse to pulse.
        intensities: mean photon numbers, signal first; ``p_intensity``: their probabilities.
        p_z: probability that Alice prepares basis Z; her bit is uniform.
        sync_string: the public string that replaces the states of some pulses, or None.
    """

    n_pulses: int
    pulse_period_as: int
    intensities: tuple[float, ...]
    p_intensity: tuple[float, ...]
    p_z: float
    sync_string: SyncString | None = None

    @property
    def n_codes(self) -> int:
        """State codes run from 0 to ``n_codes - 1``."""
        return 4 * len(self.intensities)

    @property
    def bits_per_code(self) -> int:
        """4 if a code fits into half a byte, else 8."""
        return 4 if self.n_codes <= 16 else 8

    def string_pulses(self, n: int) -> int:
        """How many of the first ``n`` pulses belong to the public string."""
        if self.sync_string is None:
            return 0
        frame, length = self.sync_string.frame, self.sync_string.length
        return n // frame * length + min(n % frame, length)


def in_string(header: PreparedHeader, slots: Slots) -> NDArray[np.bool_]:
    """Which pulses belong to the public string."""
    return np.zeros(slots.size, dtype=np.bool_) if header.sync_string is None else header.sync_string.mask(slots)


def overlay_string(header: PreparedHeader, slots: Slots, codes: Codes) -> Codes:
    """``codes`` with the pulses of the public string set to its states at signal intensity."""
    if header.sync_string is None:
        return codes
    mask = header.sync_string.mask(slots)
    result = codes.copy()
    result[mask] = header.sync_string.states(slots[mask])
    return result


def seed_codes(header: PreparedHeader, seed: bytes, slots: Slots) -> Codes:
    """State codes of the seed mode (``docs/formats/prepared.md``) for pulse numbers ``slots``."""
    blocks = expand_blocks(seed, STATE_LABEL, slots)
    bit = (blocks[:, 0] & np.uint64(1)).astype(np.uint8)
    basis = ((blocks[:, 0] >> np.uint64(32)) >= np.uint64(round(header.p_z * 2**32))).astype(np.uint8)
    cumulated = [round(math.fsum(header.p_intensity[: j + 1]) * 2**32) for j in range(len(header.p_intensity) - 1)]
    thresholds = np.array(cumulated, dtype=np.uint64)
    intensity = np.searchsorted(thresholds, blocks[:, 1] >> np.uint64(32), side="right").astype(np.uint8)
    return overlay_string(header, slots, (intensity << 2 | basis << 1 | bit).astype(np.uint8))


def pattern_codes(header: PreparedHeader, pattern: Codes, slots: Slots) -> Codes:
    """State codes of a repeated pattern."""
    return overlay_string(header, slots, pattern[slots % pattern.size])


def count_codes(header: PreparedHeader, slots: Slots, codes: Codes) -> NDArray[np.int64]:
    """Pulses by code (int64[4 K]); those of the public string are not counted."""
    return np.bincount(codes[~in_string(header, slots)], minlength=header.n_codes).astype(np.int64)


def seed_totals(header: PreparedHeader, seed: bytes) -> NDArray[np.int64]:
    """Pulses by code in seed mode; expands every pulse (some 20 million a second)."""
    total = np.zeros(header.n_codes, dtype=np.int64)
    for slots in slot_chunks(header.n_pulses):
        total += count_codes(header, slots, seed_codes(header, seed, slots))
    return total


def pattern_totals(header: PreparedHeader, pattern: Codes) -> NDArray[np.int64]:
    """Pulses by code for a repeated pattern, without visiting every pulse."""
    size, n = pattern.size, header.n_pulses
    per_position = n // size + (np.arange(size) < n % size).astype(np.int64)
    if header.sync_string is not None:
        per_position -= _string_pulses_by_position(header.sync_string, n, size)
    total = np.zeros(header.n_codes, dtype=np.int64)
    np.add.at(total, pattern, per_position)
    return total


def _string_pulses_by_position(string: SyncString, n: int, size: int) -> NDArray[np.int64]:
    """String pulses among the first ``n`` by their number modulo ``size``: frames start at few distinct positions."""
    frames, rest = divmod(n, string.frame)
    cycle = size // math.gcd(size, string.frame)
    start = np.array([f * string.frame % size for f in range(min(cycle, frames))], dtype=np.int64)
    times = frames // cycle + (np.arange(start.size) < frames % cycle).astype(np.int64)
    windows = [(start, times, string.length)]
    if rest:
        last = np.array([frames * string.frame % size], dtype=np.int64)
        windows.append((last, np.ones(1, dtype=np.int64), min(rest, string.length)))
    step = np.zeros(2 * size + 1, dtype=np.int64)
    whole = 0
    for first, weight, length in windows:
        whole += int(weight.sum()) * (length // size)
        np.add.at(step, first, weight)
        np.add.at(step, first + length % size, -weight)
    unrolled = np.cumsum(step)[:-1]
    return np.asarray(unrolled[:size] + unrolled[size:] + whole)


def slot_chunks(n: int) -> Iterator[Slots]:
    """Consecutive runs of the numbers 0 to ``n - 1``."""
    for start in range(0, n, CHUNK):
        yield np.arange(start, min(start + CHUNK, n), dtype=np.int64)


def pack_codes(codes: Codes, bits_per_code: int) -> NDArray[np.uint8]:
    """Codes as stored: one a byte, or two a byte with the earlier pulse in the low half."""
    if bits_per_code == 8:
        return codes
    padded = np.zeros((codes.size + 1) & ~1, dtype=np.uint8)
    padded[: codes.size] = codes
    return np.asarray(padded[0::2] | padded[1::2] << 4)


def unpack_codes(stored: NDArray[np.uint8], bits_per_code: int, n: int) -> Codes:
    """The ``n`` codes in ``stored``."""
    if bits_per_code == 8:
        return stored[:n]
    codes = np.empty(2 * stored.size, dtype=np.uint8)
    codes[0::2] = stored & 15
    codes[1::2] = stored >> 4
    return codes[:n]
