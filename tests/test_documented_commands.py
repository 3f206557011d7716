"""Commands that README and the notes show, run as they stand."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VERBS = ("rate", "optimise")
PAGES = ("README.md", "docs/notes/rates.md")


def shown() -> list[str]:
    """Command lines, without what follows two spaces (the comment)."""
    lines = [line for page in PAGES for line in (ROOT / page).read_text(encoding="utf-8").splitlines()]
    found = (re.match(rf" *qkdpp ((?:{'|'.join(VERBS)}) .+?)(?:  +|$)", line) for line in lines)
    return [match[1] for match in found if match]


def test_figures_of_both_papers_are_among_them() -> None:
    lines = shown()
    assert {line.split()[0] for line in lines} == set(VERBS)
    assert any(all(f"carrier-type-{n}" in line for n in (1, 2, 3, 4)) for line in lines)
    assert any("carrier-type-5" in line for line in lines)
    assert any("satellite-pass" in line for line in lines)


@pytest.mark.parametrize("line", shown())
def test_shown_command_does_what_it_says(tmp_path: Path, line: str) -> None:
    arguments = shlex.split(line)
    command = [sys.executable, "-P", "-m", "qkdpp", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.search(r"bits?/s", done.stdout)
    if "--plot" in arguments:
        figure = (tmp_path / arguments[arguments.index("--plot") + 1]).read_text(encoding="utf-8")
        for words in ("channel loss", "(dB", "secret key rate (bit/s)"):
            assert words in figure


def test_the_live_commands_are_those_that_init_proposes(tmp_path: Path) -> None:
    pages = [
        (ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/live.md", "docs/recipes/README.md")
    ]
    command = [sys.executable, "-P", "-m", "qkdpp", "init", "--live", "link"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    for proposed in re.findall(r"^  (\S.+)$", done.stdout, re.M):
        for page in pages:
            assert re.search(rf"^{re.escape(proposed)}( |$)", page, re.M), proposed
