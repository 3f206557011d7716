"""Time tags: order, merging, coincidences, counts by label.

Times are int64 in any unit, labels (channels, detectors) uint8; all arrays are
one-dimensional, and of equal length where they belong together: KernelError
otherwise. With the compiled tier the work is done by ``csrc/tags*.c``; what
stands here in NumPy is the definition. Running times depend on times and labels.

Imported from :mod:`qkdpp.kernels.compiled_tags`, because their other forms lie in
the stages that use them: :func:`decode_t2` (also ``qkdpp.sources.picoquant_records``),
:func:`decode_words` (``sources.sfifteen``), :func:`gate` (``timing.gate_portable``),
:func:`fold` and :func:`slots` (``timing.fold``), :func:`correlate`
(``timing.string_search``). ImportError where nothing is compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import KernelError
from qkdpp.kernels import compiled_tags
from qkdpp.kernels.backend import backend
from qkdpp.kernels.compiled_tags import correlate, decode_t2, decode_words, fold, gate, slots

__all__ = [
    "correlate",
    "count_backward",
    "count_labels",
    "decode_t2",
    "decode_words",
    "fold",
    "gate",
    "lookup",
    "match",
    "merge",
    "relabel",
    "slots",
    "sort",
]

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

MOVES_PER_TAG: Final = 8
"""Moves by which nearly sorted tags may be put in order one by one; beyond that a full sort is faster."""


def _ticks(*arrays: Ints) -> None:
    if any(array.dtype != np.int64 or array.ndim != 1 for array in arrays):
        raise KernelError("times: need int64 of shape (n,)")


def _labels(*arrays: Bytes) -> None:
    if any(array.dtype != np.uint8 or array.ndim != 1 for array in arrays):
        raise KernelError("labels: need uint8 of shape (n,)")


def _tags(ticks: Ints, labels: Bytes) -> None:
    _ticks(ticks)
    _labels(labels)
    if ticks.size != labels.size:
        raise KernelError(f"{ticks.size} times have {labels.size} labels")


def count_backward(ticks: Ints) -> int:
    """How many of the ticks are earlier than the one before them."""
    _ticks(ticks)
    if backend() == "c":
        return compiled_tags.count_backward(np.ascontiguousarray(ticks))
    return int(np.count_nonzero(ticks[1:] < ticks[:-1]))


def count_labels(labels: Bytes) -> Ints:
    """How often every label occurs, int64[256]."""
    _labels(labels)
    if backend() == "c":
        return compiled_tags.count_labels(np.ascontiguousarray(labels))
    return np.bincount(labels, minlength=256)


def relabel(labels: Bytes, table: Bytes) -> int:
    """``labels = table[labels]`` in place (table: uint8[256]); returns the largest result, 0 of none."""
    _labels(labels, table)
    if table.size != 1 << 8:
        raise KernelError(f"a table of labels has 256 entries, not {table.size}")
    if backend() == "c":
        return compiled_tags.relabel(labels, np.ascontiguousarray(table))
    # Several times as fast as an index array, which NumPy would widen to 64 bits first.
    labels[:] = np.frombuffer(labels.tobytes().translate(table.tobytes()), dtype=np.uint8)
    return int(labels.max(initial=0))


def sort(ticks: Ints, labels: Bytes) -> tuple[Ints, Bytes]:
    """Tags in time order, equal times in the order they had; copies. Fastest where little is out of order."""
    _tags(ticks, labels)
    if backend() == "c":
        ticks, labels = ticks.copy(), labels.copy()
        if compiled_tags.settle(ticks, labels, MOVES_PER_TAG * ticks.size):
            return ticks, labels
    order: NDArray[np.intp] = np.argsort(ticks, kind="stable")
    return ticks[order], labels[order]


def merge(streams: Sequence[tuple[Ints, Bytes]]) -> tuple[Ints, Bytes]:
    """Sorted streams as one; equal times in the order of the streams."""
    for ticks, labels in streams:
        _tags(ticks, labels)
    if backend() != "c":
        empty = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint8))
        ticks, labels = (np.concatenate(column) for column in zip(empty, *streams, strict=True))
        order: NDArray[np.intp] = np.argsort(ticks, kind="stable")
        return ticks[order], labels[order]
    left = [(np.ascontiguousarray(ticks), np.ascontiguousarray(labels)) for ticks, labels in streams]
    while len(left) > 1:
        odd = left[len(left) & ~1 :]
        left = [compiled_tags.merge(*a, *b) for a, b in zip(left[::2], left[1::2], strict=False)] + odd
    return left[0] if left else (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint8))


def lookup(ticks: Ints, labels: Bytes, wanted: Ints, missing: int) -> Bytes:
    """Labels of the tags (sorted) at the times ``wanted``, ``missing`` (0 to 255) where there is none: uint8.

    Where several tags have one time it is the first. Fastest where the times wanted do not decrease.
    """
    _tags(ticks, labels)
    _ticks(wanted)
    if backend() == "c":
        ticks, labels, wanted = np.ascontiguousarray(ticks), np.ascontiguousarray(labels), np.ascontiguousarray(wanted)
        return compiled_tags.lookup(ticks, labels, wanted, missing)
    if not ticks.size:
        return np.full(wanted.size, missing, dtype=np.uint8)
    at = np.searchsorted(ticks, wanted).clip(max=ticks.size - 1)
    return np.where(ticks[at] == wanted, labels[at], np.uint8(missing))


def match(a: Ints, b: Ints, half_window: int) -> tuple[Ints, Ints]:
    """One-to-one coincidences: indices of the events of ``a`` and ``b`` (sorted) that are each other's nearest.

    Every event is used at most once; ``|a - b| <= half_window``; where two are equally far, the earlier one is the
    nearest. Both results increase, int64.
    """
    _ticks(a, b)
    if not a.size or not b.size or half_window < 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    if backend() == "c":
        return compiled_tags.match(np.ascontiguousarray(a), np.ascontiguousarray(b), half_window)
    to_b, to_a = _nearest(a, b), _nearest(b, a)
    ia = np.arange(a.size, dtype=np.int64)
    mutual = (to_a[to_b] == ia) & (np.abs(b[to_b] - a) <= half_window)
    return ia[mutual], to_b[mutual]


def _nearest(x: Ints, y: Ints) -> Ints:
    """For every ``x`` the index of the nearest ``y`` (sorted); the earlier one if two are equally far."""
    right = np.searchsorted(y, x).clip(max=y.size - 1)
    left = (right - 1).clip(min=0)
    return np.where(np.abs(x - y[left]) <= np.abs(y[right] - x), left, right).astype(np.int64)
