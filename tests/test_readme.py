"""The README is true: its lines are the ones CI runs, its commands exist, its main job makes a key."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def line_after(marker: str) -> str:
    found = re.search(rf"<!-- {marker} -->\n`(.+)`\n", README)
    assert found, f"README.md has no line after {marker!r}"
    return found[1]


def qkdpp(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "qkdpp", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


def test_the_main_line_ends_in_a_command_that_makes_a_key(tmp_path):
    setup, install, main = line_after("main command").split(" && ")
    assert setup == "python3 -m venv .venv"
    assert install.startswith(".venv/bin/pip install")
    program, *arguments = main.split()
    assert program == ".venv/bin/qkdpp"
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for _ in range(2):
        done = qkdpp(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "secret bits" in done.stdout
    assert len(list(tmp_path.glob("fibre-*/alice.key"))) == 2


def test_ci_runs_the_test_line():
    assert line_after("test command").endswith("-P -m pytest -q -n auto")
    script = (ROOT / ".ci" / "run").read_text()
    assert "<!-- test command -->" in script
    assert 'bash -c "$setup_and_test"' in script


def test_every_command_shown_exists(tmp_path):
    verbs = set(re.findall(r"^qkdpp (\w+)", README, re.M)) | set(re.findall(r"`qkdpp (\w+)", README))
    assert {"info", "init", "distill", "simulate", "reconcile", "convert"} <= verbs
    for verb in sorted(verbs):
        done = qkdpp(verb, "--help", cwd=tmp_path)
        assert done.returncode == 0, (verb, done.stderr)


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
