"""Tracking in a running epoch: which part of which block was measured at the setting that stands now.

Blocks end in the event loop; controllers are moved in the thread that reads the stream. A block is never spoilt by a
move: what lies before it counts for the setting before, and for the tracker only what lies well behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from qkdpp.core.tags import AS_PER_S
from qkdpp.node.figures import errors_since
from qkdpp.node.live_pulsed import PulsedBlocks
from qkdpp.node.sink import BlockEnd
from qkdpp.node.tracking import Tracking
from qkdpp.protocols.parameters import Parameters
from qkdpp.sifting.bb84 import Sifted
from qkdpp.timing.detect import Detections

SETTLE_S = 0.5
"""A move is done when it returns, but tags that were on their way may be so old."""


class Following:
    """One epoch of a receiver that tracks the polarisation.

    Args:
        tracking: of this epoch's calibration.
        parameters: public ones.
        epoch: blocks of others are left out.
        block_pulses: pulses of a block.
    """

    def __init__(self, tracking: Tracking, parameters: Parameters, *, epoch: int, block_pulses: int) -> None:
        self._tracking, self._parameters = tracking, parameters
        self._epoch, self._block_pulses = epoch, block_pulses
        self._ends: deque[BlockEnd] = deque()
        self._since = self._measured = 0

    def ended(self, end: BlockEnd) -> None:
        """A block has ended, with or without a key."""
        if end.log.facts.get("epoch") == self._epoch:
            self._ends.append(end)

    def go_on(self, blocks: PulsedBlocks, newest_tick: Callable[[], int]) -> None:
        """Takes what has ended, and moves controllers where that says so. DeviceError as they give."""
        while self._ends:
            if self._take(self._ends.popleft()):
                settled = newest_tick() + round(SETTLE_S * AS_PER_S / blocks.tick_as)
                self._since = blocks.pulse_of(settled)

    def home(self) -> None:
        """Ends the dither, for whoever works on from here."""
        self._tracking.home()

    def _take(self, end: BlockEnd) -> bool:
        facts = end.log.facts
        found, sifted, number = facts.get("detections"), facts.get("sifted"), facts.get("number")
        if not isinstance(found, Detections) or not isinstance(sifted, Sifted) or not isinstance(number, int):
            return False
        first, stop = number * self._block_pulses, (number + 1) * self._block_pulses
        if stop <= self._since:
            return False
        n, wrong = errors_since(found, sifted, self._parameters, self._since - first)
        source = self._parameters.source
        period_as = 0 if source is None else source.pulse_period_as
        seconds = (stop - self._measured) * period_as / AS_PER_S
        self._measured = stop
        return self._tracking.step(n, wrong, seconds)
