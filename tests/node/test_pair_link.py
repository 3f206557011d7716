"""Two pair receivers on simulated time taggers behind their protocols: equal keys, and what is lost enters no block."""

import asyncio
import json
from pathlib import Path

import pytest
from pair_link import End, Truth, assert_equal_keys, assert_nothing_lost_is_used, laboratory, two_nodes, until

from qkdpp.node.monitors import Alarm, Level
from qkdpp.node.pair_ends import PairEnd


async def assert_an_alarm_of_alice_stops_both(alice: End, bob: End) -> None:
    """What has not been released is burned, no block begins, no pad is spent; the link stays."""
    alice.made.node._pending.append(Alarm(name="test", level=Level.SECURITY, message="a test", remedy="none"))
    async with asyncio.timeout(30):
        while not bob.made.node.status.security:
            await asyncio.sleep(0.05)
    await asyncio.sleep(1.0)
    before = [(len(end.seen.ends), end.made.node._pool.remaining) for end in (alice, bob)]
    await asyncio.sleep(4.0)
    assert before == [(len(end.seen.ends), end.made.node._pool.remaining) for end in (alice, bob)]
    assert (alice.seen.alarms[-1], bob.seen.alarms[-1]) == ("test", "peer_test")
    for end in (alice, bob):
        assert end.made.node.status.link == "up"
        assert set(end.store.states.values()) <= {"released", "burned: test"}
        burned = {block for block, state in end.store.states.items() if state == "burned: test"}
        rows = [json.loads(line) for line in (end.made.folder.path / "blocks.jsonl").read_text().splitlines()]
        assert {row["block"] for row in rows if row.get("discarded") == "test"} == burned


pytestmark = pytest.mark.xdist_group("live")


def test_equal_keys_and_losses_enter_no_block(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Overflow (told of only when asked), a gap of 0.7 s, lost bytes and a cable that is out strike between keys.

    Keys come again after each.
    """

    async def run() -> None:
        async with two_nodes(tmp_path, "tdc1", block_s=2.0) as ends:
            await until(ends, 1)
            lab.faults["bob/tagger"].add("overflow", times=3)
            await until(ends, 1)
            lab.faults["alice/tagger"].add("gap", times=1)
            lab.faults["bob/tagger"].add("byte_slip", times=1)
            await until(ends, 1)
            lab.faults["bob/tagger"].add("disconnect")
            await asyncio.sleep(0.5)
            lab.faults["bob/tagger"].discard("disconnect")
            await until(ends, 1)
        assert_equal_keys(*ends)
        for end, truth in zip(ends, truths, strict=True):
            assert assert_nothing_lost_is_used(end, truth.ticks(2000)) > 3.0
        assert {"data_loss", "instrument"} <= set(ends[1].seen.alarms)

    with laboratory(tmp_path, "tdc1", pair_rate_hz=2e5) as lab:
        truths = [Truth(lab, "alice/tagger"), Truth(lab, "bob/tagger")]
        asyncio.run(run())
    for flag in ("overflow", "byte_slip"):
        assert f"the time tagger reports {flag}" in caplog.text
    assert "reports wrap_ambiguous" in caplog.text or "reports discontinuity" in caplog.text


def test_the_same_with_records_of_an_id900(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Raw time stamps that the unit says it lost: told of only when asked, while the record may still be under way."""

    async def run() -> None:
        async with two_nodes(tmp_path, "id900", block_s=2.0, options="record_s = 0.5") as ends:
            await until(ends, 1)
            lab.faults["bob/tagger"].add("raw_errors", times=1)
            async with asyncio.timeout(60):
                while "of it is lost" not in caplog.text:
                    await asyncio.sleep(0.1)
            await until(ends, 1)
            assert_equal_keys(*ends)
            await assert_an_alarm_of_alice_stops_both(*ends)
        for end, truth in zip(ends, truths, strict=True):
            assert assert_nothing_lost_is_used(end, truth.ticks(1)) > 3.0

    with laboratory(tmp_path, "id900", pair_rate_hz=2e5) as lab:
        truths = [Truth(lab, "alice/tagger"), Truth(lab, "bob/tagger")]
        asyncio.run(run())
    assert "the time tagger reports stream_error" in caplog.text


def test_ends_that_find_no_clock_begin_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Bob's intervals come to lie 1.2 s away, beyond ``timing.offset_range_s``: no search finds that."""

    async def run() -> None:
        async with two_nodes(tmp_path, "tdc1", block_s=1.0) as ends:
            await until(ends, 1)
            bob = ends[1].made.service
            assert isinstance(bob, PairEnd)
            with bob._lock:
                assert bob._blocks is not None
                number, tick, rate = bob._blocks._anchor
                bob._blocks._anchor = (number, tick + 600_000_000, rate)
            async with asyncio.timeout(120):
                while "begin anew" not in caplog.text:
                    await asyncio.sleep(0.05)
            await until(ends, 1)
        assert_equal_keys(*ends)

    with laboratory(tmp_path, "tdc1", pair_rate_hz=2e5):
        asyncio.run(run())
