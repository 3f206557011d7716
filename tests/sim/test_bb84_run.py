"""A whole prepare-and-measure run: tags, Alice's record, totals, truth, cost."""

import math

import numpy as np
import pytest
from sim_links import Outcome, ideal

from qkdpp.sim import pulses
from qkdpp.sim.bb84 import Bb84Run
from qkdpp.sources.prepared_states import count_codes

PERIOD_TICKS = 10_000
STRING = {"length": 5_000, "frame": 100_000}


def arrival_slots(outcome: Outcome) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slots, codes and distances (ticks) of detector tags for a receiver that knows a clock without rate error."""
    tags = outcome.tags
    code = tags.channel
    ticks = tags.ticks[code < 4] - round(outcome.run.clock_at_start_s() * 1e12)
    slots = np.rint(ticks / PERIOD_TICKS).astype(np.int64)
    return slots, code[code < 4], ticks - slots * PERIOD_TICKS


@pytest.fixture(scope="module")
def linked() -> Outcome:
    plan = ideal(
        "active",
        channel={"misalignment": 0.02, "length_km": 10.0},
        receiver={"dark_rate_hz": [2000.0, 2000.0], "jitter_ps": 100.0, "dead_time_ns": 50.0, "after_pulse": 0.01},
        sync_string=STRING,
        sync={"period_pulses": 10_000, "jitter_ps": 20.0, "missing": 0.1},
        clock={"offset_s": 0.02},
    )
    return Outcome(plan, seed=11)


def test_the_record_holds_each_tag_s_pulse_and_its_neighbours(linked: Outcome) -> None:
    slots, _, _ = arrival_slots(linked)
    wanted = (slots[:, None] + np.array([-1, 0, 1])).reshape(-1)
    wanted = np.unique(wanted[(wanted >= 0) & (wanted < linked.run.header.n_pulses)])
    np.testing.assert_array_equal(linked.slots, wanted)


def test_the_record_states_what_was_sent(linked: Outcome) -> None:
    np.testing.assert_array_equal(linked.codes, linked.run.link.states(linked.slots))
    string = linked.run.header.sync_string
    assert string is not None
    mask = string.mask(linked.slots)
    np.testing.assert_array_equal(linked.codes[mask], string.states(linked.slots[mask]))


def test_bob_s_tags_and_alice_s_record_give_the_truth(linked: Outcome) -> None:
    slots, code, off = arrival_slots(linked)
    string = linked.run.header.sync_string
    assert string is not None
    gated = (np.abs(off) <= 500) & (slots >= 0) & (slots < linked.run.header.n_pulses) & ~string.mask(slots)
    bits: dict[int, set[int]] = {}
    for slot, c in zip(slots[gated].tolist(), code[gated].tolist(), strict=True):
        bits.setdefault(slot, set()).add(c)
    sent = dict(zip(linked.slots.tolist(), linked.codes.tolist(), strict=True))
    clicks, errors = 0, 0.0
    for slot, clicked in bits.items():
        basis, bit = sent[slot] >> 1 & 1, sent[slot] & 1
        if min(clicked) >> 1 == basis:
            clicks += 1
            errors += sum((c & 1) != bit for c in clicked) / len(clicked)
    # whole ticks move a click or two across the edge of the gate
    assert clicks == pytest.approx(sum(linked.clicks(basis)[0].sum() for basis in (0, 1)), abs=5)
    assert errors == pytest.approx(sum(linked.clicks(basis)[1].sum() for basis in (0, 1)), abs=5)


def test_totals_are_exact_where_every_pulse_was_looked_at() -> None:
    plan = ideal("passive", channel={"loss_db": 0.0}, duration_s=2e-4, sync_string={"length": 50, "frame": 1000})
    outcome = Outcome(plan, seed=12)
    assert outcome.run.header.n_pulses == 20_000
    looked_at = outcome.run.record.looked_at
    every = np.arange(20_000)
    exact = count_codes(outcome.run.header, every, outcome.run.link.states(every)).reshape(3, 2, 2)
    left = 20_000 - 1_000 - looked_at
    assert left >= 0
    assert np.abs(outcome.sent - exact).sum() <= 2 * left
    assert outcome.sent.sum() == 19_000


def test_totals_cover_the_record(linked: Outcome) -> None:
    header = linked.run.header
    held = count_codes(header, linked.slots, linked.codes).reshape(3, 2, 2)
    assert (linked.sent >= held).all()
    assert linked.sent.sum() == header.n_pulses - header.string_pulses(header.n_pulses)


def test_sync_tags_come_at_their_period_with_some_missing(linked: Outcome) -> None:
    sync = linked.tags.of_channel(5)
    number = (sync - round(linked.run.clock_at_start_s() * 1e12)) / (10_000 * PERIOD_TICKS)
    assert np.abs(number - np.rint(number)).max() < 8 * 20 / (10_000 * PERIOD_TICKS)
    sent = linked.run.header.n_pulses // 10_000
    assert abs(sync.size - 0.9 * sent) < 4 * math.sqrt(sent * 0.09)


def test_tags_are_sorted_and_start_before_the_first_pulse(linked: Outcome) -> None:
    tags = linked.tags
    assert (np.diff(tags.ticks) >= 0).all()
    assert tags.channel_ids == (1, 2, 3, 4, 5)
    slots, _, _ = arrival_slots(linked)
    assert slots.min() < 0  # dark counts of the lead
    assert tags.ticks[0] >= 0


def test_an_active_receiver_never_clicks_in_two_bases_of_one_pulse(linked: Outcome) -> None:
    table = linked.run.outcome.gated
    both = [s for s in range(16) if s & 3 and s >> 2]
    assert table[:, both].sum() == 0
    slots, code, _ = arrival_slots(linked)
    first_basis: dict[int, int] = {}
    for slot, basis in zip(slots.tolist(), (code >> 1).tolist(), strict=True):
        assert first_basis.setdefault(slot, basis) == basis


def test_no_tags_in_lost_intervals() -> None:
    gaps = {"gaps_per_s": 100.0, "gap_ms": 1.0}
    outcome = Outcome(ideal("passive", tagger=gaps, clock={"rate_ppm": 30.0}), seed=13)
    tags = outcome.tags
    assert 20 < len(tags.lost) < 70
    for start, end in tags.lost:
        assert end - start == pytest.approx(1e9, rel=1e-4)
        inside = (tags.ticks > start) & (tags.ticks < end)
        assert not inside.any()
    assert outcome.run.chain.losses.gaps > 0


def test_echoes_follow_their_channel_only() -> None:
    echo = {"role": "X1", "probability": 0.5, "delay_ns": 16.4, "spread_ps": 100.0}
    outcome = Outcome(ideal("passive", receiver={"echoes": [echo], "dead_time_ns": 100.0}), seed=14)
    waits = [np.diff(outcome.tags.of_channel(c)) for c in (1, 2, 3, 4)]
    assert min(w.min() for w in waits[:3]) >= 100_000  # one detector each: nothing inside its dead time
    near = waits[3][waits[3] < 20_000]
    parents = outcome.tags.of_channel(4).size - near.size
    assert abs(near.size - parents / 2) < 4 * math.sqrt(parents / 4)
    assert near.mean() == pytest.approx(16_400, abs=4 * 100 / math.sqrt(near.size))
    assert outcome.run.causes[3] == near.size


def test_tagger_dead_time_is_per_input() -> None:
    plan = ideal("passive", channel={"loss_db": 5.0}, duration_s=0.01, tagger={"dead_time_ns": 200.0})
    outcome = Outcome(plan, seed=15)
    assert min(np.diff(outcome.tags.of_channel(c)).min() for c in (1, 2, 3, 4)) >= 200_000
    assert np.diff(outcome.tags.ticks).min() < 200_000
    assert outcome.run.chain.losses.tagger_dead_time > 0


def test_small_slices_change_nothing_but_the_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulses, "SLICE_CANDIDATES", 300)
    plan = ideal(
        "active",
        duration_s=0.05,
        receiver={
            "dead_time_ns": 5005.0,
            "delays_ps": [4000.0, -3000.0],
            "jitter_ps": 300.0,
            "dark_rate_hz": [1e4, 1e4],
        },
        sync={"period_pulses": 1000},
        timing={"gate_ps": 4000.0},
    )
    outcome = Outcome(plan, seed=16)
    assert (np.diff(outcome.tags.ticks) >= 0).all()
    assert (np.diff(outcome.slots) > 0).all()
    detectors = outcome.run.causes[:3].sum()
    assert outcome.run.outcome.gated.sum() <= detectors
    # dead time holds across slices: channels 1 and 3 are one detector, 2 and 4 the other
    for pair in ((1, 3), (2, 4)):
        both = np.sort(np.concatenate([outcome.tags.of_channel(c) for c in pair]))
        assert np.diff(both).min() >= 5_005_000 - 1


def test_work_grows_with_detections_not_with_pulses() -> None:
    near = Bb84Run(ideal("passive", duration_s=0.1, channel={"loss_db": 20.0}), 17)
    far = Bb84Run(ideal("passive", duration_s=1.0, channel={"loss_db": 30.0}), 17)
    counts = [sum(len(tags) for tags in run.tags(lambda slots, codes: None)) for run in (near, far)]
    assert far.header.n_pulses == 10 * near.header.n_pulses
    assert counts[1] == pytest.approx(counts[0], rel=0.02)
    assert far.link.n_candidates == pytest.approx(near.link.n_candidates, rel=0.02)
    assert far.link.n_candidates < 3 * counts[1]
    assert far.record.looked_at < 5 * counts[1]


def test_a_satellite_pass_follows_range_and_clock() -> None:
    satellite = {"altitude_km": 500.0, "closest_km": 508.0, "zenith_transmission": 0.75}
    plan = ideal(
        "passive",
        duration_s=20.0,
        channel={"loss_db": 40.0, "satellite": satellite},
        clock={"offset_s": 0.02, "rate_ppm": 5.0},
        sync={"period_pulses": 10_000_000},
    )
    outcome = Outcome(plan, seed=18)
    sync = outcome.tags.of_channel(5) * 1e-12
    distance = outcome.run.path.orbit.range_km((np.arange(sync.size) * 0.1) - 10.0)  # type: ignore[attr-defined]
    emitted = np.arange(sync.size) * 0.1
    arrival = emitted + distance / 299_792.458
    np.testing.assert_allclose(sync, 0.02 + arrival * (1 + 5e-6), rtol=0, atol=2e-12)
    assert outcome.run.outcome.gated.sum() == pytest.approx(outcome.tags.of_channel(1).size * 10 / 3, rel=0.1)
