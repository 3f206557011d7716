"""Recorded randomness: the same bytes come again, sealed files open with their own key and block only."""

from pathlib import Path

import pytest

from qkdpp.core.entropy import OsEntropy
from qkdpp.core.errors import FormatError, InputError
from qkdpp.node.randomness import RecordedEntropy, ReplayedEntropy, seal, sealing_key, unseal


def test_what_was_recorded_comes_again_and_ends() -> None:
    recorded = RecordedEntropy(OsEntropy())
    first, second = recorded.bytes(5), recorded.bytes(300)
    replayed = ReplayedEntropy(bytes(recorded.kept))
    assert replayed.bytes(5) == first
    assert replayed.bytes(300) == second
    with pytest.raises(InputError, match="shorter"):
        replayed.bytes(1)
    assert first.hex() not in repr(recorded) + repr(replayed)


def test_a_sealed_file_opens_with_its_key_and_block_only(tmp_path: Path) -> None:
    key = sealing_key(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o400
    assert sealing_key(tmp_path / "key") == key
    seal(tmp_path / "sealed", key, 7, b"randomness")
    assert unseal(tmp_path / "sealed", key, 7) == b"randomness"
    assert b"randomness" not in (tmp_path / "sealed").read_bytes()
    with pytest.raises(FormatError):
        unseal(tmp_path / "sealed", key, 8)
    with pytest.raises(FormatError):
        unseal(tmp_path / "sealed", bytes(32), 7)
    spoilt = tmp_path / "spoilt"
    data = bytearray((tmp_path / "sealed").read_bytes())
    data[20] ^= 1
    spoilt.write_bytes(data)
    with pytest.raises(FormatError):
        unseal(spoilt, key, 7)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    sealing_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(InputError, match="others may read"):
        sealing_key(tmp_path / "key")
