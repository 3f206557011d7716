"""``qkdpp rate`` as a user types it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from qkdpp.cli.rate import command
from qkdpp.core.errors import InputError
from qkdpp.rate import results
from qkdpp.scenarios.scenario import Published, Rate
from qkdpp.scenarios.scenario_file import source_text

PAGE = (Path(__file__).parents[2] / "docs" / "formats" / "simulated.md").read_text(encoding="utf-8")


@pytest.fixture
def app() -> typer.Typer:
    result = typer.Typer()
    result.command("rate")(command)
    return result


def run(app: typer.Typer, *arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_a_table(app: typer.Typer) -> None:
    result = run(app, "example", "--loss", "10:30:10")
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    losses = [row[0] for row in rows if row and row[0] in {"10", "20", "30"}]
    assert losses == ["10", "20", "30"]
    for words in ("at 18 dB", "secret bits a block", "in a year of uninterrupted blocks", "key up to", "eps_sec 1e-10"):
        assert words in result.stdout


def test_the_table_ends_where_it_says(app: typer.Typer) -> None:
    text = run(app, "example", "--loss", "20:23:0.25").stdout
    (end,) = re.findall(r"key up to\s+([\d.]+) dB", text)
    keys = {float(row[0]): row[-2] for line in text.splitlines() if len(row := line.split()) == 6 and row[0][0] == "2"}
    assert len(keys) == 13
    assert {loss for loss, key in keys.items() if key != "-"} == {loss for loss in keys if loss <= float(end)}


def test_without_a_range_the_scenarios_own(app: typer.Typer) -> None:
    result = run(app, "example", "pair-lab", "--json")
    found = msgspec.json.decode(result.stdout, type=results.Rates)
    assert result.stderr == ""
    assert (found.variable, [s.scenario for s in found.scenarios]) == ("loss_db", ["example", "pair-lab"])
    points = [[p.loss_db for p in s.points] for s in found.scenarios]
    assert points[0] == points[1]
    assert len(points[0]) > 20


def test_one_number_is_one_point(app: typer.Typer) -> None:
    (row,) = json.loads(run(app, "example", "--loss", "12", "--block-s", "50", "--json").stdout)["scenarios"]
    assert [p["loss_db"] for p in row["points"]] == [12.0]
    assert row["working_point"] == row["points"][0]
    assert row["working_point"]["block_s"] == 50.0


@pytest.mark.parametrize(
    ("options", "name", "values"),
    [
        (["--distance", "0:100:50"], "distance_km", [0.0, 50.0, 100.0]),
        (["--block", "1e8:1e10:3"], "block_pulses", [1e8, 1e9, 1e10]),
        (["--block-s", "1:100:3", "--loss", "10"], "block_s", [1.0, 10.0, 100.0]),
    ],
)
def test_other_variables(app: typer.Typer, options: list[str], name: str, values: list[float]) -> None:
    found = json.loads(run(app, "example", *options, "--json").stdout)
    assert found["variable"] == name
    assert [p[name] for p in found["scenarios"][0]["points"]] == pytest.approx(values)


def test_overrides(app: typer.Typer) -> None:
    options = ["--f-ec", "1.3", "--eps-sec", "1e-12", "--profile", "T", "--rule", "both", "--loss", "5"]
    (row,) = json.loads(run(app, "example", *options, "--json").stdout)["scenarios"]
    used = row["parameters"]
    assert (used["f_ec"], used["eps_sec"], used["profile"], used["rule"]) == (1.3, 1e-12, "T", "both")


def test_a_figure_of_several_scenarios(app: typer.Typer, tmp_path: Path) -> None:
    target = tmp_path / "rates.svg"
    result = run(app, "example", "pair-lab", "--loss", "0:30:10", "--plot", str(target))
    assert result.exit_code == 0
    assert result.stdout.endswith(f"written to {target}\n")
    text = target.read_text(encoding="utf-8")
    assert text.count("example") == text.count("pair-lab") == 1


def test_json_stands_alone_beside_a_figure(app: typer.Typer, tmp_path: Path) -> None:
    result = run(app, "example", "--loss", "0:30:10", "--json", "--plot", str(tmp_path / "rates.png"))
    assert json.loads(result.stdout)["format"] == 1
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


def test_scenario_files_are_named_by_their_stem(app: typer.Typer, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.toml").write_text(source_text("example")[1], encoding="utf-8")
    paths = [str(tmp_path / folder / "mine.toml") for folder in ("a", "b")]
    one = json.loads(run(app, paths[0], "--loss", "10", "--json").stdout)
    assert [s["scenario"] for s in one["scenarios"]] == ["mine"]
    two = json.loads(run(app, *paths, "--loss", "10", "--json").stdout)
    assert [s["scenario"] for s in two["scenarios"]] == paths


def test_no_key_at_the_working_point_ends_with_3_and_says_why(app: typer.Typer, tmp_path: Path) -> None:
    target = tmp_path / "rates.svg"
    result = run(app, "pair-lab", "example", "--loss", "0:30:10", "--block-s", "0.001", "--plot", str(target))
    assert result.exit_code == 3
    assert "no key at 18 dB from a block of 0.001 s: too short, one of about" in result.stdout
    assert target.exists()
    # the range of a sweep may lie wholly beyond the key: that is no failure
    assert run(app, "example", "--loss", "70:80:10").exit_code == 0


def test_list(app: typer.Typer) -> None:
    listed = json.loads(run(app, "--list", "--json").stdout)
    assert {"example", "pair-lab"} <= set(listed)
    assert run(app, "--list").stdout.count("\n") == len(listed)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "name a scenario"),
        (["nowhere"], "nowhere: neither a shipped scenario nor a file"),
        (["example", "example"], "example: named twice"),
        (["example", "--loss", "40:0:1"], r"--loss 40:0:1: an empty range"),
        (["example", "--loss", "0:400:1"], r"--loss 0:400:1: 400 must lie between 0 and 100"),
        (["example", "--loss", "10", "--distance", "50"], "--loss and --distance say the same thing"),
        (["example", "--block", "1e9", "--block-s", "5"], "--block and --block-s say the same thing"),
        (["example", "--loss", "0:40:1", "--block", "1e6:1e9:4"], "--loss and --block are both ranges"),
        (["example", "--block", "1e9:1e6:4"], r"--block 1e9:1e6:4: an empty range"),
        (["satellite-pass", "--distance", "0:100:10"], "satellite-pass: a satellite pass has no length of fibre"),
        (["example", "--rule", "mine"], "--rule mine: choose public_errors or both"),
        (["example", "--profile", "X"], "choose one of V, L, T"),
        (["example", "--f-ec", "0.5"], "rate.f_ec = 0.5 must lie between 1 and 5"),
        (["example", "--plot", "x.jpg"], r"x\.jpg: the name of a figure ends in \.svg, \.png or \.pdf"),
        (["example", "--plot", "there.svg"], "there.svg: already there"),
        (["example", "--plot", "no/x.svg"], "there is no folder no"),
        (["example", "--loss", "5", "--plot", "x.svg"], "--plot needs a range"),
    ],
)
def test_bad_usage_is_an_input_error(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.svg").write_text("mine")
    result = run(app, *arguments)
    assert isinstance(result.exception, InputError)
    assert re.search(complaint, str(result.exception))
    assert [p.name for p in tmp_path.iterdir()] == ["there.svg"]
    assert (tmp_path / "there.svg").read_text() == "mine"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, qkdpp.cli.rate, qkdpp.cli.scenarios;"
        "print([m for m in ('numpy', 'scipy', 'numba', 'matplotlib', 'msgspec', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "part",
    [
        Rate,
        Published,
        results.Rates,
        results.ScenarioRates,
        results.RatePoint,
        results.Parameters,
        results.PublishedPoint,
        results.BoundUsed,
    ],
)
def test_the_format_page_names_every_field(part: type[msgspec.Struct]) -> None:
    for field in msgspec.structs.fields(part):
        assert f"`{field.name}`" in PAGE, field.name
