"""Live cutting against what was sent: every block's detections must agree with Alice's states."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from qkdpp.core.abort import Abort
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.tags import TimeTags
from qkdpp.node.live_pulsed import PulsedBlocks
from qkdpp.scenarios import scenario
from qkdpp.scenarios.scenario_file import load
from qkdpp.sim.bb84 import Bb84Run
from qkdpp.timing.pulsed import PulsedParams

FRAMES = 40
SECONDS = 1.6


def plan(**clock: float) -> scenario.Scenario:
    shipped = load("metro-40mhz")
    lossless = msgspec.structs.replace(shipped.channel, loss_db=3.0)
    bob = msgspec.structs.replace(shipped.bob, clock=msgspec.structs.replace(shipped.bob.clock, **clock))
    return msgspec.structs.replace(shipped, duration_s=SECONDS, channel=lossless, bob=bob)


def params(run: Bb84Run) -> PulsedParams:
    return PulsedParams(
        method="sync",
        pulse_period_as=run.header.pulse_period_as,
        detector_of_channel={1: 0, 2: 1, 3: 2, 4: 3},
        gate_ps=run.plan.timing.gate_ps,
        dead_time_ns=run.plan.timing.dead_time_ns,
        sync_channel=5,
        sync_period_pulses=400,
        string=run.header.sync_string,
        offset_range_s=0.001,
    )


def cutter(run: Bb84Run, *, error_s: float = 0.0, range_s: float = 1e-3, **options: int) -> PulsedBlocks:
    string = run.header.sync_string
    assert string is not None
    tick_as = run.plan.bob.tagger.tick_as
    return PulsedBlocks(
        params(run),
        tick_as=tick_as,
        n_pulses=FRAMES * string.frame,
        start_tick=round((run.clock_at_start_s() + error_s) * 1e18 / tick_as),
        start_range_s=range_s,
        **options,
    )


def pieces(run: Bb84Run, size: int = 5000) -> list[TimeTags]:
    found = []
    for tags in run.tags(lambda slots, codes: None):
        for first in range(0, len(tags), size):
            part = slice(first, first + size)
            found.append(replace(tags, ticks=tags.ticks[part], channel=tags.channel[part], lost=()))
    return found


def confirmed(blocks: PulsedBlocks, piece: TimeTags) -> list[int]:
    """Adds a piece on which the instrument's verdict has been spoken."""
    dropped = blocks.add(piece)
    blocks.confirm(int(piece.ticks[-1]))
    return dropped


def wrong_share(run: Bb84Run, number: int, slots: np.ndarray, basis: np.ndarray, bit: np.ndarray) -> float:
    codes = run.link.states(slots + number * FRAMES * 400_000)
    signal = ((codes >> 1) & 1 == basis) & (codes >> 2 == 0)
    return float(np.mean((codes & 1)[signal] != bit[signal]))


def test_every_block_agrees_with_what_was_sent() -> None:
    run = Bb84Run(plan(), 3)
    blocks, numbers, detected = cutter(run), [], 0
    for piece in pieces(run):
        assert confirmed(blocks, piece) == []
        while (cut := blocks.cut()) is not None:
            block = blocks.resolve(cut, OsEntropy())
            found = block.detections
            numbers.append(block.number)
            detected += len(found)
            assert found.slots.min() >= 0
            assert found.slots.max() < FRAMES * 400_000
            assert wrong_share(run, block.number, found.slots, found.basis, found.bit) < 0.03
    assert numbers == [0, 1, 2]
    assert detected == pytest.approx(run.outcome.accepted.sum() * 1.2 / SECONDS, rel=0.05)


def test_a_stream_that_has_run_for_weeks_is_cut_like_a_fresh_one() -> None:
    run = Bb84Run(plan(), 3)
    chunks, weeks = pieces(run), 3 * 7 * 86_400 * 10**12
    assert run.plan.bob.tagger.tick_as == 1_000_000
    found = []
    for shift in (0, weeks):
        blocks = cutter(run, error_s=shift / 1e12)
        for piece in chunks:
            confirmed(blocks, replace(piece, ticks=piece.ticks + shift))
            if (cut := blocks.cut()) is not None:
                found.append(blocks.resolve(cut, OsEntropy()).detections)
    half = len(found) // 2
    assert half == 3
    for fresh, old in zip(found[:half], found[half:], strict=True):
        assert np.array_equal(fresh.slots, old.slots)


def test_a_wrong_guess_within_the_range_is_corrected_and_a_worse_one_drops_the_block() -> None:
    run = Bb84Run(plan(rate_ppm=40.0), 5)
    near, far = cutter(run, error_s=0.004, range_s=0.005), cutter(run, error_s=0.08, range_s=0.001)
    good = bad = 0
    for piece in pieces(run):
        confirmed(near, piece)
        confirmed(far, piece)
        while (cut := near.cut()) is not None:
            block = near.resolve(cut, OsEntropy())
            found = block.detections
            good += wrong_share(run, block.number, found.slots, found.basis, found.bit) < 0.03
        while (cut := far.cut()) is not None:
            with pytest.raises(Abort):
                far.resolve(cut, OsEntropy())
            bad += 1
    assert good == 3
    assert bad == far.lost_locks > 0


def test_more_than_fits_is_dropped_in_whole_blocks_and_the_rest_still_locks() -> None:
    run = Bb84Run(plan(), 9)
    blocks, dropped = cutter(run, most_blocks=1), []
    for piece in pieces(run):
        dropped += confirmed(blocks, piece)
    assert dropped == [0, 1]
    cut = blocks.cut()
    assert cut is not None
    assert cut.number == 2
    found = blocks.resolve(cut, OsEntropy()).detections
    assert wrong_share(run, 2, found.slots, found.basis, found.bit) < 0.03


def test_lost_intervals_reach_the_gate_of_their_block_only() -> None:
    run = Bb84Run(plan(), 11)
    blocks = cutter(run)
    lost = []
    for index, piece in enumerate(pieces(run)):
        at = int(piece.ticks[len(piece) // 2])
        hole = ((at, at + 10**10),) if index == 1 else ()
        confirmed(blocks, replace(piece, lost=hole))
        while (cut := blocks.cut()) is not None:
            lost.append(blocks.resolve(cut, OsEntropy()).detections.counters.lost)
    assert lost[0] > 0
    assert lost[1:] == [0] * (len(lost) - 1)
