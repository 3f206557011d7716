"""What Prometheus sees, read by its own parser; nothing of it names a key."""

import socket
import ssl
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from worlds import OUT_S, World

from qkdpp.delivery.identity import Allowance

SPECIFIED = {
    "qkdpp_api_requests", "qkdpp_api_request_duration_seconds", "qkdpp_keys_delivered", "qkdpp_km_link_up",
    "qkdpp_key_store_available_bytes", "qkdpp_key_store_capacity_bytes", "qkdpp_key_consumed_bytes", "qkdpp_build_info",
}  # fmt: skip
"""Names of the specification (counters without ``_total``) that a key manager knows."""


def test_requests_keys_and_links_are_counted(tmp_path: Path, pki: Path) -> None:
    with World(tmp_path, pki, server='metrics = ":0"') as world:
        with world.client("sae-a") as master, world.client("sae-b") as slave:
            keys = master.get("sae-b", 3)
            slave.fetch("sae-a", [key.key_id for key in keys])
            source = master.open_stream("sae-a", "sae-b")
            slave.open_stream("sae-a", "sae-b", stream_id=source.stream_id)
            source.wait(OUT_S)
        world.ask("sae-a", "GET", "/api/v1/keys/made-up/made-up")
        world.ask("sae-a", "GET", "/api/v1/keys/nobody/status")
        texts = {}
        for own, port in world.metrics.items():
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=OUT_S) as got:
                texts[own] = got.read().decode()
        assert {f.name for f in text_string_to_metric_families(texts["kme-a"])} == SPECIFIED | {
            "qkdpp_key_store_alarms",
            "qkdpp_stream_chunks",
        }
        shown = {
            (own, sample.name, *sorted(sample.labels.values())): sample.value
            for own, text in texts.items()
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    assert shown["kme-a", "qkdpp_keys_delivered_total", "master", "sae-a"] == 3
    assert shown["kme-b", "qkdpp_keys_delivered_total", "sae-b", "slave"] == 3
    assert shown["kme-a", "qkdpp_stream_chunks_total", "sae-a", "source"] == 1
    assert shown["kme-a", "qkdpp_api_requests_total", "200", "enc_keys"] == 1
    assert shown["kme-b", "qkdpp_api_requests_total", "200", "open_connect"] == 1
    assert shown["kme-a", "qkdpp_api_requests_total", "404", "other"] == 1
    assert shown["kme-a", "qkdpp_api_requests_total", "400", "status"] == 1
    assert shown["kme-a", "qkdpp_km_link_up", "kme-b"] == 1
    assert shown["kme-b", "qkdpp_api_request_duration_seconds_count", "dec_keys"] == 1
    for key in keys:
        assert str(key.key_id) not in texts["kme-a"] + texts["kme-b"]
    assert "made-up" not in texts["kme-a"]


def test_under_tls_where_configured(tmp_path: Path, pki: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "qkdpp.delivery")
    with World(tmp_path, pki, server='metrics = ":0"\nmetrics_tls = true') as world:
        where, trust = f"127.0.0.1:{world.metrics['kme-a']}", ssl.create_default_context(cafile=pki / "authority.pem")
        with socket.create_connection(("127.0.0.1", world.metrics["kme-a"])):  # silent: stops nobody else
            with urlopen(f"https://{where}/metrics", timeout=OUT_S, context=trust) as got:
                assert b"qkdpp_km_link_up" in got.read()
            with pytest.raises(OSError):  # noqa: PT011 - however it shows
                urlopen(f"http://{where}/metrics", timeout=OUT_S)
            world.wait(lambda: "in vain" in caplog.text)


def test_an_allowance_fills_with_time() -> None:
    allowance = Allowance(2.0)
    assert [allowance.take(100.0) for _ in range(3)] == [True, True, False]
    assert not allowance.take(100.4)
    assert [allowance.take(100.6), allowance.take(100.6)] == [True, False]
    assert [allowance.take(900.0) for _ in range(3)] == [True, True, False]
