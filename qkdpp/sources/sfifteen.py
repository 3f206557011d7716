"""S-Fifteen (CQT) event words: timestamp cards in four encodings, and the TDC1 counter.

A 64-bit word: bits 63..10 time in 1/256 ns (older cards: 63..15 in 125 ps),
bit 4 dummy event, bits 3..0 detector pattern. Input ``b`` (pattern bit ``b``)
is channel ``b + 1``. An event on several inputs follows the declared rule
``patterns``: ``random`` (default: one of them, drawn from the operating
system's randomness, the same in every pass over an opened recording), ``drop``,
or ``keep`` (channel ``100 + pattern``). Times wrap and are unrolled; dummies
never leave this module. Format page: ``docs/formats/sfifteen.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.entropy import SEED_BYTES, OsEntropy, expand
from qkdpp.core.errors import FormatError
from qkdpp.core.tags import TimeTags
from qkdpp.kernels.backend import backend
from qkdpp.kernels.compiled_tags import NO_LABEL, DecodedWords, decode_words
from qkdpp.kernels.tags import count_labels
from qkdpp.sources.batches import Batch, Metadata, Opened, Request, Tally
from qkdpp.sources.blocks import open_file, record_blocks, whole_records
from qkdpp.sources.detect import refuse_known
from qkdpp.sources.number_text import hex_words
from qkdpp.sources.writing import channels_within, fixed_ticks, new_file, same_stream

TICK_AS = 3_906_250
"""1/256 ns."""
OLD_TICK_AS = 125_000_000
"""125 ps, the 49-bit cards."""
TDC1_TICK_AS = 2_000_000_000
PATTERN_ID = 100
_DUMMY = 0x10
_MULTI = np.bitwise_count(np.arange(_DUMMY, dtype=np.uint8)) > 1
"""Which patterns name several inputs."""
_UNDRAWN = 254
"""Stands for an input that is still to be drawn."""
_TDC1_BITS = 27
_MAX_EMPTY_SHARE = 0.005

Words = NDArray[np.uint64]
WordStream = Callable[[Tally], Iterator[Words]]


class Patterns:
    """The declared rule for detector patterns: 4-bit patterns to channel ids."""

    def __init__(self, request: Request) -> None:
        self.rule = request.text("patterns", "random", ("random", "drop", "keep"))
        patterns = np.arange(_DUMMY, dtype=np.uint8)
        self.table = np.full(2 * _DUMMY, NO_LABEL, dtype=np.uint8)
        """Channel id by the lowest five bits of a word; NO_LABEL leaves it out."""
        self.table[1:_DUMMY] = np.bitwise_count(patterns[1:] - np.uint8(1)) + np.uint8(1)
        multi = {
            "random": np.uint8(_UNDRAWN),
            "drop": np.uint8(NO_LABEL),
            "keep": patterns[_MULTI] + np.uint8(PATTERN_ID),
        }
        self.table[:_DUMMY][_MULTI] = multi[self.rule]
        self._seed = OsEntropy().bytes(SEED_BYTES)
        self._name = str(request.paths[0])

    def channels(
        self, words: NDArray[np.unsignedinteger], position: int, tally: Tally
    ) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
        """Which events stay, and the channel id of each of those.

        Args:
            words: unsigned[n], event words; dummy flag and inputs are the lowest five bits.
            position: number of the first event in the recording (addresses the random draws).
            tally: takes dummies and multi-bit patterns.
        """
        pattern = _pattern(words)
        counts = count_labels(pattern)
        self.book(counts, tally)
        ids = self.table[pattern]
        kept = ids != NO_LABEL
        return kept, self.settled(ids[kept], counts, words, position)

    def book(self, counts: NDArray[np.int64], tally: Tally) -> None:
        """Books what ``counts`` (by the lowest five bits) says; FormatError if too many events name no input."""
        n, empty = int(counts.sum()), int(counts[0])
        if empty > _MAX_EMPTY_SHARE * n:
            raise FormatError(
                f"{self._name}: {empty} of {n} events name no detector: "
                "the file is not what it was declared to be, check format and options"
            )
        if empty:
            tally.warn(f"{self._name}: events without a detector were skipped")
        tally.dummies += int(counts[_DUMMY : 2 * _DUMMY].sum())
        tally.multi_bit_patterns += int(counts[:_DUMMY][_MULTI].sum())

    def settled(
        self, ids: NDArray[np.uint8], counts: NDArray[np.int64], words: NDArray[np.unsignedinteger], position: int
    ) -> NDArray[np.uint8]:
        """``ids`` of those of the words that stay, with the inputs drawn that are to be drawn."""
        if self.rule == "random" and counts[:_DUMMY][_MULTI].any():
            pattern = _pattern(words)
            at = np.flatnonzero(self.table[pattern] == _UNDRAWN)
            ids[ids == _UNDRAWN] = self._drawn(pattern, at, position)
        return ids

    def _drawn(self, pattern: NDArray[np.uint8], at: NDArray[np.intp], position: int) -> NDArray[np.uint8]:
        """One set bit of every pattern: the one at ``floor(u * count / 2^32)`` with u uniform in 32 bits."""
        stream = expand(self._seed, "detector patterns", 4 * pattern.size, 4 * position)
        draw = np.frombuffer(stream, dtype="<u4")[at].astype(np.uint64)
        chosen = pattern[at]
        skip = (draw * np.bitwise_count(chosen)) >> np.uint64(32)
        ids = np.zeros(at.size, dtype=np.uint8)
        for bit in range(4):
            is_set = (chosen >> np.uint8(bit)) & 1 == 1
            ids[is_set & (skip == 0) & (ids == 0)] = bit + 1
            skip = np.where(is_set & (skip > 0), skip - np.uint64(1), skip)
        return ids


class Unroller:
    """Continues a wrapping time; a jump by more than half the range is a wrap (or a late event from before it)."""

    def __init__(self, span: int, name: str) -> None:
        self._span = span
        self._name = name
        self._wraps = 0
        self._last: int | None = None

    def unroll(self, time: NDArray[np.int64]) -> NDArray[np.int64]:
        """Times of one block, int64[n]."""
        if not time.size:
            return time
        steps = np.diff(time, prepend=time[0] if self._last is None else np.int64(self._last))
        self._last = int(time[-1])
        half = self._span // 2
        jumps = np.flatnonzero((steps < -half) | (steps > half))
        if not jumps.size:
            return time + np.int64(self._wraps * self._span)
        wraps = np.zeros(time.size, dtype=np.int64)
        count = self._wraps
        for at in jumps.tolist():
            change = 1 if steps[at] < 0 else -min(count, 1)
            count += change
            wraps[at] = change
            if count * self._span >= 1 << 62:
                raise self._endless()
        total = np.cumsum(wraps) + self._wraps
        self._wraps = count
        return time + total * np.int64(self._span)

    def decode(self, words: Words, shift: int, table: NDArray[np.uint8]) -> DecodedWords:
        """Times (``words >> shift``) and labels of one block by the compiled kernel."""
        last = self._last
        if last is None:
            last = int(words[0]) >> shift if words.size else 0
        found = decode_words(np.ascontiguousarray(words), shift, table, self._wraps, last)
        if found is None:
            raise self._endless()
        self._wraps, self._last = found.wraps, found.last
        return found

    def _endless(self) -> FormatError:
        return FormatError(f"{self._name}: the time wraps again and again; is the format right?")


def open_a1(request: Request) -> Opened:
    """Opens ``-a1``: 64-bit little-endian words."""
    return _open_binary(request, np.dtype("<u8"), lambda words: words)


def open_a1x(request: Request) -> Opened:
    """Opens ``-a1 -X``: pairs of 32-bit little-endian words, high word first."""
    return _open_binary(request, np.dtype([("high", "<u4"), ("low", "<u4")]), joined)


def joined(pairs: NDArray[np.void]) -> Words:
    """64-bit words of records with the fields ``high`` and ``low``."""
    words: Words = (pairs["high"].astype(np.uint64) << np.uint64(32)) | pairs["low"].astype(np.uint64)
    return words


def _open_binary(
    request: Request, dtype: np.dtype[np.void] | np.dtype[np.uint64], join: Callable[..., Words]
) -> Opened:
    for path in request.paths:
        whole_records(path, dtype.itemsize)
        refuse_known(path)

    def words(tally: Tally) -> Iterator[Words]:
        for path in request.paths:
            for block in record_blocks(path, dtype, tally):
                yield join(block)

    return _opened(request, words)


def open_a0(request: Request) -> Opened:
    """Opens ``-a0``: two lines of eight hexadecimal digits per event, low word first."""
    return _open_hex(request, 8)


def open_a2(request: Request) -> Opened:
    """Opens ``-a2``: one line of sixteen hexadecimal digits per event."""
    return _open_hex(request, 16)


def _open_hex(request: Request, width: int) -> Opened:
    def words(tally: Tally) -> Iterator[Words]:
        for path in request.paths:
            with open_file(path) as file:
                blocks = hex_words(file, path, width, tally)
                for block in blocks if width == 16 else _paired(blocks, path, tally):
                    tally.records += block.size
                    yield block

    return _opened(request, words)


def _paired(halves: Iterator[Words], path: Path, tally: Tally) -> Iterator[Words]:
    """Words of alternating low and high halves."""
    carried = np.empty(0, dtype=np.uint64)
    for block in halves:
        both = np.concatenate([carried, block])
        n = both.size & ~1
        yield (both[1:n:2] << np.uint64(32)) | both[0:n:2]
        carried = both[n:]
    if carried.size:
        tally.incomplete(f"{path}: the last event lacks its second line", 9)


def _opened(request: Request, words: WordStream) -> Opened:
    tick_as = request.fixed_tick(TICK_AS, OLD_TICK_AS)
    shift = 10 if tick_as == TICK_AS else 15
    patterns = Patterns(request)
    name = str(request.paths[0])

    def stream(tally: Tally) -> Iterator[Batch]:
        unroller = Unroller(1 << (64 - shift), name)
        position = 0
        for block in words(tally):
            yield _decoded(block, shift, (unroller, patterns), position, tally)
            position += block.size

    metadata: Metadata = {"patterns": patterns.rule}
    return Opened(tick_as=tick_as, metadata=metadata, streams=(stream,), headerless=True)


def _decoded(words: Words, shift: int, state: tuple[Unroller, Patterns], position: int, tally: Tally) -> Batch:
    """Tags of a block of words."""
    unroller, patterns = state
    if backend() == "c":
        found = unroller.decode(words, shift, patterns.table)
        patterns.book(found.counts, tally)
        return Batch(ticks=found.time, ids=patterns.settled(found.ids, found.counts, words, position))
    time = unroller.unroll((words >> np.uint64(shift)).astype(np.int64))
    kept, ids = patterns.channels(words, position, tally)
    return Batch(ticks=time[kept], ids=ids)


def _pattern(words: NDArray[np.unsignedinteger]) -> NDArray[np.uint8]:
    """The lowest five bits of event words: dummy flag and detector pattern."""
    return words.astype(np.uint8) & np.uint8(2 * _DUMMY - 1)


def open_tdc1(request: Request) -> Opened:
    """Opens TDC1: 32-bit words, 27 bits of time in 2 ns; any decrease of the time is one wrap."""
    for path in request.paths:
        whole_records(path, 4)
        refuse_known(path)
    tick_as = request.fixed_tick(TDC1_TICK_AS)
    patterns = Patterns(request)

    def stream(tally: Tally) -> Iterator[Batch]:
        wraps, last, position = 0, 0, 0
        for path in request.paths:
            for words in record_blocks(path, np.dtype("<u4"), tally):
                time = (words >> np.uint32(5)).astype(np.int64)
                count = np.cumsum(np.diff(time, prepend=np.int64(last)) < 0) + wraps
                wraps, last = int(count[-1]), int(time[-1])
                kept, ids = patterns.channels(words, position, tally)
                position += words.size
                yield Batch(ticks=(time + (count << _TDC1_BITS))[kept], ids=ids)

    metadata: Metadata = {"patterns": patterns.rule}
    return Opened(tick_as=tick_as, metadata=metadata, streams=(stream,), headerless=True)


def write_a1(path: Path, chunks: Iterable[TimeTags], metadata: Metadata) -> int:
    """Writes ``-a1`` words, times rounded to 1/256 ns, channels 1 to 4; metadata and lost intervals are not kept."""
    n_tags = 0
    with new_file(path) as file:
        for tags in same_stream(path, chunks):
            time = fixed_ticks(path, tags, TICK_AS, 1 << 54)
            pattern = np.int64(1) << (channels_within(path, tags, 1, 4) - 1)
            n_tags += _write_words(file, time, pattern)
    return n_tags


def _write_words(file: BinaryIO, time: NDArray[np.int64], pattern: NDArray[np.int64]) -> int:
    words = (time.astype("<u8") << np.uint64(10)) | pattern.astype("<u8")
    file.write(words.tobytes())
    return int(words.size)
