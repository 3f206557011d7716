"""``qkdpp info`` and ``qkdpp convert``: output, exit codes, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from qkdpp.cli import convert, info
from qkdpp.core.errors import FormatError, InputError
from qkdpp.core.tags import TimeTags
from qkdpp.sources import open_recording, read_all, write_recording

RUNNER = CliRunner()


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command("info")(info.command)
    app.command("convert")(convert.command)
    return app


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """One second of tags: 1,000 on channel 1, 500 on channel -2, one gap of a tenth of a second."""
    ticks = np.sort(np.concatenate([np.arange(1000) * 10**9, np.arange(500) * 2 * 10**9 + 1]))
    channel = (ticks % 10**9).astype(np.uint8)
    tags = TimeTags(ticks=ticks, channel=channel, channel_ids=(1, -2), tick_as=10**6, lost=((2 * 10**11, 3 * 10**11),))
    path = tmp_path / "run.h5"
    write_recording(path, [tags], format="hdf5", metadata={"instrument": "tagger\x1b[31m"})
    return path


def test_info_as_json(app: typer.Typer, recording: Path) -> None:
    result = RUNNER.invoke(app, ["info", "--json", str(recording)])
    assert result.exit_code == 0
    (found,) = json.loads(result.stdout)
    assert found["format"] == "hdf5"
    assert found["tick_as"] == 10**6
    assert found["tags"] == 1500
    assert found["duration_s"] == pytest.approx(0.999)
    assert {channel: row["tags"] for channel, row in found["channels"].items()} == {"1": 1000, "-2": 500}
    assert found["channels"]["1"]["rate_hz"] == pytest.approx(1000 / 0.999)
    assert (found["lost_intervals"], found["lost_s"]) == (1, pytest.approx(0.1))
    assert found["backward_steps"] == 0
    assert found["warnings"] == []


def test_info_as_text_shows_what_matters_and_no_escape_sequences(app: typer.Typer, recording: Path) -> None:
    result = RUNNER.invoke(app, ["info", "--header", str(recording)])
    assert result.exit_code == 0
    for part in ("hdf5", "1 ps", "1,500", "channel 1", "channel -2", "1 intervals", "instrument = tagger?"):
        assert part in result.stdout
    assert "\x1b" not in result.stdout


def test_info_without_a_file_shows_versions_and_kernels(app: typer.Typer) -> None:
    found = json.loads(RUNNER.invoke(app, ["info", "--json"]).stdout)
    assert found["kernels"] in ("c", "numba", "numpy")
    assert found["numpy"] == np.__version__
    assert "kernels" in RUNNER.invoke(app, ["info"]).stdout


def test_info_takes_format_tick_and_options(app: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "tags.txt"
    path.write_text("5 1\n9 2\n12 1\n")
    arguments = ["info", "--json", "--format", "text2", "--tick-as", "78125000", "--option", "columns=time,channel"]
    (found,) = json.loads(RUNNER.invoke(app, [*arguments, str(path)]).stdout)
    assert found["duration_s"] == pytest.approx(7 * 78.125e-12)
    assert set(found["channels"]) == {"1", "2"}
    with pytest.raises(InputError, match="name=value"):
        RUNNER.invoke(app, [*arguments[:-1], "columns", str(path)], catch_exceptions=False)


def test_info_strict_refuses_a_cut_file(app: typer.Typer, recording: Path) -> None:
    path = recording.with_name("cut.ptu")
    whole = recording.with_name("whole.ptu")
    tags = TimeTags(ticks=np.arange(9), channel=np.zeros(9, np.uint8), channel_ids=(1,), tick_as=10**6)
    write_recording(whole, [tags], format="ptu")
    path.write_bytes(whole.read_bytes()[:-2])
    result = RUNNER.invoke(app, ["info", str(path)])
    assert result.exit_code == 0
    assert "cut" in result.stdout
    with pytest.raises(FormatError):
        RUNNER.invoke(app, ["info", "--strict", str(path)], catch_exceptions=False)


def test_convert_keeps_tags_metadata_and_gaps(app: typer.Typer, recording: Path) -> None:
    output = recording.with_name("out.npz")
    result = RUNNER.invoke(app, ["convert", str(recording), str(output)])
    assert result.exit_code == 0, result.output
    before, after = open_recording(recording), open_recording(output)
    a, b = read_all(before), read_all(after)
    np.testing.assert_array_equal(a.ticks, b.ticks)
    assert a.lost == b.lost
    assert after.metadata == before.metadata | {"converted_from": "hdf5"}


def test_convert_an_interval(app: typer.Typer, recording: Path) -> None:
    output = recording.with_name("out.csv")
    assert RUNNER.invoke(app, ["convert", str(recording), str(output), "--from", "0.5", "--to-s", "0.6"]).exit_code == 0
    ticks = read_all(open_recording(output)).ticks
    assert ticks.size == 150
    assert int(ticks[0]) >= 5 * 10**11
    assert int(ticks[-1]) < 6 * 10**11


def test_convert_says_what_the_new_file_does_not_hold(app: typer.Typer, tmp_path: Path) -> None:
    tags = TimeTags(
        ticks=np.arange(5) * 1000, channel=np.zeros(5, np.uint8), channel_ids=(1,), tick_as=10**6, lost=((5, 6),)
    )
    write_recording(tmp_path / "in.h5", [tags], format="hdf5")
    for name, notes in (
        ("out.ts", ("rounded from 1000000 as", "does not store the 1 intervals")),
        ("out.qutag", ("--tick-as 1000000", "does not store the 1 intervals")),
    ):
        result = RUNNER.invoke(app, ["convert", str(tmp_path / "in.h5"), str(tmp_path / name)])
        assert result.exit_code == 0
        assert all(note in result.stderr for note in notes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in.h5"], "at least two"),
        (["in.h5", "out.xyz"], "no format is written"),
        (["in.h5", "in.h5"], "exists already"),
        (["in.h5", "out.dat", "--to", "spc"], "not written"),
        (["absent.h5", "out.csv"], "no such file"),
        (["in.h5", "out.csv", "--from", "-1"], "give seconds"),
    ],
)
def test_convert_refuses(app: typer.Typer, tmp_path: Path, arguments: list[str], message: str) -> None:
    tags = TimeTags(ticks=np.arange(5), channel=np.zeros(5, np.uint8), channel_ids=(1,), tick_as=10**6)
    write_recording(tmp_path / "in.h5", [tags], format="hdf5")
    content = (tmp_path / "in.h5").read_bytes()
    full = [str(tmp_path / word) if "." in word else word for word in arguments]
    with pytest.raises(InputError, match=message):
        RUNNER.invoke(app, ["convert", *full], catch_exceptions=False)
    assert (tmp_path / "in.h5").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5"]
