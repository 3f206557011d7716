"""The authentication pool of two running nodes: refilled from their key, no pad twice; and run dry."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from pair_link import End, assert_equal_keys, laboratory, two_nodes, until

from qkdpp.link.pool import Pool
from qkdpp.node.run import refusal

pytestmark = pytest.mark.xdist_group("live")

TAGS = 36


class Pads:
    """Every pad that is given out or verified with, by role, lane and number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: Counter[tuple[str, int]] = Counter()
        self.pads: dict[tuple[str, int], set[bytes]] = {}
        take, peek = Pool.take, Pool.peek

        def taken(pool: Pool, *more: int | None) -> tuple[int, bytes]:
            number, pad = take(pool, *more)
            self.sent[pool._role, number] += 1
            self.pads.setdefault((pool._role, number), set()).add(pad)
            return number, pad

        def peeked(pool: Pool, index: int) -> bytes:
            pad = peek(pool, index)
            lane = "bob" if pool._role == "alice" else "alice"
            self.pads.setdefault((lane, index), set()).add(pad)
            return pad

        monkeypatch.setattr(Pool, "take", taken)
        monkeypatch.setattr(Pool, "peek", peeked)


def test_distilled_key_refills_the_pool_and_no_pad_serves_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pads = Pads(monkeypatch)

    async def run() -> tuple[End, End]:
        async with two_nodes(
            tmp_path, "tdc1", block_s=3.0, tags=TAGS, pool="refill_below = 34\nrefill_to = 36"
        ) as ends:
            while (
                min(max((n for lane, n in pads.sent if lane == role), default=0) for role in ("alice", "bob"))
                < TAGS + 3
            ):
                await until(ends, 1)
        assert_equal_keys(*ends)
        return ends

    with laboratory(tmp_path, "tdc1", pair_rate_hz=2e5):
        ends = asyncio.run(run())
    assert set(pads.sent.values()) == {1}
    assert all(len(pad) == 1 for pad in pads.pads.values()), "both sides used the same pad under one number"
    distinct = {pad for (pad,) in pads.pads.values()}
    assert len(distinct) == len(pads.pads)
    refilled = [{block: end.pool_bits for block, end in one.seen.ends.items() if end.pool_bits} for one in ends]
    assert refilled[0] == refilled[1]
    print(f"{sum(refilled[0].values())} bits into the pool by {len(refilled[0])} blocks; {len(distinct)} pads used")
    assert sum(refilled[0].values()) >= 2 * 128 * 4


def test_a_pool_that_runs_dry_ends_both_nodes_with_an_alarm(tmp_path: Path) -> None:
    async def run() -> tuple[End, End]:
        async with two_nodes(tmp_path, "tdc1", block_s=1.0, tags=40) as ends, asyncio.timeout(60):
            while not all(end.made.node.status.failure for end in ends):
                await asyncio.sleep(0.1)
        assert_equal_keys(*ends)
        return ends

    with laboratory(tmp_path, "tdc1", pair_rate_hz=5e4):
        ends = asyncio.run(run())
    for end in ends:
        assert "pool_low" in end.seen.alarms
        assert "pool_exhausted" in end.seen.alarms
        assert "make a new one for both parties" in refusal(end.made.node.status, None)
        assert end.made.node.status.pool_tags > 0, "what is left is for taking leave"
