"""Full disks, closed pipes, folders that cannot be written, odd maps: one line each, and nothing half done."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qkdpp.core.errors import InputError
from qkdpp.offline.folder import new_folder

EXAMPLE = Path(__file__).parents[2] / "examples" / "fibre"


def qkdpp(*arguments: object, stdout: int | None = subprocess.PIPE, cwd: Path | None = None):
    return subprocess.run(
        [sys.executable, "-P", "-m", "qkdpp", *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        check=False,
        timeout=300,
    )


def edited(tmp_path: Path, *pairs: tuple[str, str]) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("alice.h5", "bob.ptu"):
        (run / name).symlink_to(EXAMPLE / name)
    text = (EXAMPLE / "run.toml").read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    (run / "run.toml").write_text(text)
    return run


@pytest.mark.parametrize(
    "command", [["info", EXAMPLE / "bob.ptu"], ["distill", EXAMPLE, "--scan", "gate_ps=800:800:1"]]
)
def test_a_full_output_is_one_line_and_no_traceback(command, tmp_path):
    with open("/dev/full", "w") as full:
        done = qkdpp(*command, stdout=full.fileno(), cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "qkdpp: " in done.stderr


@pytest.mark.parametrize("verb", ["simulate", "distill"])
def test_a_place_that_cannot_be_written(verb):
    what = "example" if verb == "simulate" else EXAMPLE
    options = ["--duration-s", "0.1"] if verb == "simulate" else ["--to", "0.2"]
    done = qkdpp(verb, what, "-o", "/proc/nowhere/out", *options)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "/proc/nowhere" in done.stderr


def test_a_folder_that_fails_half_way_leaves_nothing(tmp_path):
    def fill() -> None:
        with new_folder(tmp_path / "out") as part:
            (part / "report.json").write_text("{}")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fill()
    assert list(tmp_path.iterdir()) == []
    with new_folder(tmp_path / "out") as part:
        (part / "report.json").write_text("{}")
    assert os.listdir(tmp_path) == ["out"]
    with pytest.raises(InputError, match="exists already"), new_folder(tmp_path / "out"):
        pass


def test_a_mapped_channel_without_tags_is_named(tmp_path):
    run = edited(tmp_path, ('4 = "X1"', '99 = "X1"'))
    done = qkdpp("distill", run, "-o", tmp_path / "out")
    assert "no tags on channel 99 (X1)" in done.stdout
    assert "not mapped and ignored: 4" in done.stdout


def test_a_cut_recording_is_said_on_the_terminal_or_refused(tmp_path):
    run = edited(tmp_path)
    (run / "bob.ptu").unlink()
    (run / "bob.ptu").write_bytes((EXAMPLE / "bob.ptu").read_bytes()[:900_001])
    done = qkdpp("distill", run, "-o", tmp_path / "out")
    assert "header announces" in done.stdout
    strict = qkdpp("distill", run, "-o", tmp_path / "strict", "--strict")
    assert strict.returncode == 2
    assert "bob.ptu" in strict.stderr


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("gate_ps", "gate_pss", "did you mean gate_ps"),
        ('method = "sync"', 'method = "synch"', "sync, string, pairs"),
        ('4 = "X1"', '4 = "X7"', "Z0, Z1, X0, X1"),
    ],
)
def test_mistakes_come_with_a_remedy(tmp_path, old, new, says):
    done = qkdpp("distill", edited(tmp_path, (old, new)))
    assert done.returncode == 2
    assert says in done.stderr


def test_a_recording_given_as_a_run_file_and_a_record_as_a_recording():
    assert "qkdpp init" in qkdpp("distill", EXAMPLE / "bob.ptu").stderr
    assert "alice.record" in qkdpp("info", EXAMPLE / "alice.h5").stderr


def test_a_span_chosen_afterwards_is_no_composable_block(tmp_path):
    done = qkdpp("distill", EXAMPLE, "--from", "0.5", "-o", tmp_path / "out", "--json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert report["claim"]["level"] == "estimate"
    assert [p["name"] for p in report["claim"]["failed"]] == ["span_fixed_beforehand"]
    assert 2.35 < report["run"]["duration_s"] < 2.45
    assert report["counters"]["detections"] == report["detections"]
    assert qkdpp("distill", EXAMPLE, "--from", "50", "-o", tmp_path / "late").returncode == 2


def test_noise_reports_a_clock_that_never_locked(tmp_path):
    run = edited(tmp_path, ('1 = "Z0"\n', '1 = "sync"\n'), ('5 = "sync"', '5 = "Z0"'))
    done = qkdpp("distill", run, "-o", tmp_path / "out", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 3
    assert report["abort"]["reason"] == "no_lock"
    assert report["clock"]["locked_share"] == 0.0
    assert report["secret_bits"] == report["sifted_bits"] == 0


def test_more_bits_than_were_kept_secret_are_refused(tmp_path):
    rng = np.random.default_rng(1)
    alice = rng.integers(0, 2, 20_000)
    bob = alice ^ (rng.random(20_000) < 0.03)
    for name, key in (("a", alice), ("b", bob)):
        (tmp_path / name).write_text("".join(map(str, key.tolist())))
    done = qkdpp("reconcile", tmp_path / "a", tmp_path / "b", "--secret-bits", "19500", "--json")
    sheet = json.loads(done.stdout)
    assert done.returncode == 3
    assert sheet["abort"]["reason"] == "no_key_left"
    assert sheet["abort"]["evidence"]["undisclosed_bits"] < 20_000 - sheet["leak_ec_bits"]
    assert sheet["ledger_recount"]["agrees"]
