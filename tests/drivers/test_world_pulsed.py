"""The simulated laboratory against physics worked out beside it."""

from functools import partial

import msgspec
import numpy as np
import pytest

from qkdpp.scenarios import scenario
from qkdpp.scenarios.scenario_file import load
from qkdpp_drivers.detectors.s15_spd import S15Spd
from qkdpp_drivers.sim.lab import LabFile, WorldSection, running
from qkdpp_drivers.sim.world import pairs as pairs_module
from qkdpp_drivers.sim.world import pulsed
from qkdpp_drivers.sim.world.knobs import Eve
from qkdpp_drivers.sim.world.light import Mode, splitting_gains
from qkdpp_drivers.sim.world.pairs import PairWorld
from qkdpp_drivers.sim.world.polarisation import STATES, Controller, Fibre, retarder, rotation
from qkdpp_drivers.sim.world.pulsed import PulsedWorld


def plan(loss_db: float = 20.0) -> scenario.Scenario:
    shipped = load("backbone-625mhz")
    receiver = msgspec.structs.replace(shipped.bob.receiver, after_pulse=0.0)
    return msgspec.structs.replace(
        shipped,
        channel=msgspec.structs.replace(shipped.channel, loss_db=loss_db),
        bob=msgspec.structs.replace(shipped.bob, receiver=receiver),
    )


def world(seed: int = 1, *, loss_db: float = 20.0, gate_period_ps: float = 0.0, aligned: bool = True) -> PulsedWorld:
    made = PulsedWorld(plan(loss_db), seed, gate_period_ps=gate_period_ps)
    if aligned:
        made.fibre.rotation = np.eye(3)
    for detector in made.knobs.detectors:
        detector.gate_delay_ps = detector.gate_optimum_ps
    return made


def detected(lab: PulsedWorld, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """State codes sent and detectors that clicked, by arrival time at the true pulse."""
    begin = lab.base_s + lab.now_fs / 1e15
    lab.edges(begin)
    start = lab._run.start_fs
    times_ps, inputs = lab.edges(begin + seconds)
    clicked = inputs[inputs < 4]
    delay = np.array(lab.plan.bob.receiver.delays_ps)[clicked]
    local = lab.chain.clock.read(np.array([start + lab.path.arrival_fs(np.zeros(1, dtype=np.int64))[0]]))[0]
    local += lab.base_s * 10**15
    rate = 1.0 + lab.plan.bob.clock.rate_ppm * 1e-6
    since = (times_ps[inputs < 4] - local / 1e3 - delay) / rate
    slots = np.rint(since * 1e6 / lab.header.pulse_period_as).astype(np.int64)
    return lab.lookup(slots + lab._run.light.base_pulse), clicked


def light_hz(counts: np.ndarray, seconds: float) -> np.ndarray:
    """Rates of light alone: dead time (1 us) and dark counts (375 Hz) taken out."""
    rate = counts / seconds
    return rate / (1.0 - rate * 1e-6) - 375.0


def error_rate(codes: np.ndarray, clicked: np.ndarray) -> float:
    held = (codes != 255) & ((codes >> 1) & 1 == clicked >> 1) & (codes >> 2 == 0)
    return float(np.mean((codes & 1)[held] != (clicked & 1)[held]))


def test_counts_of_a_constant_state_follow_its_polarisation() -> None:
    lab = world(loss_db=30.0)
    expected = 10 * lab.path.share * 0.6 * 0.11 * 10**-0.2 * 0.5 * 625e6
    for mode, own in ((Mode.H, 0), (Mode.V, 1), (Mode.D, 2), (Mode.A, 3)):
        lab.send(mode)
        lab.advance(lab.now_fs / 1e15 + 0.5)
        counts = light_hz(lab.counts(0.4), 0.4)
        assert counts[own] == pytest.approx(expected * (1 - 0.0099), rel=0.02)
        assert counts[own ^ 1] == pytest.approx(expected * 0.0099, rel=0.15)
        assert counts[(own ^ 2) & 2] == pytest.approx(counts[((own ^ 2) & 2) + 1], rel=0.05)


def test_an_unaligned_fibre_is_undone_by_the_inverse_rotation_in_front_of_each_basis() -> None:
    lab = world(aligned=False)
    lab.send(Mode.RANDOM)
    assert error_rate(*detected(lab, 0.2)) > 0.05
    for controller in lab.knobs.controllers:
        controller.rotation = lambda: lab.fibre.rotation.T  # type: ignore[method-assign]
    lab.send(Mode.RANDOM)
    assert error_rate(*detected(lab, 0.3)) == pytest.approx(0.0099, abs=0.006)


def test_four_squeezers_reach_any_state_from_any_state() -> None:
    rng = np.random.default_rng(5)
    fibre, controller = Fibre(0.0, rng), Controller()
    best = 0.0
    for _ in range(4000):
        controller.voltages_mv = {n: float(rng.uniform(-3000, 3000)) for n in range(1, 5)}
        best = max(best, float(STATES[0] @ controller.rotation() @ fibre.rotation @ STATES[0]))
    assert best > 0.99


def test_rotations_are_rotations() -> None:
    turned = rotation(np.array([0.3, -2.0, 1.0]), 1.1) @ retarder(22.5, np.pi)
    np.testing.assert_allclose(turned @ turned.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(retarder(22.5, np.pi) @ STATES[0], STATES[2], atol=1e-12)


def test_the_gate_passes_most_at_its_optimum_and_half_a_half_width_away() -> None:
    lab = world(gate_period_ps=800.0)
    lab.send(Mode.RANDOM)
    lab.advance(0.4)
    middle = light_hz(lab.counts(0.3), 0.3)
    for detector in lab.knobs.detectors:
        detector.gate_delay_ps += 90.0
    lab.advance(0.8)
    np.testing.assert_allclose(light_hz(lab.counts(0.3), 0.3) / middle, 0.5, rtol=0.05)


def test_intercept_and_resend_costs_a_quarter_of_what_is_attacked() -> None:
    lab = world()
    lab.knobs.eve = Eve(intercept=0.4)
    lab.send(Mode.RANDOM)
    assert error_rate(*detected(lab, 0.4)) == pytest.approx(0.4 * 0.25 + 0.6 * 0.0099 + 0.4 * 0.0099 / 2, abs=0.012)


def test_blinding_makes_no_errors_but_a_current() -> None:
    lab = world()
    lab.knobs.eve = Eve(blinding=True)
    lab.send(Mode.RANDOM)
    codes, clicked = detected(lab, 0.3)
    assert clicked.size > 10_000
    assert error_rate(codes, clicked) < 0.01
    assert all(d.current_a > 20e-6 for d in lab.knobs.detectors)
    lab.knobs.eve = Eve()
    lab.advance(lab.now_fs / 1e15 + 0.1)
    assert all(d.current_a < 1e-6 for d in lab.knobs.detectors)


def test_splitting_keeps_the_mean_gain_and_ruins_that_of_weak_pulses() -> None:
    intensities, p = np.array([0.6, 0.2, 0.0]), np.array([0.75, 0.125, 0.125])
    share = 1e-3
    usual = 1.0 - np.exp(-intensities * share)
    gains = splitting_gains(intensities, p, share, 0.07)
    assert p @ gains == pytest.approx(p @ usual, rel=1e-9)
    spare = intensities - 1 + np.exp(-intensities)  # mean number of photons beyond the first
    assert gains[1] / gains[0] == pytest.approx(spare[1] / spare[0], rel=0.02)
    assert gains[1] / gains[0] < 0.5 * usual[1] / usual[0]


def test_the_transmitter_forgets_an_epoch_when_the_next_begins_and_totals_add_up() -> None:
    lab = world()
    assert lab.send(Mode.RANDOM) == 1
    lab.advance(0.1)
    assert (lab.lookup(np.array([0, 5, 10**15])) == 255).tolist() == [False, False, True]
    string = lab.header.sync_string
    assert string is not None
    exact = lab.totals(0, 100_000)
    assert exact.sum() == 100_000 - string.length
    drawn = lab.totals(0, 40_000_000)
    assert drawn.sum() == 40_000_000 - 7 * string.length
    np.testing.assert_array_equal(drawn, lab.totals(0, 40_000_000))
    secret = string.length + np.arange(200)
    before = lab.lookup(secret)
    assert lab.send(Mode.RANDOM) == 2
    assert lab.pulses() == 0
    lab.advance(0.2)
    assert (lab.lookup(secret) != before).any()


def still(plan: scenario.Scenario) -> scenario.Scenario:
    """The same with clocks that neither walk at random nor drift."""

    def party(one: scenario.Party) -> scenario.Party:
        clock = msgspec.structs.replace(one.clock, walk_ps_per_sqrt_s=0.0, drift_ppm_per_s=0.0)
        return msgspec.structs.replace(one, clock=clock)

    alice = None if plan.alice is None else party(plan.alice)
    return msgspec.structs.replace(plan, alice=alice, bob=party(plan.bob))


@pytest.mark.parametrize("kind", ["pulses", "pairs"])
def test_time_that_is_counted_anew_changes_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A laboratory runs for weeks in chapters; in the second one here each lasts a second."""
    found = []
    for chapter_s in (1000, 1):
        if kind == "pairs":
            shipped = load("pair-lab")
            pairs = msgspec.structs.replace(shipped.pairs, pair_rate_hz=3e4)
            both = PairWorld(still(msgspec.structs.replace(shipped, pairs=pairs)), 7)
            sources = [partial(both.edges, side) for side in (0, 1)]
        else:
            one = PulsedWorld(still(plan(35.0)), 7, gate_period_ps=800.0)
            one.send(Mode.RANDOM)
            sources = [one.edges]
        for module in (pulsed, pairs_module):
            monkeypatch.setattr(module, "CHAPTER_S", chapter_s)
        found.append([edges(t) for t in np.arange(0.5, 5.6, 0.5) for edges in sources])
    for (times, inputs), (again, same) in zip(*found, strict=True):
        assert times.size > 500
        assert np.array_equal(inputs, same)
        assert np.abs(times - again).max() <= 79  # a tick of 78.125 ps, where the last digit of a double decides


def test_pulse_numbers_and_states_go_on_over_chapters(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = PulsedWorld(still(plan(25.0)), 3)
    lab.fibre.rotation = np.eye(3)
    lab.send(Mode.RANDOM)
    monkeypatch.setattr(pulsed, "CHAPTER_S", 1)
    lab.advance(4.5)
    assert lab.base_s == 3
    assert lab.pulses() == pytest.approx(4.5 * 625e6, rel=1e-3)
    assert lab._run.light.base_pulse > 1e9
    codes, clicked = detected(lab, 0.4)
    assert error_rate(codes, clicked) < 0.03


def test_a_controller_s_bias_moves_its_detector_in_the_world() -> None:
    """As the specification of the world has it: nothing at breakdown, half at half the excess, all at the nominal."""
    file = LabFile(
        scenario="backbone-625mhz", instruments={"spd": "s15_spd-Z0"}, factor=10.0, world=WorldSection(loss_db=35.0)
    )
    with running(file) as lab:
        lab.world.send(Mode.RANDOM)
        spd = S15Spd.from_url(lab.urls["spd"], bias_limit_v=180.0, operating_bias_v=160.0)
        spd.transport.time_factor = 10.0
        with spd:
            found = []
            for bias_v in (160.0, 155.0, 150.0):
                spd.set_bias(0, bias_v)
                lab.world.advance(lab.world.now_fs / 1e15 + 1.1)
                found.append(int(lab.world.counts(1.0)[0]))
    dark = 375.0
    assert found[1] - dark * np.exp(-2.0) == pytest.approx(0.5 * (found[0] - dark), rel=0.08)
    assert found[0] > 1500
    assert found[2] < 40


def test_a_fibre_that_is_touched_always_shows() -> None:
    fibre = Fibre(0.0, np.random.default_rng(1))
    for _ in range(200):
        before = fibre.rotation
        fibre.jump()
        turned = np.trace(fibre.rotation @ before.T)
        assert np.cos(0.75 * np.pi) - 1e-9 <= (turned - 1.0) / 2.0 <= np.cos(0.25 * np.pi) + 1e-9
