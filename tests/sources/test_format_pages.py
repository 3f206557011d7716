"""The format pages: their reference readers read what we write, their example bytes mean what they say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qkdpp.core.tags import TimeTags
from qkdpp.sources import open_recording, read_all, write_recording
from qkdpp.sources.formats import FORMATS

PAGES = Path(__file__).parents[2] / "docs" / "formats"


def reference_reader(page: str) -> Callable[[Path], tuple[Any, ...]]:
    (code,) = re.findall(r"```python\n(.*?)```", (PAGES / page).read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # the page's own code
    reader: Callable[[Path], tuple[Any, ...]] = names["read"]
    return reader


@pytest.fixture
def tags() -> TimeTags:
    return TimeTags(
        ticks=np.array([-3, 1000, 2000, 2**60], dtype=np.int64),
        channel=np.array([0, 1, 1, 2], dtype=np.uint8),
        channel_ids=(7, -2, 300),
        tick_as=78_125_000,
        lost=((1200, 1500),),
    )


EVENTS = [(-3, 7), (1000, -2), (2000, -2), (2**60, 300)]


@pytest.mark.parametrize(("name", "page"), [("hdf5", "hdf5.md"), ("npz", "npz.md")])
def test_reference_readers_of_the_containers(tmp_path: Path, tags: TimeTags, name: str, page: str) -> None:
    write_recording(tmp_path / "run", [tags], format=name, metadata={"instrument": "tagger"})
    tick_as, events, lost, meta = reference_reader(page)(tmp_path / "run")
    assert (tick_as, events, lost, meta) == (78_125_000, EVENTS, [[1200, 1500]], {"instrument": "tagger"})


def test_reference_reader_of_csv(tmp_path: Path, tags: TimeTags) -> None:
    write_recording(tmp_path / "run.csv", [tags], format="csv", metadata={"instrument": "tagger"})
    assert reference_reader("text.md")(tmp_path / "run.csv") == (78_125_000, EVENTS)


EXAMPLES = [
    ("qutag.md", "e8 03 00 00 00 00 00 00 01 00", "qutag-raw", {"tick_as": 10**6}, b"", [(1000, 1)]),
    (
        "id900.md",
        "11 00 00 00 00 00 00 00 03 00 00 00 00 00 00 00",
        "id900-bin",
        {"options": {"index": True, "ref_period_ps": 10**12}},
        b"",
        [(3_000_000_000_017, 1)],
    ),
    ("sfifteen.md", "01 a0 0f 00 00 00 00 00", "s15-a1", {}, b"", [(1000, 1)]),
    (
        "qcrypto.md",
        "03 00 00 00 05 00 00 00 03 00 00 00 02 00 00 00 00 00 00 8c",
        "qcrypto",
        {},
        b"",
        [(0, 2), (1, 0), (2, 3)],
    ),
    ("spc.md", "64 20 ff 0f", "spc", {}, bytes.fromhex("f4010080"), [(100, 2)]),
    ("swabian.md", "00 00 00 00 fe ff ff ff d0 07 00 00 00 00 00 00", "swabian-dump", {}, b"", [(2000, -2)]),
]


@pytest.mark.parametrize(("page", "example", "name", "kwargs", "head", "expected"), EXAMPLES)
def test_example_bytes_mean_what_the_page_says(
    tmp_path: Path, page: str, example: str, name: str, kwargs: dict[str, Any], head: bytes, expected: list[Any]
) -> None:
    assert f"`{example}`" in (PAGES / page).read_text().replace("\n", " ")
    (tmp_path / "run").write_bytes(head + bytes.fromhex(example))
    found = read_all(open_recording(tmp_path / "run", format=name, **kwargs))
    assert [(int(t), found.channel_ids[c]) for t, c in zip(found.ticks, found.channel, strict=True)] == expected


def test_the_examples_of_ptu_are_what_is_written(tmp_path: Path) -> None:
    tags = TimeTags(
        ticks=np.array([5, 2**25 + 7, 2**25 + 8]),
        channel=np.arange(3, dtype=np.uint8),
        channel_ids=(1, 3, 102),
        tick_as=10**6,
    )
    write_recording(tmp_path / "run.ptu", [tags], format="ptu")
    words = (tmp_path / "run.ptu").read_bytes()[-16:]
    page = (PAGES / "picoquant.md").read_text()
    assert all(f"`{words[i : i + 4].hex(' ')}`" in page for i in range(0, 16, 4))


def test_the_table_of_formats_is_complete() -> None:
    page = (PAGES / "README.md").read_text()
    table = page[page.index("## Names") : page.index("Content decides")]
    assert set(re.findall(r"^\| (`[^|]*`) \|", table, re.MULTILINE)) >= {"`ptu`", "`csv`"}
    assert set(FORMATS) <= set(re.findall(r"`([a-z0-9-]+)`", table))
    for row in FORMATS.values():
        assert set(row.options) <= set(re.findall(r"`(\w+)`", table))
        assert set(row.extensions) <= set(re.findall(r"`(\.\w+)`", table))
