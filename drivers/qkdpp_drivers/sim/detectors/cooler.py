"""A cold head that nears its set point exponentially."""

from __future__ import annotations

import math
from collections.abc import Callable


class Cooler:
    """First-order temperature.

    Args:
        clock: seconds.
        start_c: temperature at power-up, degrees Celsius.
        time_constant_s: after this time the distance to the target has fallen to 1/e.
    """

    def __init__(self, clock: Callable[[], float], *, start_c: float, time_constant_s: float) -> None:
        self._clock = clock
        self._time_constant_s = time_constant_s
        self._since_s = clock()
        self._start_c = start_c
        self.target_c = start_c
        self.stuck = False

    def temperature_c(self) -> float:
        """Temperature now, degrees Celsius."""
        now = self._clock()
        if not self.stuck:
            fade = math.exp(-(now - self._since_s) / self._time_constant_s)
            self._start_c = self.target_c + (self._start_c - self.target_c) * fade
        self._since_s = now
        return self._start_c

    def aim(self, target_c: float) -> None:
        """From now on near ``target_c``."""
        self.temperature_c()
        self.target_c = target_c
