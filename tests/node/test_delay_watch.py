"""A delay that moves while keys are made: of one detector, of all at once, slowly, and not at all."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from qkdpp.core.tags import TimeTags
from qkdpp.node.delay_watch import DelayWatch
from qkdpp.node.live_pulsed import LiveBlock
from qkdpp.node.monitors import AlarmSettings, Level

CHANNELS = {1: 0, 2: 1, 3: 2, 4: 3}
NOTHING = TimeTags(
    ticks=np.empty(0, dtype=np.int64), channel=np.empty(0, dtype=np.uint8), channel_ids=(), tick_as=4_000_000
)


def watch(*, synchronous: bool = True) -> DelayWatch:
    settings = AlarmSettings()
    return DelayWatch(CHANNELS, pulse_period_as=1_600_000_000, synchronous=synchronous, settings=settings)


def block(delays_ps: tuple[float, ...], *, counts: int = 20_000, width_ps: float = 60.0) -> LiveBlock:
    """A block of 4 ps ticks whose detectors lie there; ``counts`` in a Gaussian peak each."""
    edges = np.linspace(-800.0, 800.0, 257)
    middle = (edges[:-1] + edges[1:]) / 2
    shape = np.exp(-0.5 * (middle / width_ps) ** 2)
    histogram = np.tile(np.rint(counts * shape / shape.sum()), (4, 1)).astype(np.int64)
    ticks = {channel: delays_ps[code] / 4.0 for channel, code in CHANNELS.items()}
    return LiveBlock(
        number=0,
        detections=SimpleNamespace(histogram_edges_ps=edges, histogram=histogram),  # type: ignore[arg-type]
        recovered=SimpleNamespace(delay_ticks=ticks),  # type: ignore[arg-type]
        tags=replace(NOTHING),
    )


FIRST = (120.0, -80.0, 40.0, -150.0)


def moved(*by: float) -> tuple[float, ...]:
    return tuple(a + b for a, b in zip(FIRST, by, strict=True))


def test_one_detector_that_moves_by_more_than_thirty_picoseconds_is_a_security_alarm() -> None:
    """20,000 counts over 60 ps are good to 0.4 ps; six of those, twice, lie below the 35 ps."""
    seen = watch()
    assert seen.see(block(FIRST), 10.0) == []
    assert seen.see(block(moved(0.0, 29.0, 0.0, -29.0)), 10.0) == []
    (alarm,) = seen.see(block(moved(0.0, 0.0, 35.0, 0.0)), 10.0)
    assert (alarm.name, alarm.level) == ("delay_moved", Level.SECURITY)
    assert "X0" in alarm.message


def test_slow_and_steady_moves_of_one_detector_add_up() -> None:
    seen = watch()
    found = [seen.see(block(moved(0.5 * n, 0.0, 0.0, 0.0)), 10.0) for n in range(100)]
    assert not any(found[:60])
    assert all(found[75:])


@pytest.mark.parametrize(("synchronous", "alarms"), [(True, 1), (False, 0)])
def test_all_detectors_at_once_move_against_the_sync_pulses_only(*, synchronous: bool, alarms: int) -> None:
    seen = watch(synchronous=synchronous)
    seen.see(block(FIRST), 10.0)
    assert len(seen.see(block(moved(40.0, 40.0, 40.0, 40.0)), 10.0)) == alarms


def test_a_fibre_that_warms_up_is_followed() -> None:
    seen = watch()
    for n in range(200):
        assert seen.see(block(moved(*[0.8 * n] * 4)), 10.0) == []


def test_few_counts_and_whole_pulse_periods_raise_nothing() -> None:
    seen = watch()
    seen.see(block(FIRST), 10.0)
    assert seen.see(block(moved(45.0, 0.0, 0.0, 0.0), counts=200), 10.0) == []
    assert seen.see(block(moved(1600.0, -1600.0, 3200.0, 0.0)), 10.0) == []


def test_a_block_in_which_a_detector_is_silent_is_not_judged() -> None:
    seen, silent = watch(), block(FIRST)
    del silent.recovered.delay_ticks[2]  # type: ignore[attr-defined]
    assert seen.see(silent, 10.0) == []
    assert seen.see(block(FIRST), 10.0) == []
    assert seen.see(block(moved(50.0, 0.0, 0.0, 0.0)), 10.0)
