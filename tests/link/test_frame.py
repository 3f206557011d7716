"""Frames: golden bytes of the format page, and nothing but RemoteProtocolError for anything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkdpp.core.errors import LocalProtocolError, RemoteProtocolError
from qkdpp.link import frame as wire
from qkdpp.link.frame import Frame, Kind, decode

GOLDEN = bytes.fromhex("180000000107000000000000000200000001000000" + b"payload".hex())


def test_golden_example_of_the_format_page() -> None:
    frame = Frame(kind=Kind.MESSAGE, block=7, seq=2, ack=1, body=b"payload")
    assert frame.encode() == GOLDEN
    assert decode(GOLDEN) == frame


@given(
    st.sampled_from(list(Kind)),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(),
)
def test_round_trip(kind: Kind, block: int, seq: int, ack: int, body: bytes) -> None:
    frame = Frame(kind=kind, block=block, seq=seq, ack=ack, body=body)
    assert decode(frame.encode()) == frame


@pytest.mark.parametrize("cut", range(len(GOLDEN)))
def test_every_truncation_is_refused(cut: int) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(GOLDEN[:cut])


@pytest.mark.parametrize("data", [GOLDEN + b"\0", GOLDEN + GOLDEN, b"\xff\xff\xff\xff" + GOLDEN[4:]])
def test_wrong_length_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="announces"):
        decode(data)


@pytest.mark.parametrize("kind", [0, 4, 255])
def test_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(RemoteProtocolError, match="unknown kind"):
        decode(GOLDEN[:4] + bytes([kind]) + GOLDEN[5:])


@given(st.binary(max_size=100))
def test_any_bytes(data: bytes) -> None:
    try:
        frame = decode(data)
    except RemoteProtocolError:
        return
    assert frame.encode() == data


def test_bodies_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_BODY_BYTES", 6)
    with pytest.raises(RemoteProtocolError, match="28 bytes"):
        decode(GOLDEN)
    frame = Frame(kind=Kind.MESSAGE, block=0, seq=0, ack=0, body=b"payload")
    with pytest.raises(LocalProtocolError, match="at most 6"):
        frame.encode()
