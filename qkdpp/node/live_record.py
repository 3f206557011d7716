"""Alice's record of one live block: the states of a range of pulses, asked of her transmitter when they are needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.devices import Transmitter
from qkdpp.core.errors import DeviceError
from qkdpp.core.sync_string import SyncString
from qkdpp.sources.prepared_states import NOT_HELD


class LiveRecord:
    """Pulses ``first`` to ``first + n_pulses`` of an epoch; slots count from ``first``. Fulfils ``PreparedStates``.

    A transmitter that fails, or no longer holds the epoch, ends the block (Abort INSTRUMENT_FAILED).
    What was asked is kept: ``asked`` (slots), ``codes`` and ``totals_asked``, for a recording of the block. Secret.
    """

    test_mode = False

    def __init__(
        self,
        transmitter: Transmitter,
        *,
        epoch: int,
        first: int,
        n_pulses: int,
        n_codes: int,
        string: SyncString | None,
    ) -> None:
        if string is not None and first % string.frame:
            raise ValueError("a block begins with a frame of the synchronisation string")
        self._transmitter, self._epoch, self._first, self._n_codes = transmitter, epoch, first, n_codes
        self.n_pulses, self.sync_string = n_pulses, string
        self.asked = np.empty(0, dtype=np.int64)
        self.codes = np.empty(0, dtype=np.uint8)
        self.totals_asked: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    @property
    def complete(self) -> bool:
        """Whether all was asked of the transmitter that the block needs."""
        return bool(self.asked.size and self.totals_asked.size)

    def __repr__(self) -> str:
        return f"LiveRecord(epoch={self._epoch}, first={self._first}, n_pulses={self.n_pulses})"

    def lookup(self, slots: NDArray[np.int64]) -> NDArray[np.uint8]:
        """State codes of slots (int64[n]) as uint8[n]; 255 outside the block and where the unit holds none."""
        codes = np.full(slots.size, NOT_HELD, dtype=np.uint8)
        inside = (slots >= 0) & (slots < self.n_pulses)
        if inside.any():
            try:
                codes[inside] = self._transmitter.lookup(self._epoch, slots[inside] + self._first)
            except DeviceError as error:
                raise Abort(AbortReason.INSTRUMENT_FAILED, transmitter=str(error)) from error
        self.asked, self.codes = slots, codes
        return codes

    def totals(self) -> NDArray[np.int64]:
        """Pulses sent by (intensity, basis, bit), int64[K, 2, 2], pulses of the string left out."""
        if not self.totals_asked.size:
            try:
                flat = self._transmitter.totals(self._epoch, self._first, self.n_pulses, self._n_codes)
            except DeviceError as error:
                raise Abort(AbortReason.INSTRUMENT_FAILED, transmitter=str(error)) from error
            self.totals_asked = flat.reshape(-1, 2, 2)
        return self.totals_asked.copy()
