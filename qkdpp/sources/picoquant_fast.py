"""HydraHarp-family T2 records in one pass (Numba): the same tags as ``picoquant_records.py``, four times as fast.

For hosts without the compiled kernels. Blocks with several marker lines in one
record, or with records that mean nothing, are left to the NumPy decoder.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

UNUSUAL = -1
_MARKER_ID = 100


@njit(cache=True, nogil=True)
def decode_t2(  # noqa: PLR0917 - Numba passes arguments by position
    words: NDArray[np.uint32],
    overflows: int,
    wrap: int,
    counted: bool,
    time: NDArray[np.int64],
    ids: NDArray[np.uint8],
) -> tuple[int, int]:
    """Fills ``time`` and ``ids`` (as long as ``words``).

    Returns:
        Tags found (``UNUSUAL`` if the block needs the other decoder) and the overflow count after the block. The
        caller checks that this count times ``wrap`` fits 63 bits; if it does not, the times mean nothing.
    """
    n = 0
    base = overflows * wrap
    for i in range(words.size):
        word = words[i]
        field = (word >> 25) & 0x3F
        if word < 0x80000000:
            time[n] = base + (word & 0x1FFFFFF)
            ids[n] = field + 1
            n += 1
        elif field == 63:
            count = word & 0x1FFFFFF
            overflows += count if counted and count > 0 else 1
            base = overflows * wrap
        elif field in (0, 1, 2, 4, 8):
            time[n] = base + (word & 0x1FFFFFF)
            ids[n] = 0
            if field > 0:
                line = _MARKER_ID + 1
                while field > 1:
                    field >>= 1
                    line += 1
                ids[n] = line
            n += 1
        else:
            return UNUSUAL, overflows
    return n, overflows
