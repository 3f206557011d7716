"""The laboratory as a program: what it is told, what it says, one of a file at a time."""

import signal
import subprocess
import sys

import pytest

from qkdpp_drivers.sim.lab import Lab, LabFile, build_world

COMMAND = [sys.executable, "-P", "-m", "qkdpp_drivers.sim.lab"]
LAB = 'scenario = "pair-lab"\n[instruments]\n"bob/tagger" = "tdc1-bob"\n'


def said(*arguments):
    done = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.fixture
def lab(tmp_path):
    path = tmp_path / "lab.toml"
    path.write_text(LAB)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*COMMAND, str(path)], **pipes, text=True) as process:
        try:
            assert "is running" in process.stdout.readline()
            yield path, process
        finally:
            process.kill()


def test_files_that_are_none(tmp_path):
    assert "qkdpp init --live" in said(tmp_path / "lab.toml")[1]
    other = tmp_path / "bob.toml"
    other.write_text("[node]\n")
    code, text = said(other)
    assert code
    assert "lab.toml" in text
    assert said()[0]


def test_one_of_a_file_at_a_time(lab):
    path, process = lab
    code, text = said(path)
    assert code
    assert "is running" in text
    assert path.with_suffix(".json").exists()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert process.stderr.read() == ""
    assert not path.with_suffix(".json").exists()


def test_orders_that_are_not_understood(lab):
    _, process = lab
    orders = ["help", "hello", "fault nobody byte_slip", "fault bob/tagger nonsense", "eve intercept 0.1", "fibre"]
    out, errors = process.communicate("\n".join([*orders, "mend bob/tagger byte_slip", "stop"]), timeout=20)
    assert errors == ""
    assert out.count("orders:") == 6
    assert "no 'nobody'" in out
    assert "no pulsed source" in out
    assert "bob/tagger: byte_slip is off" in out
    assert process.returncode == 0


def test_shares_and_attacks_that_there_are_not():
    world = build_world(LabFile(scenario="backbone-625mhz", seed=1, instruments={}))
    made = Lab(world=world, hosts={}, faults={})
    assert "share" in made.order("eve intercept 3")
    assert "eve knows intercept" in made.order("eve drop 1")
    assert made.order("eve intercept 0.3") == "eve: intercept = 0.3"
