"""The rules of docs/alarms.yml: over metrics that exist, and judged by Prometheus itself where it is installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
RULES = DOCS / "alarms.yml"
promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")


def test_every_rule_is_over_metrics_that_the_pages_name() -> None:
    named = {
        name
        for page in ("node.md", "delivery.md")
        for name in re.findall(r"`(qkdpp_\w+)", (DOCS / "formats" / page).read_text(encoding="utf-8"))
    }
    used = set(re.findall(r"\bqkdpp_\w+", RULES.read_text(encoding="utf-8")))
    assert len(used) > 8
    assert used <= named


@promtool
def test_promtool_accepts_the_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", RULES], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


@promtool
def test_alarms_come_when_they_should_and_not_before(tmp_path: Path) -> None:
    cases = (Path(__file__).parent / "alarms_cases.yml").read_text(encoding="utf-8").replace("ALARMS", str(RULES))
    (tmp_path / "cases.yml").write_text(cases, encoding="utf-8")
    command = ["promtool", "test", "rules", tmp_path / "cases.yml"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
