"""``qkdpp simulate`` as a user types it."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from qkdpp.cli.simulate import command
from qkdpp.core.errors import InputError


@pytest.fixture
def app() -> typer.Typer:
    result = typer.Typer()
    result.command("simulate")(command)
    return result


def test_list(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["--list"])
    assert result.exit_code == 0
    listed = json.loads(CliRunner().invoke(app, ["--list", "--json"]).stdout)
    assert {"example", "carrier-type-1", "satellite-pass"} <= set(listed)
    rows = result.stdout.splitlines()
    assert len(rows) == len(listed)
    for row, (name, title) in zip(rows, listed.items(), strict=True):
        assert row.split(None, 1) == [name, title]
    assert len({row.index(title) for row, title in zip(rows, listed.values(), strict=True)}) == 1


def test_help_says_how_to_list_the_scenarios(app: typer.Typer) -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout
    assert "those that --list shows" in shown


def test_json_says_what_was_written(app: typer.Typer, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--seed", "3", "--scale", "0.002", "--format", "csv", "--json"]
    result = CliRunner().invoke(app, ["example", "-o", str(out), *options])
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    assert summary["files"] == ["alice.h5", "bob.csv", "run.toml", "scenario.toml", "truth.json"]
    assert summary["duration_s"] == pytest.approx(0.0058)
    assert summary["seed"] == 3
    assert (out / "scenario.toml").read_text().startswith("# simulated with seed 3, duration_s = 0.0058")


def test_a_scenario_file(app: typer.Typer, tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["example", "-o", str(tmp_path / "a"), "--scale", "0.001"]).exit_code == 0
    again = ["--duration-s", "0.0029"]
    result = CliRunner().invoke(app, [str(tmp_path / "a" / "scenario.toml"), "-o", str(tmp_path / "b"), *again])
    assert result.exit_code == 0
    assert (tmp_path / "a" / "bob.ptu").read_bytes() == (tmp_path / "b" / "bob.ptu").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "name a scenario and a new folder"),
        (["example"], "name a scenario and a new folder"),
        (["nowhere", "-o", "x"], "neither a shipped scenario nor a file"),
        (["example", "-o", "x", "--scale", "0.1", "--duration-s", "1"], "exclude each other"),
        (["example", "-o", "x", "--format", "nonsense"], "unknown format"),
    ],
)
def test_bad_usage_is_an_input_error(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, InputError)
    assert complaint in str(result.exception)
    assert not (tmp_path / "x").exists()
