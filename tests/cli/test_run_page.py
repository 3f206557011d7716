"""``docs/formats/run.md``: its examples load, and it names every key with its default."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from qkdpp.offline.runfile import PartySection, load
from qkdpp.protocols.parameters import (
    Correction,
    Detectors,
    SecuritySection,
    Source,
    SplitSection,
    SyncStringSection,
    Timing,
)

PAGE = (Path(__file__).parents[2] / "docs" / "formats" / "run.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
SECTIONS = {
    "source": Source,
    "sync_string": SyncStringSection,
    "timing": Timing,
    "detectors": Detectors,
    "security": SecuritySection,
    "security.split": SplitSection,
    "correction": Correction,
}


def rows(title: str) -> dict[str, list[str]]:
    """Cells of the table below the heading that contains ``title``, by key."""
    below = PAGE.split(f"`[{title}]`", 1)[1].split("\n## ", 1)[0]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in below.split("\n") if line.startswith("| `")]
    return {row[0].strip("`"): row for row in cells}


@pytest.mark.parametrize(("text", "protocol"), list(zip(EXAMPLES, ["bb84", "bbm92"], strict=True)))
def test_examples_load(text: str, protocol: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(text)
    run = load(tmp_path)
    assert run.parameters.protocol == protocol
    assert len(run.bob.detectors("bob")) == 4


@pytest.mark.parametrize("name", SECTIONS)
def test_every_key_and_default_is_there(name: str) -> None:
    table = rows(name)
    fields = {f.name: f for f in msgspec.structs.fields(SECTIONS[name]) if f"{name}.{f.name}" not in SECTIONS}
    assert set(table) == set(fields)
    for key, field in fields.items():
        stated = table[key][2]
        if field.required:
            assert stated == "required"
        elif key == "method" and name == "timing":
            assert '"pairs"' in stated  # by protocol
        elif field.default_factory is dict:
            assert stated.startswith("`{}`")
        elif field.default is not None:
            assert json.loads(stated.strip("`")) == field.default


def test_every_key_of_a_party_is_there() -> None:
    assert set(rows("alice")) == {f.name for f in msgspec.structs.fields(PartySection)}
