"""Calibration loops on the simulated laboratory: what they find against what is true there."""

from pathlib import Path

import numpy as np
import pytest
from laboratory import DETECTORS, Bench, Squeezers, bench, gate_distance

from qkdpp.core.devices import Chunk
from qkdpp.core.errors import DeviceError
from qkdpp.core.tags import TimeTags
from qkdpp.node.calibrate.counting import Counting
from qkdpp.node.calibrate.delay_scan import DelayScanSettings, scan_delays
from qkdpp.node.calibrate.plots import plot_delay_scan, plot_polarisation, plot_synchronisation
from qkdpp.node.calibrate.polarisation import PolarisationSettings, extinction, feed_back
from qkdpp.node.calibrate.synchronisation import SynchronisationSettings, find_delays, synchronise


def counting(made: Bench) -> Counting:
    return Counting(made, DETECTORS, made.now)


def controllers(made: Bench) -> tuple[Squeezers, Squeezers]:
    first, second = made.world.knobs.controllers
    return Squeezers(first), Squeezers(second)


def test_the_delay_scan_finds_every_gate_and_leaves_it_there(tmp_path: Path) -> None:
    made = bench(4)
    for detector in made.world.knobs.detectors:
        detector.gate_delay_ps = 0.0
    shares = []
    found = scan_delays(made, counting(made), made, DelayScanSettings(dwell_s=0.04), shares.append)
    assert found.ok
    assert gate_distance(made.world, found.best_ps).max() <= 37.5
    assert [d.gate_delay_ps for d in made.world.knobs.detectors] == list(found.best_ps)
    assert found.counts.shape == (4, 64)
    assert shares[-1] == 1.0
    plot_delay_scan(found, tmp_path / "delays.svg")
    assert "Z0" in (tmp_path / "delays.svg").read_text()


def test_a_dead_detector_fails_the_scan_and_is_named() -> None:
    made = bench(4)
    made.world.knobs.detectors[2].enabled = False
    found = scan_delays(made, counting(made), made, DelayScanSettings(step_ps=50.0, dwell_s=0.04))
    assert found.failed == (2,)


@pytest.mark.parametrize("seed", [3, 8])
def test_polarisation_feedback_reaches_a_hundred_to_one(seed: int, tmp_path: Path) -> None:
    made = bench(seed)
    found = feed_back(controllers(made), counting(made), made, PolarisationSettings())
    assert found.ok
    table = {}
    for state, right in (("H", 0), ("V", 1), ("D", 2), ("A", 3)):
        made.send(state)
        counts = counting(made).counts(0.3) - np.array(found.dark_hz) * 0.3
        table[state] = extinction(counts[right], counts[right ^ 1])
    assert min(table.values()) > 85.0
    plot_polarisation(found, tmp_path / "polarisation.svg")
    assert "rectilinear" in (tmp_path / "polarisation.svg").read_text()


def test_a_contrast_out_of_reach_is_reported_and_was_repeated() -> None:
    made = bench(3, misalignment=0.05)
    settings = PolarisationSettings(most_counts=30, tries=2, dwell_s=0.02)
    found = feed_back(controllers(made), counting(made), made, settings)
    assert not found.ok
    assert [one.basis for one in found.tries] == [0, 0, 1, 1]
    assert all(not one.ok for one in found.tries)


def test_the_middle_of_a_maximum_is_finer_than_a_step_and_repeats() -> None:
    """A security alarm stands on it: no move may be seen where nothing moved (30 ps in Chen et al. 2021)."""
    made = bench()
    settings = DelayScanSettings(step_ps=50.0, dwell_s=0.04)
    found = [scan_delays(made, counting(made), made, settings).centre_ps for _ in range(3)]
    for centres in found:
        assert gate_distance(made.world, tuple(centres)).max() < 15.0


def test_synchronisation_finds_the_delays_of_detectors_and_of_their_cables(tmp_path: Path) -> None:
    made = bench(5)
    settings = SynchronisationSettings(dwell_s=0.5)
    found = synchronise(counting(made), made, sync_channel=5, sync_period_ps=1e7, settings=settings)
    assert found.ok
    true = np.array(made.world.plan.bob.receiver.delays_ps)
    off = np.array(found.delay_ps) - true
    off -= 1e7 * np.rint(off / 1e7)
    assert np.abs(off).max() <= 2 * 90.0
    plot_synchronisation(found, tmp_path / "synchronisation.svg")
    assert "X1" in (tmp_path / "synchronisation.svg").read_text()


def test_synchronisation_of_known_times() -> None:
    sync = np.arange(100) * 10_000_000
    clicks = sync[:50] + 1234
    ticks = np.concatenate([sync, clicks])
    channel = np.repeat(np.array([1, 0], dtype=np.uint8), [100, 50])
    order = np.argsort(ticks, kind="stable")
    tags = TimeTags(ticks=ticks[order], channel=channel[order], channel_ids=(7, 9), tick_as=1_000_000)
    found = find_delays(tags, {7: 1}, sync_channel=9, sync_period_ps=1e7, bin_ps=90.0)
    assert found.delay_ps[1] == 13 * 90.0 + 45.0
    assert found.histogram[1].sum() == 50
    assert found.failed == (0, 2, 3)


def test_lost_tags_and_silence_end_a_count() -> None:
    made = bench(5)
    made.send("RANDOM")
    counting(made).counts(0.1)
    made.lost.append((0, 10))
    with pytest.raises(DeviceError, match="lost tags"):
        counting(made).counts(0.1)
    made.dead = True
    with pytest.raises(DeviceError, match="no tags"):
        counting(made).counts(0.1)


class Late(Bench):
    """Tags of half a second wait unread whenever somebody asks the sender for something."""

    behind: tuple[TimeTags, ...] = ()

    def send(self, mode: str) -> None:
        self.behind = tuple(super(Late, self).read(0.02).tags for _ in range(25))
        super().send(mode)

    def read(self, timeout_s: float) -> Chunk:
        if not self.behind:
            return super().read(timeout_s)
        tags, self.behind = self.behind[0], self.behind[1:]
        return Chunk(tags=tags)


def test_tags_from_before_a_change_of_the_light_are_not_counted() -> None:
    made = Late(bench(5).world)
    made.send("RANDOM")
    counting(made).counts(0.05)
    made.send("OFF")
    dark = sum(made.world.plan.bob.receiver.dark_rate_hz) * 0.05
    assert counting(made).counts(0.05).sum() < dark + 6 * np.sqrt(dark)


class Cut(Bench):
    """Tags are lost at the hundredth read."""

    reads = 0

    def read(self, timeout_s: float) -> Chunk:
        self.reads += 1
        if self.reads == 100:
            self.lost.append((0, 10))
        return super().read(timeout_s)


def test_a_feedback_that_cannot_be_ended_puts_the_controllers_back() -> None:
    made = Cut(bench(3).world)
    both = controllers(made)
    for controller in both:
        for number in controller.retarders:
            controller.set_retarder(number, 100.0 * number)
    with pytest.raises(DeviceError, match="lost tags"):
        feed_back(both, counting(made), made, PolarisationSettings())
    assert made.reads == 100
    assert [c.retarder(n) for c in both for n in c.retarders] == [100.0, 200.0, 300.0, 400.0] * 2


def test_a_scan_that_cannot_be_ended_puts_the_delays_back() -> None:
    made = Cut(bench(3).world)
    before = [made.delay_ps(detector) for detector in range(4)]
    with pytest.raises(DeviceError, match="lost tags"):
        scan_delays(made, counting(made), made, DelayScanSettings(dwell_s=0.04))
    assert [made.delay_ps(detector) for detector in range(4)] == [5.0 * round(ps / 5.0) for ps in before]


def test_of_tries_that_all_fail_the_best_one_stays() -> None:
    made = bench(3, misalignment=0.05)
    settings = PolarisationSettings(most_counts=30, tries=3, dwell_s=0.02)
    both = controllers(made)
    found = feed_back(both, counting(made), made, settings)
    for basis, controller in enumerate(both):
        tries = [one for one in found.tries if one.basis == basis]
        best = max(tries, key=lambda one: min(one.extinctions))
        assert {n: controller.retarder(n) for n in controller.retarders} == best.values
