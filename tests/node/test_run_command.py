"""``qkdpp run`` and ``qkdpp replay``: exit codes, and what a person is told."""

import logging
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from two_processes import PATIENCE_S, NodeProcess, free_port, laboratory, qkdpp, trial

from qkdpp.node.config import load_node, with_steps
from qkdpp.node.randomness import sealing_key
from qkdpp.node.replay import open_run
from qkdpp.node.rundir import RunFolder

pytestmark = pytest.mark.xdist_group("live")


@pytest.fixture
def folder(tmp_path):
    trial(tmp_path / "trial", block_s=6.0, loss_db=30.0, metrics=free_port())
    return tmp_path / "trial"


def logs(folder):
    return (folder / "runs").glob("*/log.jsonl")


def without(path, section):
    head, _, rest = path.read_text().partition(f"[{section}]\n")
    path.write_text(head + rest.partition("\n\n")[2])


def test_a_file_that_is_missing_says_how_to_get_one(tmp_path):
    done = qkdpp("run", str(tmp_path / "alice.toml"))
    assert done.returncode == 2
    assert "init --live" in done.stderr


@pytest.mark.parametrize(("name", "said"), [("kme-alice.toml", "qkdpp serve"), ("lab.toml", "laboratory")])
def test_another_kind_of_file_is_named(folder, name, said):
    done = qkdpp("run", str(folder / name))
    assert done.returncode == 2
    assert said in done.stderr


def test_a_certificate_that_is_missing_is_named(folder):
    (folder / "pki" / "bob.pem").unlink()
    with laboratory(folder):
        done = qkdpp("run", str(folder / "bob.toml"))
    assert done.returncode == 2
    assert "bob.pem: no such file" in done.stderr


def test_a_node_needs_a_store(folder):
    without(folder / "alice.toml", "store")
    done = qkdpp("run", str(folder / "alice.toml"))
    assert done.returncode == 2
    assert "[store]" in done.stderr


def test_an_instrument_that_cannot_be_had_is_named(folder):
    done = qkdpp("run", str(folder / "alice.toml"))
    assert done.returncode == 2
    assert "devices.transmitter" in done.stderr
    assert "is it running?" in done.stderr


def test_a_transmitter_that_sends_something_else_is_refused(folder):
    alice = folder / "alice.toml"
    alice.write_text(alice.read_text().replace("p_z_alice = 0.5", "p_z_alice = 0.6"))
    with laboratory(folder):
        done = qkdpp("run", str(alice))
    assert done.returncode == 2
    assert "p_z" in done.stderr


def test_a_port_that_is_taken_is_said(folder):
    port = int(re.search(r'listen = "127.0.0.1:(\d+)"', (folder / "alice.toml").read_text())[1])
    with laboratory(folder), socket.create_server(("127.0.0.1", port)):
        done = qkdpp("run", str(folder / "alice.toml"), "--json")
    assert done.returncode == 2
    assert f"link.listen: cannot listen at 127.0.0.1:{port} (Address already in use)" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_end_of_the_time_without_a_key_is_no_success(folder):
    with laboratory(folder):
        done = qkdpp("run", str(folder / "alice.toml"), "--duration", "1", "--json")
    assert done.returncode == 3
    assert "no key in 1 s" in done.stderr
    assert not done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_and_its_pool_can_be_opened_again(folder, number):
    with laboratory(folder):
        for n in (1, 2):
            alice = NodeProcess(folder, "alice")
            while sum("has started" in log.read_text() for log in logs(folder)) < n:
                assert alice.process.poll() is None, alice.errors.read_text()
                time.sleep(0.1)
            alice.process.send_signal(signal.SIGHUP)
            while sum("SIGHUP: the node goes on" in log.read_text() for log in logs(folder)) < n:
                assert alice.process.poll() is None
                time.sleep(0.05)
            alice.process.send_signal(number)
            assert alice.process.wait(60) == 0, alice.errors.read_text()


def test_plain_lines_without_a_terminal(folder):
    command = [sys.executable, "-P", "-m", "qkdpp", "run", str(folder / "alice.toml"), "--duration", "1"]
    with laboratory(folder):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert "link connecting; starting" in done.stdout
    assert "run folder:" in done.stdout
    assert "\x1b" not in done.stdout


def test_with_steps_no_loop_is_left(folder):
    file = load_node(folder / "bob.toml")
    assert file.calibration.steps
    assert with_steps(file, ()).calibration.steps == ()


def test_a_run_without_a_recording_cannot_be_replayed(folder):
    with laboratory(folder):
        qkdpp("run", str(folder / "alice.toml"), "--duration", "1", "--json")
    (run,) = (folder / "runs").glob("alice-*")
    done = qkdpp("replay", str(run))
    assert done.returncode == 2
    assert "recording.entropy" in done.stderr


def test_a_folder_that_is_no_run_cannot_be_replayed(folder):
    done = qkdpp("replay", str(folder))
    assert done.returncode == 2
    assert "not the run folder of a node" in done.stderr


def test_recorded_randomness_without_tags_is_refused_for_a_receiver(folder):
    bob = folder / "bob.toml"
    bob.write_text(bob.read_text().replace("tags = true", "tags = false"))
    done = qkdpp("run", str(bob))
    assert done.returncode == 2
    assert "recording.tags" in done.stderr


def test_recorded_randomness_without_transcripts_is_refused(folder):
    alice = folder / "alice.toml"
    alice.write_text(alice.read_text().replace("[recording]\n", "[recording]\ntranscripts = false\n"))
    done = qkdpp("run", str(alice))
    assert done.returncode == 2
    assert "recording.transcripts" in done.stderr


def test_a_log_that_is_moved_away_begins_anew_and_transcripts_can_be_left_out(tmp_path):
    folder = RunFolder(tmp_path, "alice", transcripts=False)
    folder.transcript(1, [])
    logging.getLogger("qkdpp.node").info("one")
    (folder.path / "log.jsonl").rename(folder.path / "log.1")
    logging.getLogger("qkdpp.node").info("two")
    folder.close()
    assert "one" in (folder.path / "log.1").read_text()
    assert "two" in (folder.path / "log.jsonl").read_text()
    assert not any((folder.path / "transcripts").iterdir())


def test_a_node_that_was_killed_while_it_wrote_a_row_can_be_replayed(folder):
    run = folder / "runs" / "alice-1"
    (run / "recording").mkdir(parents=True)
    (run / "recording" / "7.sealed").write_bytes(b"")
    (run / "node.toml").write_text((folder / "alice.toml").read_text())
    (run / "blocks.jsonl").write_text('{"block":7,"secret_bits":0}\n{"block":8,"secr')
    sealing_key(folder / "alice.sealing.key")
    assert open_run(run, None).rows == {7: {"block": 7, "secret_bits": 0}}
