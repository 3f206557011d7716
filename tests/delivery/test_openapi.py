"""The description fits the server, and the one in the documentation is fresh; schemathesis finds nothing."""

import json
from pathlib import Path

import pytest
from worlds import World

from qkdpp.delivery.bodies import Limits
from qkdpp.delivery.openapi import describe

PAGE = Path(__file__).parents[2] / "docs/formats/delivery.openapi.json"


def test_the_page_is_fresh() -> None:
    """Made by: python -m qkdpp.delivery.openapi > docs/formats/delivery.openapi.json."""
    assert json.loads(PAGE.read_text(encoding="utf-8")) == describe(Limits())


def test_the_server_tells_its_own_limits(tmp_path: Path, pki: Path) -> None:
    with World(tmp_path, pki, extra="[limits]\nmax_key_per_request = 7") as world:
        got = world.ask("sae-a", "GET", "/openapi.json").body
        assert got == describe(Limits(max_key_per_request=7))
        assert got["components"]["schemas"]["KeyRequest"]["properties"]["number"]["maximum"] == 7


def test_every_status_and_method_of_the_standard_is_described() -> None:
    paths = describe(Limits())["paths"]
    assert {
        (path.rpartition("/")[2], verb) for path, item in paths.items() for verb in item if verb != "parameters"
    } == {
        ("status", "get"),
        ("enc_keys", "get"),
        ("enc_keys", "post"),
        ("dec_keys", "get"),
        ("dec_keys", "post"),
        ("open_connect", "post"),
        ("get_key", "post"),
        ("close", "post"),
    }
    for path, item in paths.items():
        for verb in item.keys() - {"parameters"}:
            missing = {"404"} if "key_stream_ID" in path else set()
            assert set(item[verb]["responses"]) == {"200", "400", "401", "503", "405"} | missing


def with_what_exists(description, stream):
    for item in description["paths"].values():
        for parameter in item["parameters"]:
            parameter["schema"]["enum"] = [stream if parameter["name"] == "key_stream_ID" else "sae-b"]
    for end, sae in (("source", "sae-a"), ("destination", "sae-b")):
        description["components"]["schemas"]["OpenConnect"]["properties"][end]["enum"] = [sae]
    return description


@pytest.mark.parametrize("examples", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_schemathesis_finds_nothing(world: World, caplog: pytest.LogCaptureFixture, examples: int) -> None:
    """Two of its checks contradict the standard: 400 for a key that is not there, 503 for too little key.

    503 for a fault of ours is told from that by the log.
    """
    schemathesis = pytest.importorskip("schemathesis", reason="needs the package schemathesis")
    import subprocess
    import sys

    description = world.folder / "openapi.json"
    with world.client("sae-a") as a, world.client("sae-b") as b:
        stream = str(a.open_stream("sae-a", "sae-b", Timeout=100).stream_id)
        b.open_stream("sae-a", "sae-b", stream_id=stream)
    description.write_text(json.dumps(with_what_exists(describe(Limits()), stream)), encoding="utf-8")
    assert schemathesis
    done = subprocess.run(
        [
            sys.executable, "-P", "-m", "schemathesis.cli", "run", str(description),
            "--url", f"https://127.0.0.1:{world.ports['kme-a']}",
            "--request-cert", str(world.pki / "sae-a.pem"), "--request-cert-key", str(world.pki / "sae-a.key"),
            "--tls-verify", str(world.pki / "authority.pem"), "--max-examples", str(examples), "--seed", "1",
            "--generation-database", "none", "--no-color",
            "--exclude-checks", "positive_data_acceptance,not_a_server_error",
        ],
        cwd=world.folder, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert not [record for record in caplog.records if record.levelname == "ERROR" and record.name.startswith("qkdpp")]
