"""Metrics as Prometheus scrapes them: names of the specification, base units, a port of their own, no secrets."""

import re
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from qkdpp.core.abort import Aborted, AbortReason
from qkdpp.core.bits import Bits
from qkdpp.core.errors import ConfigError, InputError
from qkdpp.node.config import MetricsSection
from qkdpp.node.metrics import Metrics, metrics_of
from qkdpp.node.sink import BlockEnd
from qkdpp.node.status import Status
from qkdpp.pki import create_authority, create_certificate
from qkdpp.protocols.block import BlockLog
from qkdpp.sifting.bbm92 import SiftedPairs
from qkdpp.timing.clock import ClockReport
from qkdpp.timing.pair_values import Matched

SPECIFIED = {
    "qkdpp_raw_events", "qkdpp_sifted_events", "qkdpp_disclosed_bytes", "qkdpp_secret_key_bytes", "qkdpp_blocks",
    "qkdpp_qber_ratio", "qkdpp_phase_error_bound_ratio", "qkdpp_ec_efficiency_ratio", "qkdpp_sync_offset_seconds",
    "qkdpp_sync_drift_ratio", "qkdpp_block_duration_seconds", "qkdpp_last_block_timestamp_seconds",
    "qkdpp_auth_key_available_bytes", "qkdpp_key_store_available_bytes", "qkdpp_key_store_capacity_bytes",
    "qkdpp_visibility_ratio", "qkdpp_coincidence_contrast_ratio", "qkdpp_dark_rate_hertz",
    "qkdpp_key_consumed_bytes", "qkdpp_qkd_link_state", "qkdpp_build_info",
}  # fmt: skip
"""Names of the specification (counters without ``_total``), as far as a node alone knows them."""


def stock():
    totals = {"stored": 500, "app": 64, "burned": 50, "expired": 7}
    return SimpleNamespace(available=300, incoming=200, capacity=1000, totals=totals)


def file(listen, **more):
    parameters = SimpleNamespace(source=SimpleNamespace(intensities=[0.6, 0.2, 0.0]))
    node = SimpleNamespace(name="bob")
    section = MetricsSection(listen=listen, **more)
    return SimpleNamespace(path="bob.toml", folder=None, node=node, parameters=parameters, metrics=section)


def end(result, pool_bits=0):
    now = iter([1.0, 2.5]).__next__
    log = BlockLog(now=now)
    log.start()
    log.mark("corrected", 1)
    traffic = {}
    return BlockEnd(block=1, result=result, log=log, pool_bits=pool_bits, traffic=traffic, eps_auth=0, transcript=[])


def counted():
    metrics = Metrics("bob", (0.6, 0.2, 0.0), stock)
    metrics.block(end(Bits.from_bytes(b"\x99" * 100, 800), pool_bits=256), {"secret_bits": 800})
    metrics.block(end(Aborted(reason=AbortReason.QBER_TOO_HIGH)), {"secret_bits": 0})
    status = Status(name="bob", role="bob", link="up", pool_tags=50, burned_bits=400)
    metrics.changed(status)
    metrics.changed(status)
    return metrics


def values(text):
    return {
        (s.name, *sorted(s.labels.items())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_names_are_those_of_the_specification():
    text = generate_latest(counted().registry).decode()
    assert {family.name for family in text_string_to_metric_families(text)} == SPECIFIED


def test_blocks_keys_and_pool_are_counted_in_blocks_and_bytes():
    found = values(generate_latest(counted().registry).decode())
    link = ("link", "bob")
    assert found["qkdpp_blocks_total", link, ("result", "ok")] == 1
    assert found["qkdpp_blocks_total", link, ("result", "qber_too_high")] == 1
    assert found["qkdpp_secret_key_bytes_total", link] == 100
    assert found["qkdpp_key_consumed_bytes_total", link, ("use", "auth")] == 32
    assert found["qkdpp_key_consumed_bytes_total", link, ("use", "burned")] == 50
    assert found["qkdpp_key_store_available_bytes", ("dir", "tx"), link] == 300
    assert found["qkdpp_key_store_available_bytes", ("dir", "rx"), link] == 200
    assert found["qkdpp_auth_key_available_bytes", link] == 50 * 2 * 16
    assert found["qkdpp_qkd_link_state", link, ("state", "up")] == 1
    assert sum(v for key, v in found.items() if key[0] == "qkdpp_qkd_link_state") == 1
    assert found["qkdpp_block_duration_seconds_sum", link, ("stage", "corrected")] == 3.0


def test_a_block_of_pairs_shows_rates_clock_errors_visibility_and_contrast():
    clock = ClockReport(
        method="pairs", time_s=(), offset_s=(), rate_ppm=(), line_offset_s=0.25, line_rate_ppm=8.0,
        residual_rms_ps=1.0, significance=9.0, locked_share=1.0,
    )  # fmt: skip
    matched = Matched(
        detector=np.repeat(np.arange(4, dtype=np.uint8), [40, 30, 20, 10]), time_s=np.zeros(100, np.float32),
        counters=None, clock=clock, delays_ticks=(), coincidences=SimpleNamespace(accidentals=4.0),
    )  # fmt: skip
    sifted = SiftedPairs(
        key=Bits.from_bytes(bytes(5), 40), key_index=np.arange(40), disclosed=np.full((4, 4), 2), n_test=60,
        test_errors=3, test_index=np.arange(60), test_wrong=np.zeros(60, bool),
    )  # fmt: skip
    ended = end(Bits.from_bytes(b"\x99", 8))
    ended.log.facts |= {"matched": matched, "sifted": sifted}
    metrics = Metrics("bob", (), stock)
    metrics.block(ended, {"secret_bits": 8})
    found = values(generate_latest(metrics.registry).decode())
    link = ("link", "bob")
    assert [found["qkdpp_raw_events_total", ("detector", d), link] for d in ("Z0", "Z1", "X0", "X1")] == [
        40,
        30,
        20,
        10,
    ]
    assert found["qkdpp_sync_offset_seconds", link] == 0.25
    assert found["qkdpp_sync_drift_ratio", link] == pytest.approx(8e-6)
    assert found["qkdpp_coincidence_contrast_ratio", link] == 25.0
    assert found["qkdpp_visibility_ratio", link] == pytest.approx(1 - 2 * 3 / 60)
    assert found["qkdpp_qber_ratio", ("basis", "X"), ("intensity", "pairs"), link] == 0.05
    assert found["qkdpp_disclosed_bytes_total", link, ("stage", "estimation")] == 4.0


@pytest.mark.parametrize(
    ("link", "security", "state"),
    [("down: cut", False, "down"), ("failed: pool_exhausted", False, "failed"), ("the peer has left", False, "left"),
     ("up", True, "stopped")],
)  # fmt: skip
def test_the_state_of_the_link(link, security, state):
    metrics = Metrics("bob", (), stock)
    metrics.changed(Status(name="bob", role="bob", link=link, security=security))
    found = values(generate_latest(metrics.registry).decode())
    assert [dict(key[1:])["state"] for key, v in found.items() if key[0] == "qkdpp_qkd_link_state" and v] == [state]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_it_is_scraped_and_ends_with_the_node():
    port = free_port()
    with metrics_of(file(f":{port}"), stock) as metrics:
        metrics.changed(Status(name="bob", role="bob", link="up"))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    assert 'qkdpp_qkd_link_state{link="bob",state="up"} 1.0' in text
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10)


def test_a_client_that_never_shakes_hands_holds_up_nobody(tmp_path):
    create_authority(tmp_path)
    create_certificate(tmp_path, "bob", "node", hosts=("127.0.0.1",))
    port, trust = free_port(), ssl.create_default_context(cafile=tmp_path / "authority.pem")
    served = file(f":{port}", certificate="bob.pem", key="bob.key")
    served.folder = tmp_path
    with socket.socket() as silent, metrics_of(served, stock):
        silent.connect(("127.0.0.1", port))
        time.sleep(0.1)
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/metrics", timeout=10, context=trust) as answer:
            assert b"qkdpp_build_info" in answer.read()


def test_nothing_is_served_unless_asked_for():
    with metrics_of(file(None), stock) as metrics:
        assert metrics is None


def test_a_port_in_use_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match=r"metrics.listen"), metrics_of(file(f":{taken.getsockname()[1]}"), stock):
            pass


@pytest.mark.parametrize("listen", ["9460", "here:", "here:99999"])
def test_an_address_that_is_none_is_refused(listen):
    with pytest.raises(ConfigError, match=re.escape("metrics.listen")):
        MetricsSection(listen=listen).address()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_say():
    text = generate_latest(counted().registry)
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    assert not done.stderr
