"""Cutting a pair receiver's stream, and the thread that reads a tagger: what is confirmed, lost and kept."""

import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from qkdpp.core.devices import Chunk
from qkdpp.core.errors import DeviceError
from qkdpp.core.tags import TimeTags
from qkdpp.node.live_pairs import PairBlocks, lost_share
from qkdpp.node.pump import Delivery, Pump

TICK_AS = 2_000_000_000
PER_S = 500_000_000


def tags(first: int, last: int, step: int = 1000, lost: tuple[tuple[int, int], ...] = ()) -> TimeTags:
    """Tags at all multiples of ``step`` from ``first`` to before ``last``."""
    ticks = np.arange(-(-first // step) * step, last, step, dtype=np.int64)
    channel = np.zeros(ticks.size, np.uint8)
    return TimeTags(ticks=ticks, channel=channel, channel_ids=(1,), tick_as=TICK_AS, lost=lost)


def blocks(begin: int = 12_345, length_s: float = 0.01, **options: int) -> PairBlocks:
    return PairBlocks(tick_as=TICK_AS, begin_tick=begin, length_s=length_s, **options)


def fed(cutter: PairBlocks, until: int, size: int = 700_000) -> PairBlocks:
    for first in range(0, until, size):
        cutter.add(tags(first, min(first + size, until)))
    return cutter


def test_intervals_follow_one_another_and_no_tag_is_missing_or_doubled() -> None:
    cutter = fed(blocks(), 30_000_000)
    cutter.confirm(30_000_000)
    found = []
    while (number := cutter.complete()) is not None:
        part = cutter.take(number)
        assert part is not None
        assert part.ticks[0] >= 0
        assert part.ticks[-1] < 5_000_000
        found.append(part.ticks + 12_345 + number * 5_000_000)
    assert len(found) == 5
    assert np.array_equal(np.concatenate(found), np.arange(13_000, 25_012_345, 1000))


def test_nothing_is_given_out_before_the_verdict() -> None:
    cutter = fed(blocks(), 5_000_000)
    assert not cutter.unjudged
    fed(cutter, 6_000_000)
    assert cutter.unjudged
    assert cutter.complete() is None
    assert cutter.take(0) is None
    cutter.confirm(5_012_344)
    assert cutter.take(0) is None
    cutter.confirm(5_012_345)
    assert not cutter.unjudged
    assert cutter.take(0) is not None


def test_a_loss_that_comes_to_light_late_lies_in_the_intervals_it_concerns() -> None:
    cutter = fed(blocks(begin=0), 11_000_000)
    cutter.add(tags(11_000_000, 16_000_000, lost=((4_000_000, 10_400_000),)))
    cutter.confirm(16_000_000)
    lost = [cutter.take(number).lost for number in range(3)]  # type: ignore[union-attr]
    assert lost == [((4_000_000, 5_000_000),), ((0, 5_000_000),), ((0, 400_000),)]


def test_overlapping_losses_count_once() -> None:
    part = tags(0, 1_000_000, lost=((0, 400_000), (200_000, 500_000), (100_000, 150_000), (750_000, 1_000_000)))
    assert lost_share(part, 0.002) == pytest.approx(0.75)


def test_a_loss_told_of_without_tags_is_kept() -> None:
    cutter = blocks(begin=0)
    cutter.add(tags(0, 1_000_000))
    cutter.add(tags(0, 0, lost=((1_000_000, 2_000_000),)))
    cutter.add(tags(2_000_000, 6_000_000))
    cutter.confirm(5_999_000)
    part = cutter.take(0)
    assert part is not None
    assert part.lost == ((1_000_000, 2_000_000),)


def test_what_nobody_takes_is_dropped_whole_and_memory_is_bounded() -> None:
    cutter = blocks(begin=0, most_blocks=2)
    dropped = []
    for first in range(0, 100_000_000, 1_000_000):
        cutter.add(tags(first, first + 1_000_000))
        dropped += cutter.overdue()
    assert dropped == list(range(17))
    cutter.confirm(100_000_000)
    assert cutter.take(16) is None
    part = cutter.take(18)
    assert part is not None
    assert len(part) == 5000
    assert cutter.take(17) is None  # what comes before one that was taken is gone


@pytest.mark.parametrize("in_flight", [1, 4])
@pytest.mark.parametrize("rate", [0.0, 8e-6, -30e-6])
def test_the_follower_s_intervals_stay_with_the_peer_s(rate: float, in_flight: int) -> None:
    """Interval k of the peer begins at ``(k T) (1 + rate) + offset``; a block tells what it found a little later."""
    offset, length = 345_678, PER_S // 100
    cutter = blocks(begin=0, length_s=0.01, most_blocks=10)

    def truth(number: int) -> int:
        return round(number * length * (1 + rate)) + offset

    found: deque[tuple[int, int]] = deque()
    for number in range(30):
        fed_until = cutter.begin(number + 1) + 1_000_000
        cutter.add(tags(fed_until - 100_000, fed_until))
        cutter.confirm(fed_until)
        begin = cutter.begin(number)
        assert cutter.take(number) is not None
        assert number < in_flight or abs(begin - truth(number)) <= 3
        found.append((number, truth(number) - begin))
        if len(found) == in_flight:
            ended, off = found.popleft()
            cutter.follow(ended, off * TICK_AS / 1e18, rate)
    assert abs(cutter.begin(1000) - truth(1000)) <= 3
    cutter.follow(1, 0.5, 0.0)  # a block that ended late changes nothing
    assert abs(cutter.begin(1000) - truth(1000)) <= 3


@pytest.mark.parametrize("drift_per_s", [0.0, 4e-7, -4e-7])
@pytest.mark.parametrize("late", [1, 3, 6])
def test_what_a_lock_says_of_later_intervals_holds_while_the_rate_drifts(drift_per_s: float, late: int) -> None:
    """A satellite pass changes the rate by 4e-7 a second at most; each block tells ``late`` intervals later."""
    rate, length_s = 8e-6, 2.0
    cutter = blocks(begin=0, length_s=length_s, most_blocks=1000)

    def truth(number: int) -> float:
        since = number * length_s
        return (since * (1 + rate) + drift_per_s * since**2 / 2) * 1e18 / TICK_AS

    begun: dict[int, int] = {}
    for number in range(20):
        begin = begun[number] = cutter.begin(number)
        until = cutter.begin(number + 1) + 1
        cutter.add(tags(until, until + 1, step=1))
        cutter.confirm(until)
        assert cutter.take(number) is not None
        known = cutter.expected(number)
        assert (known is None) == (number < late)
        if known is not None:
            slope = rate + drift_per_s * number * length_s
            assert abs(truth(number) - begin) * TICK_AS / 1e18 <= known.reach_s < 2e-4
            for end in (slope, slope + drift_per_s * length_s):
                assert abs(end - known.rate) <= known.max_change
        if number + 1 >= late:
            ended = number + 1 - late
            found = rate + drift_per_s * (ended + 0.5) * length_s
            cutter.follow(ended, (truth(ended) - begun[ended]) * TICK_AS / 1e18, found)


def test_a_lock_of_long_ago_says_nothing() -> None:
    cutter = blocks(begin=0, length_s=2.0, most_blocks=1000)
    assert cutter.expected(0) is None
    cutter.add(tags(0, 2 * PER_S + 1, step=PER_S // 10))
    cutter.confirm(2 * PER_S)
    assert cutter.take(0) is not None
    cutter.follow(0, 1e-3, 5e-6)
    reach = [known.reach_s for k in range(100) if (known := cutter.expected(k)) is not None]
    assert np.all(np.diff(reach) > 0)
    assert 10 < len(reach) < 50


# --- the pump -------------------------------------------------------------------------------------------------------


class Scripted:
    """A tagger of given chunks, ``period_s`` apart; ``verdicts`` are what ``status`` answers."""

    def __init__(self, chunks: list[Chunk], verdicts: list[dict[str, object]] | None = None) -> None:
        self.chunks, self.verdicts = deque(chunks), deque(verdicts or [])
        self.error: DeviceError | None = None
        self.asked_after: list[int] = []
        self.delivered = 0

    def read(self, timeout_s: float) -> Chunk:
        if self.error is not None:
            raise self.error
        if not self.chunks:
            time.sleep(0.001)
            return Chunk(tags=tags(0, 0))
        self.delivered += 1
        return self.chunks.popleft()

    def status(self) -> dict[str, object]:
        self.asked_after.append(self.delivered)
        return self.verdicts.popleft() if self.verdicts else {"clean": True}


def chunks(n: int, size: int = 1_000_000) -> list[Chunk]:
    return [Chunk(tags=tags(k * size, (k + 1) * size)) for k in range(n)]


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def all_of(pump: Pump, n: int) -> Iterator[Delivery]:
    for _ in range(n):
        delivery = pump.take(5.0)
        assert delivery is not None
        yield delivery


def test_a_verdict_confirms_what_was_read_before_it_and_no_more() -> None:
    tagger = Scripted(chunks(2))
    with Pump(tagger) as pump:  # type: ignore[arg-type]
        first = list(all_of(pump, 2))
        pump.judge()
        pump.judge()
        tagger.chunks.extend([Chunk(tags=tags(2_000_000, 3_000_000))])
        found = pump.take(5.0)
        assert [delivery.confirmed_tick for delivery in first] == [None, None]
        while found is not None and found.confirmed_tick is None:
            found = pump.take(5.0)
    assert found is not None
    assert len(tagger.asked_after) == 1
    assert found.confirmed_tick == tagger.asked_after[0] * 1_000_000 - 1000


def test_a_verdict_that_is_not_clean_condemns_all_between_the_clean_ones() -> None:
    verdicts: list[dict[str, object]] = [{"clean": True}, {"clean": False}, {"clean": True}, {"clean": True}]
    tagger = Scripted([], verdicts)
    lost, confirmed = [], []
    with Pump(tagger) as pump:  # type: ignore[arg-type]
        for k in range(4):
            tagger.chunks.append(Chunk(tags=tags(k * 1_000_000, (k + 1) * 1_000_000)))
            list(all_of(pump, 1))
            pump.judge()
            delivery = next(all_of(pump, 1))
            lost.append(delivery.chunk.tags.lost)
            confirmed.append(delivery.confirmed_tick)
    ends = [999_000, 1_999_000, 2_999_000, 3_999_000]
    assert confirmed == ends
    assert lost == [(), ((ends[0], ends[1] + 1),), ((ends[1], ends[2] + 1),), ()]


def test_an_instrument_may_confirm_less_than_it_delivered() -> None:
    tagger = Scripted(chunks(1), [{"clean": True, "confirmed_tick": 400_000}])
    with Pump(tagger) as pump:  # type: ignore[arg-type]
        list(all_of(pump, 1))
        pump.judge()
        assert next(all_of(pump, 1)).confirmed_tick == 400_000


def test_shedding_drops_whole_intervals_of_all_channels_and_says_which() -> None:
    """Nobody takes while 20 chunks come; what is missing then is one interval, marked as lost, and counted."""
    tagger = Scripted(chunks(20))
    with Pump(tagger, most_tags=3000) as pump:  # type: ignore[arg-type]
        until(lambda: pump.shed_tags == 17_000)
        kept = list(all_of(pump, 3))
        assert pump.take(0.05) is None
        tagger.chunks.append(Chunk(tags=tags(20_000_000, 21_000_000)))
        kept += all_of(pump, 1)
    assert [delivery.chunk.flags for delivery in kept] == [(), (), (), ("shed",)]
    assert kept[-1].chunk.tags.lost == ((3_000_000, 20_000_000),)
    there = np.concatenate([delivery.chunk.tags.ticks for delivery in kept])
    assert np.array_equal(there, np.r_[0:3_000_000:1000, 20_000_000:21_000_000:1000])


def test_losses_are_passed_on_even_while_tags_are_shed() -> None:
    loss = ((1_500_000, 1_600_000),)
    tagger = Scripted([*chunks(1), Chunk(tags=tags(1_000_000, 2_000_000, lost=loss), flags=("overflow",))])
    with Pump(tagger, most_tags=500) as pump:  # type: ignore[arg-type]
        until(lambda: pump.shed_tags == 1000)
        _, second = all_of(pump, 2)
    assert len(second.chunk.tags) == 0
    assert second.chunk.flags == ("overflow",)
    assert second.chunk.tags.lost == loss


def test_what_the_tagger_fails_with_reaches_the_taker_after_what_it_delivered() -> None:
    tagger = Scripted(chunks(2))
    with Pump(tagger) as pump:  # type: ignore[arg-type]
        until(lambda: not tagger.chunks)
        tagger.error = DeviceError("unplugged")
        assert len(list(all_of(pump, 2))) == 2
        with pytest.raises(DeviceError, match="unplugged"):
            pump.take(5.0)


def test_a_driver_that_breaks_down_is_not_taken_for_silence() -> None:
    tagger = Scripted([])
    tagger.error = ValueError("a bug")
    with Pump(tagger) as pump, pytest.raises(ValueError, match="a bug"):  # type: ignore[arg-type]
        pump.take(5.0)
