"""Two pair receivers on simulated time taggers behind their protocols: equal keys, and what is lost enters no block."""

import asyncio
from pathlib import Path

import pytest
from pair_link import Truth, assert_equal_keys, assert_nothing_lost_is_used, laboratory, two_nodes, until


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
            await until(ends, 1)
        assert_equal_keys(*ends)
        for end, truth in zip(ends, truths, strict=True):
            assert assert_nothing_lost_is_used(end, truth.ticks(1)) > 3.0

    with laboratory(tmp_path, "id900", pair_rate_hz=2e5) as lab:
        truths = [Truth(lab, "alice/tagger"), Truth(lab, "bob/tagger")]
        asyncio.run(run())
    assert "the time tagger reports stream_error" in caplog.text
    assert "of it is lost" in caplog.text
