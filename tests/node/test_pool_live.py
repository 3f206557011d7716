"""The authentication pool of two running nodes: refilled from their key, no pad twice; and run dry."""

import asyncio
import shutil
from collections import Counter
from pathlib import Path

import pytest
import two_processes as processes
from pair_link import End, assert_equal_keys, laboratory, two_nodes, until
from two_processes import change, free_port, trial

from qkdpp.core.entropy import OsEntropy
from qkdpp.link.pool import Pool
from qkdpp.link.pool_file import create_pool

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
    folder = tmp_path / "link"
    trial(folder, block_s=2.0, loss_db=23.0, metrics=free_port())
    lab = folder / "lab.toml"
    lab.write_text(lab.read_text().replace("[world]\n", "[world]\naligned_ps = 20.0\n", 1))
    create_pool(folder / "new.pool", 48, OsEntropy())
    for name in ("alice", "bob"):
        change(folder / f"{name}.toml", {"refill_below": 0, "refill_to": 0})
        shutil.copy(folder / "new.pool", folder / f"{name}.pool")
    with processes.laboratory(folder), processes.two_nodes(folder, "--no-calibrate") as nodes:
        codes = [node.process.wait(60) for node in nodes]
    assert codes == [3, 3]
    for node in nodes:
        assert {"pool_low", "pool_exhausted"} <= set(node.alarms())
        assert "make a new one for both parties" in node.errors.read_text()
        assert node.secret_blocks()
