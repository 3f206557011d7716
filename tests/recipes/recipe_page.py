"""The page of the recipes, run as it stands: the shell's blocks of a section, after those of the section on keys."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "recipes" / "README.md").read_text(encoding="utf-8")
TIMEOUT_S = 300
FIRST = "Keys"


def script(title: str) -> str:
    """Blocks of the shell in the section whose title begins so."""
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (section,) = (text for text in sections if text.startswith(title))
    blocks = re.findall(r"^```bash\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert blocks, title
    return "\n".join(blocks)


def needs(*programs: str) -> None:
    """Skips where a program is missing."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} (Debian packages: docs/recipes/README.md)")


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """A folder with ``link`` and ``docs`` in it, in which the page is followed.

    Attributes:
        folder: where the lines are typed.
        replaced: what stands in the page, and what is taken for it here: ports, names of interfaces.
    """

    folder: Path
    replaced: Mapping[str, str]

    def prepare(self) -> None:
        """``python`` and ``qkdpp`` are those of the tests."""
        (self.folder / "docs").symlink_to(DOCS)
        (self.folder / "bin").mkdir()
        for name, words in (("python", ""), ("qkdpp", " -P -m qkdpp")):
            path = self.folder / "bin" / name
            path.write_text(f'#!/bin/sh\nexec {sys.executable}{words} "$@"\n', encoding="utf-8")
            path.chmod(0o755)

    def here(self, text: str) -> str:
        """The text with what is replaced here."""
        return re.sub("|".join(self.replaced), lambda found: self.replaced[found[0]], text)

    def follow(self, title: str, text: str | None = None) -> str:
        """Runs a section (or ``text``, made of it); what it printed. No process it started is left."""
        lines = script(FIRST) + "\n" + (script(title) if text is None else text)
        environment = os.environ | {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        with subprocess.Popen(
            ["bash", "-c", self.here(lines)],
            cwd=self.folder,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            try:
                out, errors = process.communicate(timeout=TIMEOUT_S)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 0, errors + out
        return out
