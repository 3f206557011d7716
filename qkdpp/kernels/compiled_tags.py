# ruff: noqa: PLR0917 - the order of the arguments is the kernels'
"""The compiled kernels for time tags: thin calls into ``qkdpp.kernels._ck`` (contract: ``csrc/qk_api.h``).

Assumes what :mod:`qkdpp.kernels.tags` and the callers have checked: equal
lengths, int64 times, uint8 labels, sorted streams. Arrays must be
C-contiguous; the interpreter lock is released while a kernel runs.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import KernelError

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

PICOHARP, HYDRAHARP_1, HYDRAHARP_2 = range(3)
"""Families of T2 records; the last has overflow records with a count."""
N_LABELS: Final = 256
NO_LABEL: Final = 255
N_PATTERNS: Final = 32
N_DETECTORS: Final = 4
N_COUNTERS: Final = 5
MOST_ON_LINE: Final = 1536
"""Most pulses of one :func:`fit_line`."""
_T2_STATE: Final = 5


class DecodedT2(NamedTuple):
    """What one call of :func:`decode_t2` found.

    Tags written, words read, overflows so far, records without a meaning, and tags earlier than the tag before them in
    the same call.
    """

    n_tags: int
    n_read: int
    overflows: int
    meaningless: int
    backward: int


class FittedLine(NamedTuple):
    """What :func:`fit_line` found, in ticks and sync periods; ``kept`` is 0 if there is no line."""

    offset: float
    slope: float
    variance: float
    bend: float
    kept: int


class GateTables(NamedTuple):
    """Arrays of :class:`qkdpp.timing.gate_rules.GateRules` and its clock, in the order of ``struct qk_gate_rules``."""

    code: NDArray[np.int8]
    whole_ticks: Ints
    part_ticks: NDArray[np.float64]
    gap_start: Ints
    gap_end: Ints
    knot_ticks: Ints
    knot_slot: Ints
    knot_fraction: NDArray[np.float64]
    slots_per_tick: NDArray[np.float64]
    locked: NDArray[np.bool_]


class GateNumbers(NamedTuple):
    """The numbers of ``struct qk_gate_rules``."""

    stop_tick: int
    dead_ticks: int
    half_gate: float
    offset: float
    bins: int


class GateOutput(NamedTuple):
    """What the gate writes: slots, mask, leader and at with room for every tag, histogram [4, bins] and 5 counters."""

    slots: Ints
    mask: Bytes
    leader: Bytes
    at: Ints
    histogram: Ints
    counters: Ints


@cache
def _kernels() -> tuple[Any, Any, dict[str, Any]]:
    """Functions, pointer maker and pointer types by the name of the NumPy type, looked up once."""
    module = importlib.import_module("qkdpp.kernels._ck")
    names = {
        "<i8": "int64_t", "<u8": "uint64_t", "<f8": "double", "|u1": "uint8_t", "|i1": "int8_t", "|b1": "uint8_t",
        "<i4": "int32_t",
    }  # fmt: skip
    types = {numpy_name: module.ffi.typeof(f"{c_name}[]") for numpy_name, c_name in names.items()}
    return module.lib, module.ffi.from_buffer, types


def _at(array: NDArray[Any], *, out: bool = False) -> Any:  # noqa: ANN401 - a pointer of cffi
    _, from_buffer, types = _kernels()
    return from_buffer(types[array.dtype.str], array, require_writable=out)


def _ensure(status: int) -> None:
    if status:
        raise KernelError(f"a compiled kernel refused its arguments (status {status})")


def _fit(fine: bool) -> None:
    if not fine:
        raise KernelError("arrays of a compiled kernel for time tags do not belong together: their lengths differ")


def decode_t2(words: NDArray[np.uint32], overflows: int, wrap: int, family: int, time: Ints, ids: Bytes) -> DecodedT2:
    """Fills ``time`` and ``ids`` (equally long) from little-endian T2 records until either is at its end.

    Times are in ticks of the instrument, ``wrap`` ticks for each of the ``overflows`` counted so far; ids are those of
    ``docs/formats/picoquant.md``. KernelError for a family that is none of the three.
    A record that may give several tags (marker lines) is left for the next call where fewer than 4 places are left.
    """
    lib, from_buffer, types = _kernels()
    state = np.array([overflows, 0, 0, 0, 0], dtype=np.uint64)
    records = from_buffer(types["|u1"], words)
    _ensure(
        lib.qk_t2_decode(
            _at(time, out=True),
            _at(ids, out=True),
            min(time.size, ids.size),
            _at(state, out=True),
            records,
            words.size,
            wrap,
            family,
        )
    )
    after, n_tags, n_read, meaningless, backward = state.tolist()
    return DecodedT2(n_tags, n_read, after, meaningless, backward)


class DecodedWords(NamedTuple):
    """What one call of :func:`decode_words` found; ``counts`` (int64[32]): how often each of the lowest 5 bits came."""

    time: Ints
    ids: Bytes
    counts: Ints
    wraps: int
    last: int


def decode_words(words: NDArray[np.uint64], shift: int, table: Bytes, wraps: int, last: int) -> DecodedWords | None:
    """Times and labels of 64-bit words whose label (``table[word & 31]``) is not ``NO_LABEL``.

    ``wraps`` and ``last`` (time of the word before) are carried from call to call; None if the time passes 2^62.
    """
    _fit(table.size == N_PATTERNS)
    lib, from_buffer, types = _kernels()
    time, ids = np.empty(words.size, dtype=np.int64), np.empty(words.size, dtype=np.uint8)
    counts, state = np.zeros(N_PATTERNS, dtype=np.uint64), np.array([wraps, last, 0], dtype=np.uint64)
    status = lib.qk_words_decode(
        _at(time, out=True),
        _at(ids, out=True),
        _at(counts, out=True),
        _at(state, out=True),
        from_buffer(types["|u1"], words),
        words.size,
        shift,
        _at(table),
    )
    if status == lib.QK_NO_ROOM:
        return None
    _ensure(status)
    wraps, last, n = state.tolist()
    ids.resize(n, refcheck=False)
    return DecodedWords(_shrunk(time, n), ids, counts.view(np.int64), wraps, last)


def count_backward(ticks: Ints) -> int:
    """How many of the ticks are earlier than the one before them."""
    count = np.zeros(1, dtype=np.uint64)
    _ensure(_kernels()[0].qk_tags_backward(_at(count, out=True), _at(ticks), ticks.size))
    return int(count[0])


def relabel(labels: Bytes, table: Bytes) -> int:
    """``labels = table[labels]`` in place; returns the largest result (0 of none)."""
    largest = np.zeros(1, dtype=np.uint8)
    _ensure(_kernels()[0].qk_tags_relabel(_at(labels, out=True), labels.size, _at(largest, out=True), _at(table)))
    return int(largest[0])


def count_labels(labels: Bytes) -> Ints:
    """How often every label occurs, int64[256]."""
    counts = np.empty(N_LABELS, dtype=np.uint64)
    _ensure(_kernels()[0].qk_tags_count(_at(counts, out=True), _at(labels), labels.size))
    return counts.view(np.int64)


def match(a: Ints, b: Ints, half_window: int) -> tuple[Ints, Ints]:
    """Same arguments and same result as :func:`qkdpp.kernels.tags.match`."""
    lib = _kernels()[0]
    in_a, in_b = (np.empty(min(a.size, b.size) + lib.QK_MATCH_ROOM, dtype=np.int64) for _ in range(2))
    count = np.zeros(1, dtype=np.uint64)
    _ensure(
        lib.qk_tags_match(
            _at(in_a, out=True),
            _at(in_b, out=True),
            in_a.size,
            _at(count, out=True),
            _at(a),
            a.size,
            _at(b),
            b.size,
            half_window,
        )
    )
    n = int(count[0])
    return _shrunk(in_a, n), _shrunk(in_b, n)


def lookup(ticks: Ints, labels: Bytes, wanted: Ints, missing: int) -> Bytes:
    """Same arguments and same result as :func:`qkdpp.kernels.tags.lookup`."""
    found = np.empty(wanted.size, dtype=np.uint8)
    _ensure(
        _kernels()[0].qk_tags_lookup(
            _at(found, out=True), _at(wanted), wanted.size, _at(ticks), _at(labels), ticks.size, missing
        )
    )
    return found


def merge(ticks_a: Ints, labels_a: Bytes, ticks_b: Ints, labels_b: Bytes) -> tuple[Ints, Bytes]:
    """Two sorted streams as one; where times are equal, a comes first."""
    n = ticks_a.size + ticks_b.size
    ticks, labels = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.uint8)
    _ensure(
        _kernels()[0].qk_tags_merge(
            _at(ticks, out=True),
            _at(labels, out=True),
            _at(ticks_a),
            _at(labels_a),
            ticks_a.size,
            _at(ticks_b),
            _at(labels_b),
            ticks_b.size,
        )
    )
    return ticks, labels


def settle(ticks: Ints, labels: Bytes, most_moves: int) -> bool:
    """Sorts nearly sorted tags stably in place; False if that takes too many moves (a stable sort then finishes)."""
    lib = _kernels()[0]
    status = lib.qk_tags_settle(_at(ticks, out=True), _at(labels, out=True), ticks.size, most_moves)
    if status == lib.QK_NO_ROOM:
        return False
    _ensure(status)
    return True


def gate(
    ticks: Ints, channel: Bytes, tables: GateTables, numbers: GateNumbers, out: GateOutput, n_held: int
) -> int | None:
    """The gating pass over tags sorted by time: ticks int64[n] and channel indices uint8[n] to clicks in slots.

    Fills ``out``; returns the number of clicks written, None if more than ``n_held`` clicks had to wait for earlier
    ones (delays put them out of order): then nothing counts, and a larger ``n_held`` is due. KernelError for tables
    that do not fit. Rules: :mod:`qkdpp.timing.gate_portable`.
    """
    n = ticks.size
    _fit(channel.size == n <= min(array.size for array in out[:4]) and out.counters.size == N_COUNTERS)
    _fit(out.histogram.shape == (N_DETECTORS, numbers.bins))
    lib = _kernels()[0]
    rules, _alive = _rules(tables, numbers)
    held_ticks, held_channel = np.empty(n_held, dtype=np.int64), np.empty(n_held, dtype=np.uint8)
    found = np.zeros(1, dtype=np.uint64)
    status = lib.qk_gate(
        _at(found, out=True),
        *(_at(array, out=True) for array in out),
        _at(ticks),
        _at(channel),
        ticks.size,
        rules,
        _at(held_ticks, out=True),
        _at(held_channel, out=True),
        n_held,
    )
    if status == lib.QK_NO_ROOM:
        return None
    _ensure(status)
    return int(found[0])


def fold(
    counts: Ints,
    ticks: Ints,
    channel: Bytes,
    tables: GateTables,
    numbers: GateNumbers,
    rows: Ints,
    slices: tuple[int, int],
) -> None:
    """Adds arrivals within the slot to ``counts`` (int64[rows, bins]); ``slices``: start and length in ticks, or 0."""
    _fit(channel.size == ticks.size and rows.size == N_LABELS and counts.shape == (len(counts), numbers.bins))
    rules, _alive = _rules(tables, numbers)
    _ensure(
        _kernels()[0].qk_fold(
            _at(counts, out=True), counts.shape[0], _at(ticks), _at(channel), ticks.size, rules, _at(rows), *slices
        )
    )


def slots(ticks: Ints, channel: Bytes, tables: GateTables, numbers: GateNumbers) -> tuple[Ints, Bytes]:
    """Slots and channels of the clicks inside the gate, in the order of the tags."""
    _fit(channel.size == ticks.size)
    rules, _alive = _rules(tables, numbers)
    found, labels = np.empty(ticks.size, dtype=np.int64), np.empty(ticks.size, dtype=np.uint8)
    count = np.zeros(1, dtype=np.uint64)
    _ensure(
        _kernels()[0].qk_slots(
            _at(found, out=True),
            _at(labels, out=True),
            _at(count, out=True),
            _at(ticks),
            _at(channel),
            ticks.size,
            rules,
        )
    )
    n = int(count[0])
    labels.resize(n, refcheck=False)
    return _shrunk(found, n), labels


def correlate(total: NDArray[np.int32], at: Ints, row: Bytes, scores: NDArray[np.int8]) -> None:
    """``total[at + k] += scores[row, k]`` for every click, as far as ``total`` reaches; ``scores``: int8[4, length]."""
    _fit(at.size == row.size and len(scores) == N_DETECTORS)
    _ensure(
        _kernels()[0].qk_correlate(
            _at(total, out=True), total.size, _at(at), _at(row), at.size, _at(scores), scores.shape[1]
        )
    )


def fit_line(ticks: Ints, tick: int, period: float, least: float) -> FittedLine:
    """The robust line through at most ``MOST_ON_LINE`` sync pulses, as :mod:`qkdpp.timing.sync_line` defines it."""
    lib = _kernels()[0]
    line = importlib.import_module("qkdpp.kernels._ck").ffi.new("struct qk_line *")
    _ensure(lib.qk_line_fit(line, _at(ticks), ticks.size, tick, period, least))
    return FittedLine(line.offset, line.slope, line.variance, line.bend, line.kept)


def _rules(tables: GateTables, numbers: GateNumbers) -> tuple[Any, dict[str, NDArray[Any]]]:
    """``struct qk_gate_rules``, and the arrays that must live as long as it."""
    ffi = importlib.import_module("qkdpp.kernels._ck").ffi
    contiguous = {name: np.ascontiguousarray(table) for name, table in tables._asdict().items()}
    _fit(all(table.size == N_LABELS for table in tables[:3]) and tables.gap_start.size == tables.gap_end.size)
    _fit(len({table.size for table in tables[5:]}) == 1)
    fields = {name: _at(table) for name, table in contiguous.items()} | numbers._asdict()
    fields |= {"n_gaps": tables.gap_start.size, "n_knots": tables.knot_ticks.size}
    return ffi.new("struct qk_gate_rules *", fields), contiguous


def _shrunk(array: Ints, n: int) -> Ints:
    """The first n items; memory behind them goes back to the system."""
    array.resize(n, refcheck=False)
    return array
