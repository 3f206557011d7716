"""T3 recordings by pulse number: the hardware has numbered the pulses already.

The times of a T3 recording rest on a rounded sync period and drift; the pulse
number ``nsync`` and the time after the pulse ``dtime`` are exact. With a sync
divider above 1 it is not settled whether ``nsync`` counts divided pulses:
establish it on a known file first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import FormatError
from qkdpp.sources.batches import Tally
from qkdpp.sources.detect import detect_format
from qkdpp.sources.picoquant import TttrFile, decoded_records, read_ptu
from qkdpp.sources.picoquant_legacy import read_hydraharp, read_picoharp

_READERS = {"ptu": read_ptu, "ht3": read_hydraharp, "pt3": read_picoharp}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class T3Records:
    """T3 tags in file order.

    Attributes:
        nsync: int64[n], pulse number since the start of the recording.
        dtime: int32[n], time after the pulse in units of ``dtime_as`` (0 for markers).
        ids: uint8[n], channel ids as in ``picoquant_records.py``.
        dtime_as: attoseconds per ``dtime`` unit.
        period_as: attoseconds between pulses as the header states them (rounded).
    """

    nsync: NDArray[np.int64]
    dtime: NDArray[np.int32]
    ids: NDArray[np.uint8]
    dtime_as: int
    period_as: int


def t3_records(path: Path) -> Iterator[T3Records]:
    """Blocks of a T3 recording (PTU, .ht3 or .pt3) with the pulse number; FormatError for anything else."""
    kind = detect_format(path)
    part: TttrFile | None = _READERS[kind](path) if kind in _READERS else None
    if part is None or not part.layout.t3:
        raise FormatError(f"{path}: not a T3 recording, so it has no pulse numbers")
    for tags in decoded_records(part, Tally()):
        assert tags.dtime is not None
        yield T3Records(
            nsync=tags.time, dtime=tags.dtime, ids=tags.ids, dtime_as=part.tick_as, period_as=part.period_as
        )
