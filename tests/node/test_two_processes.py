"""Two processes fed by instrument bytes alone: calibrations, keys, applications, metrics, and the replay of it all."""

import base64
import json
import re
import shlex
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from two_processes import PATIENCE_S, free_port, given_out, laboratory, qkdpp, served_at, trial, two_nodes, whole_bytes

from qkdpp.core.keyfile import read_key
from qkdpp.delivery import Client

pytestmark = pytest.mark.xdist_group("live")

BLOCKS = 2
ROOT = Path(__file__).parents[2]


def application(folder, node):
    pki = folder / "pki"
    files = {"certificate": pki / f"sae-{node}.pem", "key": pki / f"sae-{node}.key"}
    return Client(served_at(folder, node), authority=pki / "authority.pem", **files)


def applications(folder):
    """Two keys for Alice's application and the same by identifier for Bob's, while both nodes run."""
    with application(folder, "alice") as alice, application(folder, "bob") as bob:
        deadline = time.monotonic() + PATIENCE_S
        while alice.status("sae-bob").stored_key_count < 4:  # the first even block has left quarantine
            assert time.monotonic() < deadline
            time.sleep(0.2)
        keys = alice.get("sae-bob", 2)
        return keys, bob.fetch("sae-alice", [key.key_id for key in keys])


def shown_by_curl(folder):
    """The commands of the page, in their order; None without curl."""
    if shutil.which("curl") is None:
        return None
    page = (ROOT / "docs/live.md").read_text().replace("\\\n", " ")
    commands, answers, key_id = re.findall(r"^curl .*$", page, re.M), [], "KEY_ID"
    for command, node in zip(commands, ("alice", "bob"), strict=True):
        typed = re.sub(r"127\.0\.0\.1:\d+", served_at(folder, node), command).replace("KEY_ID", key_id)
        done = subprocess.run(
            [*shlex.split(typed), "--silent", "--show-error"],
            cwd=folder.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout)["keys"])
        key_id = answers[0][0]["key_ID"]
    return answers


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Everything that one short session left: events of both sides, exit codes, run folders, a scrape."""
    folder, port = tmp_path_factory.mktemp("live") / "link", free_port()
    trial(folder, block_s=6.0, loss_db=25.0, metrics=port)
    with laboratory(folder), two_nodes(folder) as (alice, bob):
        bob.wait_for_keys(BLOCKS)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            scrape = answer.read().decode()
        keys, curl = applications(folder), shown_by_curl(folder)
        codes = bob.stop(), alice.stop()
    found = {"folder": folder, "alice": alice, "bob": bob, "codes": codes, "scrape": scrape, "keys": keys, "curl": curl}
    return found | {"delivered": delivered(keys, curl)}


def delivered(keys, curl):
    """All bytes that applications got, in order."""
    by_curl = b"" if curl is None else base64.b64decode(curl[0][0]["key"])
    return b"".join(key.key for key in keys[0]) + by_curl


@pytest.fixture(scope="module")
def replayed(session):
    """Keys of the replay by side and block."""
    found = {}
    for name in ("alice", "bob"):
        run = session[name].run
        done = qkdpp("replay", str(run), "--json")
        assert done.returncode == 0, done.stderr
        out = run.with_name(run.name + "-replay")
        document = json.loads((out / "replay.json").read_text())
        assert document["deliverable"] is False
        assert all(block["deliverable"] is False for block in document["blocks"])
        keys = {b["block"]: b["secret_bits"] for b in document["blocks"] if b["secret_bits"]}
        found[name] = {block: read_key(out / f"{block}.test.key", bits) for block, bits in keys.items()}
    return found


def test_both_end_cleanly_with_the_same_blocks(session):
    assert session["codes"] == (0, 0)
    alice, bob = ({e["block"]: e["secret_bits"] for e in session[name].secret_blocks()} for name in ("alice", "bob"))
    assert alice == bob
    assert len(alice) >= BLOCKS


def test_applications_at_both_ends_get_equal_keys_while_the_nodes_run(session):
    first, second = session["keys"]
    assert first == second
    assert {len(key.key) for key in first} == {32}
    assert first[0].key != first[1].key


def test_the_commands_of_the_page_give_equal_keys(session):
    if session["curl"] is None:
        pytest.skip("needs curl")
    first, second = session["curl"]
    assert first == second
    assert len(base64.b64decode(first[0]["key"])) == 32


def test_every_calibration_left_its_result_and_figure(session):
    folder = session["bob"].run / "calibration"
    for name in ("delay", "polarisation", "synchronisation"):
        last = max(folder.glob(f"*-{name}.json"))
        assert json.loads(last.read_text())["ok"] is True
        assert last.with_suffix(".svg").exists()


def test_the_run_folder_says_what_happened(session):
    for name in ("alice", "bob"):
        run = session[name].run
        rows = [json.loads(line) for line in (run / "blocks.jsonl").read_text().splitlines()]
        assert [e for e in session[name].events() if e["event"] == "block"] == [{"event": "block", **r} for r in rows]
        assert len((run / "blocks.csv").read_text().splitlines()) == 1 + len(rows)
        assert (run / "node.toml").read_text() == (session["folder"] / f"{name}.toml").read_text()
        assert "the link is up" in (run / "log.jsonl").read_text()
        assert {path.name for path in (run / "transcripts").iterdir()} == {str(row["block"]) for row in rows}
    devices = [json.loads(line)["device"] for line in (session["bob"].run / "devices.jsonl").read_text().splitlines()]
    assert {"tagger", "gates", "rectilinear", "diagonal"} <= set(devices)


def test_replay_gives_the_keys_of_both_stores(session, replayed):
    assert replayed["alice"].keys() == replayed["bob"].keys()
    assert len(replayed["alice"]) >= BLOCKS
    for block, key in replayed["alice"].items():
        assert key.equals(replayed["bob"][block])
    streams = given_out(session["folder"])
    streams["alice"] = session["delivered"] + streams.get("alice", b"")
    assert sum(map(len, streams.values())) == sum(len(whole_bytes(key)) for key in replayed["alice"].values())
    for key in replayed["alice"].values():
        assert any(whole_bytes(key) in stream for stream in streams.values())


def test_keys_lie_nowhere_else(session, replayed):
    pieces = [whole_bytes(key)[:24] for key in replayed["alice"].values()] + [session["delivered"][-24:]]
    aligned = [base64.b64encode(bytes(n) + piece)[4 * (n > 0) : -4] for piece in pieces for n in range(3)]
    needles = [*pieces, *(piece.hex().encode() for piece in pieces), *aligned]
    for path in session["folder"].rglob("*"):
        if path.is_file() and not path.name.endswith(".test.key"):
            data = path.read_bytes()
            assert not any(needle in data for needle in needles), path


def test_recordings_are_the_owners_alone(session):
    for name in ("alice", "bob"):
        folder = session[name].run / "recording"
        assert folder.stat().st_mode & 0o077 == 0
        assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())


def test_a_replay_with_another_key_or_a_changed_transcript_is_refused(session, replayed, tmp_path):
    run = session["bob"].run
    other = tmp_path / "other.key"
    other.write_bytes(bytes(32))
    other.chmod(0o400)
    done = qkdpp("replay", str(run), "--key", str(other), "-o", str(tmp_path / "a"))
    assert done.returncode == 2
    assert "sealed with another key" in done.stderr
    copy = tmp_path / "run"
    subprocess.run(["cp", "-r", str(run), str(copy)], check=True)
    block = min(replayed["bob"])
    transcript = copy / "transcripts" / str(block)
    data = bytearray(transcript.read_bytes())
    at = data.index(b"Announcement") if b"Announcement" in data else len(data) // 2
    data[at + 200] ^= 1
    transcript.write_bytes(data)
    done = qkdpp("replay", str(copy), "--key", str(session["folder"] / "bob.sealing.key"), "-o", str(tmp_path / "b"))
    assert done.returncode == 2, done.stdout


def test_the_scrape_counts_what_the_rows_say(session):
    samples = {
        (s.name, s.labels.get("result")): s.value
        for family in text_string_to_metric_families(session["scrape"])
        for s in family.samples
        if s.name in ("qkdpp_blocks_total", "qkdpp_secret_key_bytes_total")
    }
    rows = session["bob"].secret_blocks()[: int(samples["qkdpp_blocks_total", "ok"])]
    assert samples["qkdpp_secret_key_bytes_total", None] == sum(row["secret_bits"] for row in rows) / 8
