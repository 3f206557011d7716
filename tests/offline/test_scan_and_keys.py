"""Scan expressions and files of sifted key."""

import pytest

from qkdpp.core.errors import FormatError, InputError
from qkdpp.offline.job import scan_values
from qkdpp.offline.keytext import read_sifted


def test_both_ends_of_a_scan_are_included():
    assert scan_values("gate_ps=100:500:100") == ("gate_ps", [100, 200, 300, 400, 500])
    assert scan_values("offset_ps=-0.3:0.3:0.1")[1] == pytest.approx([-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    "text", ["gate_ps", "gate=1:2:1", "gate_ps=1:2", "gate_ps=2:1:1", "gate_ps=0:1:0", "gate_ps=0:9e9:1"]
)
def test_a_bad_scan_is_an_input_error(text):
    with pytest.raises(InputError):
        scan_values(text)


@pytest.mark.parametrize("text", ["0110", "0\n1\n1\n0\n", "0 1 1 0", "0,1,1,0\r\n"])
def test_text_keys(tmp_path, text):
    path = tmp_path / "key.txt"
    path.write_bytes(text.encode())
    assert read_sifted(path).to_array().tolist() == [0, 1, 1, 0]


def test_packed_keys_are_least_significant_bit_first(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(b"\x05\x80")
    assert read_sifted(path, packed=True).to_array().tolist() == [1, 0, 1, 0, 0, 0, 0, 0] + [0] * 7 + [1]


def test_other_characters_are_named(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(b"0102")
    with pytest.raises(FormatError, match="0x32"):
        read_sifted(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_sifted(tmp_path / "absent")
