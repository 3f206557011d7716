"""``qkdpp optimise`` as a user types it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from qkdpp.cli.optimise import command
from qkdpp.cli.simulate import command as simulate
from qkdpp.core.errors import InputError
from qkdpp.rate.point import evaluate
from qkdpp.scenarios.scenario_file import load


@pytest.fixture
def app() -> typer.Typer:
    result = typer.Typer()
    result.command("optimise")(command)
    return result


def test_one_loss_figure_and_scenario(app: typer.Typer, tmp_path: Path) -> None:
    out, plot = tmp_path / "best.toml", tmp_path / "best.svg"
    arguments = ["example", "--fix", "p_intensity,p_z", "-o", str(out), "--plot", str(plot)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    row = re.search(r"secret bits/s +([\d,]+) +([\d,]+)  \+([\d.]+) %", result.stdout)
    assert row is not None
    before, after = (int(figure.replace(",", "")) for figure in row.groups()[:2])
    assert before == round(evaluate(load("example")).secret_bps)
    assert after == pytest.approx(evaluate(load(str(out))).secret_bps, abs=2)
    assert after > before
    assert "p_z_bob" in result.stdout
    assert "held" in result.stdout
    assert f"written to {out}" in result.stdout
    assert load(str(out)).title == load("example").title
    drawn = plot.read_text()
    assert drawn.startswith("<?xml")


def test_written_scenario_can_be_simulated(app: typer.Typer, tmp_path: Path) -> None:
    out = tmp_path / "best.toml"
    assert CliRunner().invoke(app, ["pair-lab", "--fix", "pair_rate_hz", "-o", str(out)]).exit_code == 0
    player = typer.Typer()
    player.command("simulate")(simulate)
    run = tmp_path / "run"
    result = CliRunner().invoke(player, [str(out), "-o", str(run), "--scale", "0.005", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["tags"]["bob"] > 0
    assert "# optimised, qkdpp optimise: 0 dB, blocks of 2 s" in (run / "scenario.toml").read_text()


def test_figure_for_a_screen_names_axes_and_units(app: typer.Typer, tmp_path: Path) -> None:
    plot = tmp_path / "pairs.png"
    result = CliRunner().invoke(app, ["pair-lab", "--plot", str(plot)])
    assert result.exit_code == 0
    assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "of the limit" in result.stdout
    assert "[pairs]\npair_rate_hz = " in result.stdout


def test_json_is_the_whole_answer(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["pair-lab", "--json", "--block-s", "4"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["block_s"] == 4
    assert set(found["best"]["after"]) == {"pair_rate_hz", "p_z_alice", "p_z_bob", "gate_ps"}
    assert found["best"]["after_bps"] > found["best"]["before_bps"]
    assert [cost["name"] for cost in found["costs"]] == found["free"]
    assert [r["share"] for r in found["blocks"]["reached"]] == [0.5, 0.8, 0.9, 0.95]
    assert found["split"]["gain"] >= 0


def test_a_range_of_losses(app: typer.Typer, tmp_path: Path) -> None:
    out, plot = tmp_path / "best.toml", tmp_path / "range.svg"
    arguments = ["pair-lab", "--loss", "0:60:30", "-o", str(out), "--plot", str(plot)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    rows = re.findall(r"^ +(0|30|60) +([\d,.]+) +([\d,.]+) +(\S+)", result.stdout, flags=re.MULTILINE)
    assert [row[0] for row in rows] == ["0", "30", "60"]
    assert rows[2][1:] == ("0", "0", "-")
    assert "one set" in result.stdout
    assert "qkdpp optimise: 0 to 60 dB" in out.read_text()
    assert plot.exists()


def test_unlimited_data(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["example", "--unlimited", "--loss", "12"])
    assert result.exit_code == 0
    assert "at 12 dB, with unlimited data" in result.stdout
    assert "at the limit of the search" in result.stdout
    assert "size of block" not in result.stdout
    assert "security.split" not in result.stdout


def test_no_key(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["pair-lab", "--loss", "80"])
    assert result.exit_code == 3
    assert "no parameters that were tried give a key" in result.stdout
    out = tmp_path / "none.toml"
    refused = CliRunner().invoke(app, ["pair-lab", "--loss", "80", "-o", str(out)])
    assert isinstance(refused.exception, InputError)
    assert "not written" in str(refused.exception)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "neither a shipped scenario nor a file"),
        (["example", "--fix", "colour"], "--fix colour: no such parameter here"),
        (["example", "--loss", "far"], "--loss far"),
        (["example", "--block-s", "0"], "0 s is no duration"),
        (["example", "--plot", "figure.gif"], "ends in .svg, .png or .pdf"),
        (["example", "-o", "."], "already there"),
        (["example", "-o", "nowhere/best.toml"], "there is no folder nowhere; make it, or name another with -o"),
        (["example", "--plot", "nowhere/best.svg"], "there is no folder nowhere"),
        (["example", "--loss", "101"], "101 must lie between 0 and 100"),
    ],
)
def test_mistakes_are_named(app: typer.Typer, arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, InputError)
    assert complaint in str(result.exception)


def test_figure_text_is_searchable_and_repeatable(app: typer.Typer, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.svg", "b.svg")]
    for file in files:
        assert CliRunner().invoke(app, ["pair-lab", "--fix", "p_z,gate_ps", "--plot", str(file)]).exit_code == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    text = files[0].read_text()
    for words in ("secret bits lost (%)", "deviation of the parameter (%)", "duration of a block (s)"):
        assert words in text


def test_help_and_import_stay_light() -> None:
    code = "import sys, qkdpp.cli.optimise; sys.exit(any(m in sys.modules for m in ('scipy', 'numba', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_field_of_the_json_is_documented(app: typer.Typer) -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats" / "simulated.md").read_text(encoding="utf-8")
    section = page[page.index("## `qkdpp optimise --json`") :]
    one = json.loads(CliRunner().invoke(app, ["example", "--fix", "p_intensity,p_z", "--json"]).stdout)
    several = json.loads(CliRunner().invoke(app, ["example", "--loss", "10:12:2", "--fix", "p_z", "--json"]).stdout)
    assert one["format"] == several["format"] == 1
    names = {*one, *one["best"], *one["costs"][0], *one["blocks"], *one["split"], *several["losses"][0]}
    names |= {*one["blocks"]["points"][0], *one["blocks"]["reached"][0], *one["best"]["after"]}
    assert [name for name in sorted(names) if f"`{name}`" not in section] == []
