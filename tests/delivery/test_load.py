"""Many keys a second for a while: no error, no key twice, both ends equal, and counters that say what happened."""

import asyncio
from pathlib import Path

import pytest
from load import KEY_BYTES, SAES, Servers, percentiles_ms, run_load, servers
from worlds import KMES

from qkdpp.keystore.look import stock

pytestmark = pytest.mark.xdist_group("live")

RATE_HZ = 500.0
STOCK_BYTES = 10_000_000


def run(folder: Path, pki: Path, seconds: float, connections: int) -> float:
    """Part of the pairs of requests that were asked and answered in time; prints what was measured."""
    offered = round(RATE_HZ * seconds)
    with servers(folder, pki, STOCK_BYTES) as both:
        load = asyncio.run(run_load(pki, both.ports, RATE_HZ, seconds, connections))
        print(f"{load.reached_hz:.1f} of {RATE_HZ:g} pairs/s offered for {seconds:g} s, {load.late} not asked")
        for what, times_s in (("enc_keys", load.enc_s), ("dec_keys", load.dec_s)):
            print(what, {name: f"{ms:.1f} ms" for name, ms in percentiles_ms(times_s).items()})
        assert not load.faults
        n = len(load.keys)
        assert n == len(load.secrets) == len(load.enc_s) == len(load.dec_s) == offered - load.late > 0
        counted(both, n)
        assert both.stop() == dict.fromkeys(KMES, 0)
    for own in KMES:
        _, (link,), broken = stock(folder / own)
        assert broken is None
        assert (link.reserved, link.held, link.closed) == (0, 0, "")
        assert dict(link.totals) == {"stored": STOCK_BYTES, "app": n * KEY_BYTES, "burned": 0, "expired": 0}
    return n / offered


def counted(both: Servers, n: int) -> None:
    for own, peer, method, role, here, there in (
        ("kme-a", "kme-b", "enc_keys", "master", "tx", "rx"),
        ("kme-b", "kme-a", "dec_keys", "slave", "rx", "tx"),
    ):
        shown = both.scrape(own)
        assert shown["qkdpp_api_requests_total", "200", method] == n
        assert shown["qkdpp_api_request_duration_seconds_count", method] == n
        assert shown["qkdpp_keys_delivered_total", role, SAES[own]] == n
        assert shown["qkdpp_key_consumed_bytes_total", peer, "app"] == n * KEY_BYTES
        assert shown["qkdpp_key_consumed_bytes_total", peer, "burned"] == 0
        assert shown["qkdpp_key_store_available_bytes", here, peer] == STOCK_BYTES - n * KEY_BYTES
        assert shown["qkdpp_key_store_available_bytes", there, peer] == 0
        assert shown["qkdpp_km_link_up", peer] == 1
        assert shown["qkdpp_key_store_alarms_total",] == 0
        assert {key[1] for key in shown if key[0] == "qkdpp_api_requests_total"} == {"200"}


def test_for_half_a_minute(tmp_path: Path, pki: Path) -> None:
    """500 pairs a second are offered; a machine that cannot keep up asks fewer, for which no test fails.

    Few enough are under way that a busy one keeps the deadlines of the servers.
    """
    run(tmp_path, pki, 30.0, connections=32)


@pytest.mark.soak
def test_for_five_minutes_at_the_full_rate(tmp_path: Path, pki: Path) -> None:
    assert run(tmp_path, pki, 300.0, connections=128) > 0.999
