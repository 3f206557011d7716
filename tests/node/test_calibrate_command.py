"""``qkdpp calibrate`` against a running node of the sender: results, files, exit codes, and what it leaves behind."""

import json
import signal
import subprocess
import sys

import pytest
from two_processes import change, free_port, laboratory, qkdpp, trial

pytestmark = pytest.mark.xdist_group("live")


def calibrate(folder, *arguments):
    return qkdpp("calibrate", str(folder / "bob.toml"), *arguments)


def node(*arguments, **pipes):
    return subprocess.Popen([sys.executable, "-P", "-m", "qkdpp", *arguments], **pipes)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A laboratory and Alice's node; everything is calibrated once."""
    folder = tmp_path_factory.mktemp("calibrate") / "trial"
    trial(folder, block_s=6.0, loss_db=29.0, metrics=free_port())
    change(folder / "bob.toml", {"step_ps": 80.0})
    with (
        laboratory(folder),
        (folder / "alice.out").open("w") as out,
        node("run", str(folder / "alice.toml"), stdout=out) as alice,
    ):
        try:
            yield folder, calibrate(folder, "--json", "-o", str(folder / "found"))
            alice.send_signal(signal.SIGINT)
            assert alice.wait(30) == 0
        finally:
            alice.kill()


def test_all_loops_of_the_file_succeed_and_leave_results_and_figures(session):
    folder, first = session
    assert first.returncode == 0, first.stderr
    document = json.loads(first.stdout)
    assert document["ok"] is True
    assert list(document["results"]) == ["delay", "polarisation", "synchronisation"]
    assert all(result["ok"] for result in document["results"].values())
    assert min(min(one["extinctions"]) for one in document["results"]["polarisation"]["tries"] if one["ok"]) >= 100.0
    names = {path.name for path in (folder / "found").iterdir()}
    loops = enumerate(document["results"], start=1)
    assert names == {f"{i:03d}-{name}.{end}" for i, name in loops for end in ("json", "svg")}


def test_a_run_soon_after_goes_on_with_it(session):
    folder, _ = session
    done = qkdpp("run", str(folder / "bob.toml"), "--duration", "4", "--json")
    assert done.returncode == 3, "no block has ended"
    log = (max((folder / "runs").glob("bob-*")) / "log.jsonl").read_text()
    assert "the last calibration holds (start)" in log


def test_interrupted_it_puts_the_delays_back_and_darkens_the_sender_and_the_next_one_begins_there(session):
    folder, first = session
    best = json.loads(first.stdout)["results"]["delay"]["best_ps"]
    text = (folder / "bob.toml").read_text()
    (folder / "bob.toml").write_text(text.replace("dwell_s = 0.05", "dwell_s = 0.5"))
    command = ("calibrate", str(folder / "bob.toml"), "delay")
    with node(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "scanning delays" in line:
                break
        assert (folder / "alice.out").read_text().endswith("sending RANDOM\n")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    (folder / "bob.toml").write_text(text)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "sending OFF" in (folder / "alice.out").read_text().rpartition("sending RANDOM")[2]
    done = calibrate(folder, "delay")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("  Z") or line.startswith("  X")]
    assert [float(row[1]) for row in rows] == best
    assert "scanning delays: 100%" in done.stderr
    assert "polarisation" not in done.stdout


def test_an_extinction_out_of_reach_is_exit_code_three_and_still_shows_what_was_found(session):
    folder, _ = session
    text = (folder / "bob.toml").read_text()
    harder = "[calibration.polarisation]\nextinction = 1e6\nmost_counts = 5\ntries = 1\n"
    (folder / "bob.toml").write_text(text.replace("[calibration.polarisation]\n", harder))
    done = calibrate(folder, "polarisation")
    (folder / "bob.toml").write_text(text)
    assert done.returncode == 3, done.stderr
    assert "FAILED" in done.stdout
    assert "are asked for" in done.stderr


def test_the_file_of_the_sender_is_refused_with_the_way_to_do_it(session):
    folder, _ = session
    done = qkdpp("calibrate", str(folder / "alice.toml"))
    assert done.returncode == 2
    assert "receiver" in done.stderr
