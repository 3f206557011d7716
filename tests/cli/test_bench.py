"""``qkdpp bench`` as a user types it."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from qkdpp.bench import Effort
from qkdpp.cli import bench as verb
from qkdpp.core.errors import InputError
from qkdpp.kernels import backend


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """The command on tiny workloads."""
    monkeypatch.setattr("qkdpp.bench.Effort", SimpleNamespace(QUICK=Effort.TINY, FULL=Effort.TINY))
    result = typer.Typer()
    result.command("bench")(verb.command)
    return result


def test_text(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["codec", "estimation", "--quick"])
    assert result.exit_code == 0, result.exception
    assert f"codec ({backend()}" in result.stdout
    assert "estimation (numpy)" in result.stdout
    assert "key_length_bb84" in result.stdout
    assert "toeplitz" not in result.stdout


def test_json_and_nothing_else(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["hash", "--quick", "--json"])
    assert result.exit_code == 0, result.exception
    report = json.loads(result.stdout)
    assert {row["area"] for row in report["rows"]} == {"hash"}
    assert report["machine"]["cores"] >= 1


def test_plot(app: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "f.svg"
    result = CliRunner().invoke(app, ["correction", "--quick", "--plot", str(path)])
    assert result.exit_code == 0, result.exception
    assert f"written to {path}" in result.stdout
    assert "error rate" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speed"], "AREA speed: no such area; choose from hash, correction, tags, codec, estimation, whole"),
        (["hash", "--plot", "a.svg"], "--plot draws the area correction"),
        (["correction", "--plot", "a.jpg"], "must end in .svg, .png or .pdf"),
        (["correction", "--plot", "nowhere/a.svg"], "there is no folder nowhere"),
    ],
)
def test_refused_before_anything_is_measured(app: typer.Typer, arguments: list[str], message: str) -> None:
    error = CliRunner().invoke(app, arguments).exception
    assert isinstance(error, InputError)
    assert message in str(error)


def test_a_figure_is_not_overwritten(app: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "f.svg"
    path.write_text("mine")
    error = CliRunner().invoke(app, ["correction", "--plot", str(path)]).exception
    assert isinstance(error, InputError)
    assert path.read_text() == "mine"


def test_exit_code_of_an_unknown_area() -> None:
    command = [sys.executable, "-P", "-m", "qkdpp", "bench", "speed"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("qkdpp: AREA speed")
