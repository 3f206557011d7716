"""Transcript files: what was said comes back; damaged files are refused."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_stage import Run

from qkdpp.core.errors import FormatError, InputError
from qkdpp.link.transcript import read_transcript, write_transcript

RECORDS = Run().connect().bob.transcript


def test_round_trip(tmp_path: Path) -> None:
    write_transcript(tmp_path / "transcript", RECORDS)
    assert list(read_transcript(tmp_path / "transcript")) == RECORDS


def test_golden_bytes_of_the_format_page(tmp_path: Path) -> None:
    write_transcript(tmp_path / "transcript", RECORDS[:1])
    frame = RECORDS[0].frame
    assert (tmp_path / "transcript").read_bytes() == b"QKDPTRN1" + b"\x01\x06Clicks" + frame


def test_never_overwritten_and_absent(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"precious")
    with pytest.raises(InputError, match="never overwritten"):
        write_transcript(tmp_path / "there", RECORDS)
    assert (tmp_path / "there").read_bytes() == b"precious"
    with pytest.raises(InputError, match="cannot be read"):
        list(read_transcript(tmp_path / "absent"))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "damaged"
    path.unlink(missing_ok=True)
    write_transcript(path, RECORDS)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for _ in range(data.draw(st.integers(0, 3))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        records = list(read_transcript(path))
    except FormatError:
        return
    assert len(records) <= len(RECORDS)
