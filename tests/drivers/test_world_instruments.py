"""Instruments of the laboratory by their drivers: what they set moves the world, what they count is the world's."""

import numpy as np
import pytest
from checks import check_connection

from qkdpp.node.calibrate.counting import Counting
from qkdpp.node.calibrate.polarisation import PolarisationSettings, extinction, feed_back
from qkdpp_drivers import registry
from qkdpp_drivers.sim.bench import KINDS
from qkdpp_drivers.sim.lab import LabFile, WorldSection, build_world, running
from qkdpp_drivers.sim.world.light import Mode
from qkdpp_drivers.transports import ManualClock, MemoryTransport

DARK_HZ = 375.0
SIGMAS = 5.0


class Lab:
    """A world, and drivers of instruments in it, on a clock that only waiting moves; bytes go through memory."""

    def __init__(self, loss_db=35.0, mode=Mode.H):
        section = WorldSection(loss_db=loss_db, misalignment=0.004, aligned_ps=0.0)
        file = LabFile(scenario="backbone-625mhz", instruments={}, world=section, seed=3)
        self.world, self.clock = build_world(file), ManualClock()
        self.world.send(mode)

    def driver(self, kind, **options):
        instrument, host = KINDS[kind](self.world, self.clock, np.random.default_rng(7))
        host.stop()
        if kind.startswith("websq"):
            options["counts"] = MemoryTransport(instrument.counts, self.clock)
        made = registry.driver(kind.partition("-")[0])(MemoryTransport(instrument, self.clock), **options)
        made.connect()
        return made

    def rates_hz(self, seconds=2.0):
        """Clicks per second of Z0, Z1, X0 and X1 from now on."""
        self.clock.advance(seconds + 0.05)
        self.world.advance(self.clock())
        return self.world.counts(seconds) / seconds


def same(found, expected, *, seconds):
    """Whether two rates are the same within what chance allows for both (after-pulses: a few per cent more)."""
    spread = np.sqrt((np.asarray(found) + expected) / seconds)
    return bool((np.abs(np.asarray(found) - expected) < SIGMAS * 1.1 * spread).all())


def test_light_passes_the_switch_on_one_path_only():
    lab = Lab()
    switch = lab.driver("polatis-fibre")
    bright = lab.rates_hz()
    assert bright[0] > 10 * DARK_HZ
    dark = np.full(4, DARK_HZ)
    for inlet, outlet, expected in ((1, None, dark), (1, 17, bright), (1, 20, dark), (1, 17, bright), (2, 17, dark)):
        switch.route(inlet, outlet)
        assert same(lab.rates_hz(), expected, seconds=2.0), (inlet, outlet)
    assert switch.routes() == {2: 17}


def test_websq_counts_the_world_and_its_bias_makes_the_efficiency():
    lab = Lab()
    nominal = lab.rates_hz()
    box = lab.driver("websq-detectors", bias_limit_ua=25.0)
    assert box.counts(1.0) == dict.fromkeys(range(4), 0)
    for channel in box.channels:
        box.set_bias(channel, 18.0)
    box.enable(0, True)
    assert same(list(box.counts(2.0).values()), nominal * 2.0, seconds=1.0)
    box.set_bias(0, 9.0)
    assert box.counts(2.0)[0] / 2.0 == pytest.approx(0.5 * (nominal[0] - DARK_HZ), rel=0.05)
    box.set_bias(1, 19.0)
    assert box.counts(2.0)[1] / 2.0 - nominal[1] == pytest.approx(DARK_HZ * (np.exp(2.0) - 1.0), rel=0.1)


def test_a_websq_detector_beyond_its_critical_current_latches_and_is_dark():
    lab = Lab()
    box = lab.driver("websq-detectors", bias_limit_ua=25.0)
    for channel, bias_ua in enumerate((21.0, 18.0, 18.0, 18.0)):
        box.set_bias(channel, bias_ua)
    box.enable(0, True)
    assert box.latched() == [True, False, False, False]
    found = lab.rates_hz()
    assert found[0] == 0
    assert (found[1:] > 0.5 * DARK_HZ).all()
    box.set_bias(0, 18.0)
    assert lab.rates_hz()[0] == 0, "until the bias is switched"
    box.unlatch()
    assert lab.rates_hz()[0] > 10 * DARK_HZ


def test_blinding_latches_nanowires_and_both_controllers_show_it():
    lab = Lab(mode=Mode.RANDOM)
    module = lab.driver("quantum_opus-Z0", slot=1, operating_bias_ua=18.0)
    module.enable(0, True)
    assert not module.latched()
    lab.world.knobs.eve.blinding = True
    assert module.latched()
    assert module.reset(), "as long as there is light"
    lab.world.knobs.eve.blinding = False
    module.set_reset(duration_s=0.1, automatic=False)
    assert not module.reset()
    assert lab.rates_hz()[0] > DARK_HZ
    box = lab.driver("websq-detectors", bias_limit_ua=25.0)
    box.set_bias(2, 18.0)
    box.enable(0, True)
    lab.world.knobs.eve.blinding = True
    assert box.latched() == [True] * 4
    assert (lab.rates_hz() == 0).all()


def test_quantum_opus_bias_latch_and_reset():
    lab = Lab()
    nominal = lab.rates_hz()
    module = lab.driver("quantum_opus-Z0", slot=1, operating_bias_ua=18.0)
    assert lab.rates_hz()[0] == 0
    module.enable(0, True)
    assert same(lab.rates_hz(), nominal, seconds=2.0)
    module.set_bias(0, 21.0)
    assert module.latched()
    assert lab.rates_hz()[0] == 0
    module.set_bias(0, 18.0)
    module.set_reset(duration_s=0.5, automatic=False)
    assert not module.reset()
    assert same(lab.rates_hz(), nominal, seconds=2.0)


def test_the_counter_sees_the_clicks_that_the_tagger_sees():
    lab = Lab()
    tagger = lab.driver("raw64-bob", layout="a1s")
    counter = lab.driver("keysight53230a-Z0")
    tagger.start()
    counter.start()
    lab.clock.advance(1.0)
    stamped, tagged = counter.read(0.1).tags, tagger.read(0.1).tags
    counter.stop()
    clicks_ps = tagged.ticks[tagged.channel == 0] * (tagged.tick_as / 1e6)
    both = min(stamped.ticks.size, clicks_ps.size) - 5000
    assert both > 10_000
    pattern = stamped.ticks[:20]
    first = next(i for i in range(5000) if np.abs(clicks_ps[i : i + 20] - clicks_ps[i] - pattern).max() < 10.0)
    assert np.abs(clicks_ps[first : first + both] - clicks_ps[first] - stamped.ticks[:both]).max() < 10.0
    expected = float(lab.rates_hz(5.0)[0])
    assert same(counter.frequencies_hz(1, gate_s=5.0)[0], expected, seconds=5.0)


def test_the_counter_measures_sync_pulses_and_what_arrives_with_them():
    lab = Lab(loss_db=10.0, mode=Mode.SYNC)
    sync = lab.driver("keysight53230a-Z0", channel=2)
    missing = lab.world.sync.missing
    found_hz = float(sync.frequencies_hz(1, gate_s=2.0)[0])
    assert found_hz == pytest.approx(1e5 * (1.0 - missing), abs=1.0 + SIGMAS * np.sqrt(2e5 * missing) / 2.0)
    found_ps = sync.intervals_s(2000, rate_hz=5e3) * 1e12
    assert found_ps.min() > -100.0
    assert np.median(found_ps) < 1e7
    near = np.abs(found_ps - np.median(found_ps)) < 1000.0
    assert near.mean() > 0.8, "a pulse and its click are always as far apart"


def test_the_half_wave_paddle_turns_linear_light_by_twice_its_angle():
    lab = Lab()
    paddles = lab.driver("mpc320-rectilinear")
    level = lab.rates_hz()
    light = level[0] + level[1] - 2 * DARK_HZ
    for angle_deg in (0.0, 22.5, 45.0, 60.0, 90.0):
        paddles.set_retarder(2, angle_deg)
        share = np.sin(np.deg2rad(2 * angle_deg)) ** 2
        contrast = 1.0 - 2 * lab.world.plan.channel.misalignment
        right = DARK_HZ + light * (0.5 + contrast * (0.5 - share))
        assert lab.rates_hz()[0] == pytest.approx(right, rel=0.04), angle_deg


class Sender:
    """Alice's unit, asked without a link."""

    def __init__(self, transmitter):
        self.transmitter = transmitter

    def send(self, mode):
        self.transmitter.send(mode)


def test_polarisation_feedback_through_paddles_reaches_a_hundred_to_one():
    """Only the driver's name differs from a receiver with squeezers: the loops know the protocol alone."""
    lab = Lab(loss_db=30.0)
    lab.world.fibre.jump()
    tagger, transmitter = lab.driver("raw64-bob", layout="a1s"), lab.driver("transmitter")
    both = lab.driver("mpc320-rectilinear"), lab.driver("mpc320-diagonal")
    tagger.start()
    counting = Counting(tagger, {1: 0, 2: 1, 3: 2, 4: 3}, lab.clock)
    found = feed_back(both, counting, Sender(transmitter), PolarisationSettings())
    assert found.ok
    table = {}
    for state, right in (("H", 0), ("V", 1), ("D", 2), ("A", 3)):
        transmitter.send(state)
        counts = counting.counts(0.3) - np.array(found.dark_hz) * 0.3
        table[state] = extinction(counts[right], counts[right ^ 1])
    assert min(table.values()) > 85.0


OPTIONS = {
    "websq-detectors": "bias_limit_ua=20",
    "quantum_opus-X1": "slot=1&operating_bias_ua=18&settle_s=0.1",
    "keysight53230a-X0": "channel=1",
    "mpc320-diagonal": "",
    "polatis-fibre": "",
}


def test_they_answer_at_the_addresses_that_the_laboratory_writes():
    file = LabFile(scenario="backbone-625mhz", instruments={kind: kind for kind in OPTIONS}, world=WorldSection())
    with running(file) as lab:
        for kind, options in OPTIONS.items():
            url = lab.urls[kind]
            check_connection(kind.partition("-")[0], f"{url}{'&' if '?' in url else '?'}{options}" if options else url)
