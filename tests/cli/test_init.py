"""``qkdpp init``: what it writes is loaded or refused with the field's name, and nothing is written over."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import typer
from survey_streams import Pairs, on_clock, poisson, regular, together
from typer.testing import CliRunner, Result

from qkdpp.cli.init import command
from qkdpp.core.errors import ConfigError, InputError
from qkdpp.core.sync_string import SyncString
from qkdpp.offline.inputs import load_inputs
from qkdpp.offline.runfile import RunFile, load
from qkdpp.sources import write_recording
from qkdpp.sources.prepared import PreparedHeader, write_prepared
from qkdpp.sources.prepared_write import PatternStates

KWIAT = Path(__file__).parents[3] / "shared" / "data" / "kwiat_spdc" / "Alice1_Bob1_with_delays.txt"
PERIOD_AS = 1_600_000_000


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def pair_recording(path: Path = Path("both.h5")) -> Path:
    write_recording(path, [together(*Pairs().streams())], format="hdf5")
    return path


def prepared_record(path: Path = Path("alice.h5"), *, string: bool = False) -> Path:
    header = PreparedHeader(
        n_pulses=4096,
        pulse_period_as=PERIOD_AS,
        intensities=(0.4, 0.1, 0.0),
        p_intensity=(0.8, 0.15, 0.05),
        p_z=0.75,
        sync_string=SyncString(seed=bytes(range(32)), length=16, frame=256) if string else None,
    )
    write_prepared(path, header, PatternStates(codes=np.array([0, 1, 6, 11], dtype=np.uint8)))
    return path


def bob_recording(path: Path = Path("bob.h5"), *, sync_period_ps: float | None = None) -> Path:
    streams = [poisson(5e4, 0.02, channel=c, seed=c) for c in (1, 2, 3, 4)]
    if sync_period_ps is not None:
        streams.append(regular(sync_period_ps, 0.02, channel=0, jitter_ps=30.0))
    write_recording(path, [together(*streams)], format="hdf5")
    return path


def with_map(text: str) -> str:
    """A draft with Bob's channels filled in."""
    return text.replace("[bob.channels]\n", '[bob.channels]\n1 = "Z0"\n2 = "Z1"\n3 = "X0"\n4 = "X1"\n')


# --- pairs -----------------------------------------------------------------------------------------------------------


def test_one_recording_of_both_parties(here: Path) -> None:
    result = init(pair_recording())
    assert result.exit_code == 0
    assert "proposed channel map" in result.output
    assert "qkdpp distill run.toml" in result.output
    run = load(here)
    assert run.parameters.protocol == "bbm92"
    assert run.alice.detectors("alice") == {0: 0, 1: 1, 2: 2, 3: 3}
    assert run.bob.detectors("bob") == {4: 0, 5: 1, 6: 2, 7: 3}
    assert run.alice.channel_roles("alice")[4] == "ignore"
    assert run.recordings("alice") == run.recordings("bob") == [here / "both.h5"]
    assert run.alice.delays("alice") is None


def test_suggested_delays_can_be_switched_on(here: Path) -> None:
    init(pair_recording())
    path = here / "run.toml"
    lines = path.read_text().split("\n")
    start = lines.index("# [bob.delays_ps]")
    lines[start : start + 5] = [line.removeprefix("# ") for line in lines[start : start + 5]]
    path.write_text("\n".join(lines))
    delays = load(here).bob.delays("bob")
    assert delays is not None
    assert delays[4] - delays[5] == pytest.approx(6000.0, abs=60.0)


def test_two_recordings_with_a_clock_offset(here: Path) -> None:
    alice, bob = Pairs(alice=(1, 2, 3, 4), bob=(1, 2, 3, 4)).streams()
    write_recording(here / "a.h5", [alice], format="hdf5")
    write_recording(here / "b.h5", [on_clock(bob, -0.3, 2e-6)], format="hdf5")
    assert init("a.h5", "b.h5").exit_code == 0
    run = load(here)
    assert run.parameters.timing.offset_hint_s == pytest.approx(-0.3, abs=1e-6)
    assert run.recordings("alice") == [here / "a.h5"]
    assert run.recordings("bob") == [here / "b.h5"]
    assert run.alice.detectors("alice") == run.bob.detectors("bob") == {1: 0, 2: 1, 3: 2, 4: 3}


@pytest.mark.recordings
@pytest.mark.skipif(not KWIAT.exists(), reason="real recordings are not at ../shared/data")
def test_the_draft_of_real_pairs_loads(here: Path) -> None:
    result = init(KWIAT, "--format", "text2", "--tick-as", "78125000")
    assert result.exit_code == 0
    run = load(here)
    inputs = load_inputs(run, from_s=None, to_s=None, progress=lambda what, n: None)
    assert inputs.alice is not None
    assert len(inputs.alice.tags) == len(inputs.bob.tags) == 273_418
    assert run.alice.detectors("alice") == {0: 0, 1: 1, 2: 2, 3: 3}
    assert run.bob.detectors("bob") == {4: 0, 5: 1, 6: 2, 7: 3}


# --- weak pulses -----------------------------------------------------------------------------------------------------


def test_record_and_sync_channel(here: Path) -> None:
    result = init(prepared_record(), bob_recording(sync_period_ps=1e7))
    assert result.exit_code == 0
    text = (here / "run.toml").read_text()
    with pytest.raises(ConfigError, match=r"bob\.channels: no channel for X0, X1, Z0, Z1"):
        load(here)
    (here / "run.toml").write_text(with_map(text))
    run = load(here)
    source = run.parameters.source
    assert source is not None
    assert (source.pulse_period_as, source.intensities, source.p_intensity) == (
        PERIOD_AS,
        [0.4, 0.1, 0.0],
        [0.8, 0.15, 0.05],
    )
    assert source.p_z_alice == 0.75
    assert not source.phase_randomised
    assert (run.parameters.timing.method, run.parameters.timing.sync_period_pulses) == ("sync", 6250)
    assert run.parameters.timing.gate_ps == 800.0  # half a period of 1.6 ns
    assert run.bob.channel_roles("bob")[0] == "sync"
    load_inputs(run, from_s=None, to_s=None, progress=lambda what, n: None)  # record and run file agree


def test_public_string_is_copied(here: Path) -> None:
    init(prepared_record(string=True), bob_recording())
    (here / "run.toml").write_text(with_map((here / "run.toml").read_text()))
    run = load(here)
    assert run.parameters.timing.method == "string"
    assert run.parameters.sync_string is not None
    assert run.parameters.sync_string.build() == SyncString(seed=bytes(range(32)), length=16, frame=256)
    load_inputs(run, from_s=None, to_s=None, progress=lambda what, n: None)


def test_order_of_files_does_not_matter(here: Path) -> None:
    init(bob_recording(sync_period_ps=1e7), prepared_record(), "-o", "one.toml")
    init("alice.h5", "bob.h5", "-o", "two.toml")
    assert (here / "one.toml").read_text() == (here / "two.toml").read_text()


# --- what cannot be known is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "arguments", "says"),
    [
        (bob_recording, [], "protocol"),
        (bob_recording, ["--protocol", "bb84"], "source"),
        (bob_recording, ["--protocol", "bbm92"], r"alice\.channels: no channel for"),
        (prepared_record, [], r'timing\.method must be "sync" or "string"'),
        (lambda: prepared_record(string=True), [], r"bob\.files"),
    ],
    ids=["no protocol", "bb84 without a record", "no correlation", "no clock", "no recording of Bob's"],
)
def test_open_lines_are_refused(here: Path, make, arguments: list[str], says: str) -> None:
    result = init(make(), *arguments)
    assert result.exit_code == 0
    assert "fill in" in result.output
    assert "FILL IN:" in (here / "run.toml").read_text()
    with pytest.raises(ConfigError, match=says) as caught:
        load(here)
    assert "run.toml" in str(caught.value)


# --- files and output ------------------------------------------------------------------------------------------------


def test_never_writes_over_a_file(here: Path) -> None:
    (here / "run.toml").write_text("mine")
    result = init(pair_recording())
    assert isinstance(result.exception, InputError)
    assert (here / "run.toml").read_text() == "mine"


def test_to_the_terminal(here: Path) -> None:
    result = init(pair_recording(), "-o", "-")
    assert result.exit_code == 0
    assert result.stdout.startswith("# Run file for")
    assert "correlation peaks" in result.stderr
    assert not (here / "run.toml").exists()
    (here / "elsewhere.toml").write_text(result.stdout)
    assert isinstance(load(here / "elsewhere.toml"), RunFile)


def test_json_is_the_survey_and_nothing_else(here: Path) -> None:
    result = init(pair_recording(), "--json")
    survey = json.loads(result.stdout)
    assert survey["recordings"][0]["path"] == "both.h5"
    assert survey["proposal"]["alice"] == {"Z0": 0, "Z1": 1, "X0": 2, "X1": 3}
    assert (here / "run.toml").exists()
    assert isinstance(init("both.h5", "--json", "-o", "-").exception, InputError)


def test_paths_start_at_the_run_file(here: Path) -> None:
    (here / "data").mkdir()
    (here / "runs").mkdir()
    pair_recording(here / "data" / "both.h5")
    assert init("data/both.h5", "-o", "runs/run.toml").exit_code == 0
    found = load(here / "runs").recordings("alice")
    assert [os.path.realpath(p) for p in found] == [os.path.realpath(here / "data" / "both.h5")]


@pytest.mark.parametrize("name", ["night [1].h5", 'a "b" \\ c.h5', "Zürich.h5", "star*?.h5"])
def test_awkward_file_names(name: str, here: Path) -> None:
    pair_recording(here / "plain.h5")
    (here / name).write_bytes((here / "plain.h5").read_bytes())
    assert init(name).exit_code == 0
    assert load(here).recordings("bob") == [here / name]


def test_names_that_are_no_text_are_refused(here: Path) -> None:
    pair_recording(here / "plain.h5")
    (here / "two\nlines.h5").write_bytes((here / "plain.h5").read_bytes())
    result = init("two\nlines.h5")
    assert isinstance(result.exception, InputError)
    assert not (here / "run.toml").exists()


def test_usage_errors(here: Path) -> None:
    pair_recording()
    assert "bb84 or bbm92" in str(init("both.h5", "--protocol", "e91").exception)
    assert "record of prepared states" in str(init(prepared_record(), "--protocol", "bbm92").exception)
    assert "two recordings" in str(init("both.h5", "both.h5", "--protocol", "bb84").exception)
    assert isinstance(init("both.h5", "-o", "no/such/folder/run.toml").exception, InputError)
    assert isinstance(init("missing.h5").exception, InputError)
    (here / "noise.bin").write_bytes(bytes(range(1, 255)))
    assert "declared" in str(init("noise.bin").exception)
