"""What format readers hand over, and the book-keeping of one pass over a recording.

A reader yields :class:`Batch` after batch in the order of the file; sorting,
cutting and the dense channel index happen behind it (``order.py``,
``recording.py``). Everything countable goes into one :class:`Tally`, whose
frozen form is the :class:`ReadStats` that users see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import FormatError, InputError

Metadata: TypeAlias = dict[str, str | int | float]
Options: TypeAlias = Mapping[str, str | int | bool]

BATCH_RECORDS = 1 << 17
"""Records decoded at once: bounds memory whatever the size of the file, and stays in the cache."""
CHUNK_TAGS = 1 << 20
"""Most tags in one chunk of a recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Tags in file order.

    Attributes:
        ticks: int64[n], native ticks.
        ids: integer[n] of any width, the instrument's channel numbers.
        lost: intervals ``(start, end)`` in ticks in which events were lost.
        in_order: the reader has seen that no tag is earlier than the one before it in the batch.
        room: places in front of the tags, in the arrays whose parts ``ticks`` and ``ids`` are, that nobody needs.
    """

    ticks: NDArray[np.int64]
    ids: NDArray[np.integer]
    lost: tuple[tuple[int, int], ...] = ()
    in_order: bool = False
    room: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadStats:
    """What one pass over a recording found.

    Attributes:
        tags: tags handed out.
        records: records read, of every kind (overflows and dummies included).
        dummies: keep-alive records, dropped.
        backward_steps: tags earlier than the tag before them in the file.
        worst_backward_ticks: the largest such step (positive).
        late_tags: tags dropped because they came back by more than the look-back.
        truncated_bytes: bytes of a cut last record.
        lost_intervals: intervals in which events were lost.
        lost_tags_reported: events the instrument says it lost.
        multi_bit_patterns: events on several inputs at once.
        warnings: sentences for the user.
    """

    tags: int = 0
    records: int = 0
    dummies: int = 0
    backward_steps: int = 0
    worst_backward_ticks: int = 0
    late_tags: int = 0
    truncated_bytes: int = 0
    lost_intervals: int = 0
    lost_tags_reported: int = 0
    multi_bit_patterns: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class Tally:
    """Mutable counterpart of :class:`ReadStats` during one pass.

    ``strict`` turns an incomplete file (cut record, count in the header that does not fit) into a FormatError;
    ``part`` is the file that is being read.
    """

    strict: bool = False
    part: Path | None = None
    tags: int = 0
    records: int = 0
    dummies: int = 0
    backward_steps: int = 0
    worst_backward_ticks: int = 0
    late_tags: int = 0
    truncated_bytes: int = 0
    lost_intervals: int = 0
    lost_tags_reported: int = 0
    multi_bit_patterns: int = 0
    warnings: list[str] = field(default_factory=list)

    def warn(self, message: str) -> None:
        """Adds a sentence for the user, once."""
        if message not in self.warnings:
            self.warnings.append(message)

    def incomplete(self, message: str, n_bytes: int = 0) -> None:
        """Books a file that lacks what it announces; raises FormatError when strict."""
        if self.strict:
            raise FormatError(message)
        self.truncated_bytes += n_bytes
        self.warn(message)

    def freeze(self) -> ReadStats:
        """The counts so far."""
        return ReadStats(
            tags=self.tags,
            records=self.records,
            dummies=self.dummies,
            backward_steps=self.backward_steps,
            worst_backward_ticks=self.worst_backward_ticks,
            late_tags=self.late_tags,
            truncated_bytes=self.truncated_bytes,
            lost_intervals=self.lost_intervals,
            lost_tags_reported=self.lost_tags_reported,
            multi_bit_patterns=self.multi_bit_patterns,
            warnings=tuple(self.warnings),
        )


Stream: TypeAlias = Callable[[Tally], Iterator[Batch]]
"""Starts one pass over a file (or over parts that follow each other)."""
Whole: TypeAlias = Callable[[Tally], Batch | None]
"""Reads all tags at once; None if they are not in time order or must be read in pieces for another reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked a reader to open: ``tick_as`` as declared (or None), options already checked by name."""

    paths: tuple[Path, ...]
    tick_as: int | None = None
    options: Options = field(default_factory=dict)

    def text(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        """A text option; InputError unless it is one of ``allowed``."""
        value = self.options.get(name, default)
        if value not in allowed:
            raise InputError(f"{self.paths[0]}: option {name} is {value!r}, allowed are {', '.join(allowed)}")
        return str(value)

    def flag(self, name: str, default: bool) -> bool:
        """A yes-or-no option; the words true/false, yes/no, 1/0 are understood."""
        value = self.options.get(name, default)
        known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        word = str(value).lower()
        if word not in known:
            raise InputError(f"{self.paths[0]}: option {name} is {value!r}, give true or false")
        return known[word]

    def whole(self, name: str) -> int | None:
        """A whole-number option, or None if it was not given."""
        value = self.options.get(name)
        if value is None:
            return None
        try:
            return int(value)
        except ValueError:
            raise InputError(f"{self.paths[0]}: option {name} is {value!r}, give a whole number") from None

    def fixed_tick(self, *allowed: int) -> int:
        """The tick of a format that fixes it: the declared one if it is ``allowed``, otherwise the first."""
        if self.tick_as is None:
            return allowed[0]
        if self.tick_as not in allowed:
            ticks = " or ".join(str(tick) for tick in allowed)
            raise InputError(f"{self.paths[0]}: the format's tick is {ticks} as, not tick_as={self.tick_as}")
        return self.tick_as

    def declared_tick(self) -> int:
        """The tick of a format that does not state it; InputError if the user did not either."""
        if self.tick_as is None:
            raise InputError(
                f"{self.paths[0]}: the file does not state its tick length; "
                "declare tick_as (--tick-as) in attoseconds, 1000000 for 1 ps"
            )
        return self.tick_as


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A recording whose header was read.

    Attributes:
        tick_as: attoseconds per tick.
        metadata: what the header says.
        streams: one pass each; several are merged by time.
        whole: a faster way to all tags of a file that is in order, where there is one.
        warnings: findings of the header.
        headerless: nothing in the file proves the declared kind, so its times are checked for plausibility.
    """

    tick_as: int
    streams: tuple[Stream, ...]
    metadata: Metadata = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    headerless: bool = False
    whole: Whole | None = None
