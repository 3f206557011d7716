"""Swabian .ttbin through a stub of the vendor's library that has the documented four getters."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from qkdpp.core.errors import FormatError, InputError
from qkdpp.sources import open_recording, read_all

EVENTS = [  # type, missed, channel, time in ps
    (0, 0, 1, 100),
    (0, 0, -1, 150),
    (2, 0, 0, 200),
    (4, 17, 2, 300),
    (3, 0, 0, 400),
    (0, 0, 2, 260_000_000_000_000_003),
]


def install(monkeypatch: pytest.MonkeyPatch, events: list[tuple[int, int, int, int]], *, per_call: int = 4) -> None:
    """A library that returns the events; like the real one, it never refuses a file that is no .ttbin."""

    class FileReader:
        def __init__(self, path: str) -> None:
            self.left = list(events)

        def hasData(self) -> bool:  # noqa: N802 - the library's name
            return bool(self.left) or not events

        def getData(self, n: int) -> SimpleNamespace:  # noqa: N802
            part, self.left = self.left[: min(n, per_call)], self.left[per_call:]
            columns = np.array(part, dtype=np.int64).reshape(-1, 4)
            return SimpleNamespace(
                getEventTypes=lambda: columns[:, 0].astype(np.uint8),
                getMissedEvents=lambda: columns[:, 1].astype(np.uint16),
                getChannels=lambda: columns[:, 2].astype(np.int32),
                getTimestamps=lambda: columns[:, 3],
            )

    library = ModuleType("Swabian.TimeTagger")
    library.FileReader = FileReader  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "Swabian", ModuleType("Swabian"))
    monkeypatch.setitem(sys.modules, "Swabian.TimeTagger", library)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.ttbin"
    path.write_bytes(b"\x80\x01\x02 proprietary")
    return path


def test_tags_edges_and_lost_intervals(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    install(monkeypatch, EVENTS)
    recording = open_recording(path)
    tags = read_all(recording)
    assert recording.format == "ttbin"
    assert tags.ticks.tolist() == [100, 150, 260_000_000_000_000_003]
    assert [tags.channel_ids[c] for c in tags.channel] == [1, -1, 2]
    assert tags.lost == ((200, 400),)
    assert recording.stats.lost_tags_reported == 17


def test_an_overflow_that_never_ends_is_lost_to_the_end(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    install(monkeypatch, [(0, 0, 1, 10), (2, 0, 0, 20), (0, 0, 1, 90)])
    assert read_all(open_recording(path)).lost == ((20, 90),)


def test_a_file_in_which_the_library_finds_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    install(monkeypatch, [])
    with pytest.raises(FormatError, match=r"no event.*\.ttbin"):
        read_all(open_recording(path))


def test_without_the_library_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setitem(sys.modules, "Swabian", None)
    with pytest.raises(InputError, match="swabian-dump"):
        open_recording(path)
