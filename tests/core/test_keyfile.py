"""Key files: exact bits, for the owner only, never over an existing file."""

import os
from pathlib import Path

import numpy as np
import pytest

from qkdpp.core import keyfile
from qkdpp.core.bits import Bits
from qkdpp.core.errors import FormatError, InputError
from qkdpp.core.keyfile import create_secret, read_key, write_key


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 63, 64, 65, 1023])
def test_round_trip(tmp_path: Path, n: int) -> None:
    bits = Bits.from_array(np.random.default_rng(n).integers(0, 2, n))
    write_key(tmp_path / "alice.key", bits)
    assert (tmp_path / "alice.key").stat().st_size == (n + 7) // 8
    assert read_key(tmp_path / "alice.key", n).equals(bits)


def test_golden_bytes_of_the_format_page(tmp_path: Path) -> None:
    write_key(tmp_path / "k", Bits.from_array(np.array([1, 0, 1, 1, 0, 0, 0, 0, 0, 1])))
    assert (tmp_path / "k").read_bytes().hex() == "0d02"


def test_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_key(tmp_path / "k", Bits.zeros(9))
    finally:
        os.umask(before)
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600


def test_existing_files_and_links_stay(tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("k", "link"):
        with pytest.raises(InputError, match="never overwritten"):
            write_key(tmp_path / name, Bits.zeros(9))
    assert (tmp_path / "k").read_bytes() == b"old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["k", "link"]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be created"):
        write_key(tmp_path / "absent" / "k", Bits.zeros(9))


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(keyfile.os, "fsync", fail)
    with pytest.raises(InputError, match="no space left"):
        create_secret(tmp_path / "k", b"secret")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("content", "n"), [(b"\0\0", 8), (b"\0", 9), (b"", 1), (b"\xff", 7)])
def test_other_lengths_and_padding_are_refused(tmp_path: Path, content: bytes, n: int) -> None:
    (tmp_path / "k").write_bytes(content)
    with pytest.raises(FormatError, match="k: "):
        read_key(tmp_path / "k", n)


def test_absent_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_key(tmp_path / "k", 8)
