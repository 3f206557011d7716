"""Outer frames: the bytes of the format page, and what damaged or foreign bytes lead to."""

import contextlib
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkdpp.core.errors import LinkError, LocalProtocolError, RemoteProtocolError
from qkdpp.link.outer import HEADER_BYTES, MAX_GREETING_BYTES, Outer, Reader, Type
from qkdpp.link.stream import Stream

INNER = bytes.fromhex("18000000 01 0700000000000000 02000000 01000000 7061796c6f6164")
EXAMPLE = Outer(type=Type.BLOCK, sender=7, receiver=5, seq=1, ack=2, credit=1 << 26, payload=INNER)


def by_the_page(kind: int, length: int, payload: bytes, *, version: int = 1, reserved: int = 0) -> bytes:
    """An outer frame as docs/formats/wire.md has it, written down independently."""
    fields = b"QKDL" + bytes([version, kind]) + reserved.to_bytes(2, "big") + length.to_bytes(4, "big")
    fields += (7).to_bytes(4, "big") + (5).to_bytes(4, "big")
    fields += b"".join(n.to_bytes(8, "big") for n in (1, 2, 1 << 26))
    fields += zlib.crc32(payload).to_bytes(4, "big")
    return fields + zlib.crc32(fields).to_bytes(4, "big") + payload


def read(data: bytes) -> Outer | None:
    reader = Reader()
    reader.feed(data)
    return reader.next()


def test_the_bytes_of_the_format_page() -> None:
    vector = (
        "514b444c 01 02 0000 0000001c 00000007 00000005 0000000000000001 0000000000000002"
        "0000000004000000 " + f"{zlib.crc32(INNER):08x}"
    )
    head = bytes.fromhex(vector)
    assert EXAMPLE.encode() == head + struct.pack(">I", zlib.crc32(head)) + INNER == by_the_page(2, len(INNER), INNER)
    assert len(EXAMPLE.encode()) == HEADER_BYTES + len(INNER) == 52 + 28
    assert read(EXAMPLE.encode()) == EXAMPLE


def test_the_page_itself_shows_these_bytes() -> None:
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs/formats/wire.md").read_text()
    assert EXAMPLE.encode().hex() in page.replace(" ", "").replace("\n", "")


@given(
    payloads=st.lists(st.binary(max_size=40), min_size=1, max_size=5),
    cuts=st.lists(st.integers(1, 60), max_size=30),
)
def test_frames_survive_any_cutting_of_the_stream(payloads: list[bytes], cuts: list[int]) -> None:
    sent = [Outer(type=Type.CONTROL, sender=1, receiver=2, seq=i, payload=p) for i, p in enumerate(payloads)]
    data = b"".join(frame.encode() for frame in sent)
    reader, arrived = Reader(), []
    while data:
        size = cuts.pop() if cuts else len(data)
        reader.feed(data[:size])
        data = data[size:]
        while (frame := reader.next()) is not None:
            arrived.append(frame)
    assert arrived == sent


@given(position=st.integers(0, 79), flip=st.integers(1, 255))
def test_no_single_damaged_byte_passes(position: int, flip: int) -> None:
    data = bytearray(EXAMPLE.encode())
    data[position] ^= flip
    with pytest.raises((LinkError, RemoteProtocolError)):
        read(bytes(data))


@given(data=st.binary(max_size=200))
def test_garbage_gives_nothing_but_errors_of_the_peer(data: bytes) -> None:
    with contextlib.suppress(LinkError, RemoteProtocolError):
        assert read(data) is None


def test_foreign_frames_are_named() -> None:
    for data, what in (
        (by_the_page(2, 0, b"", version=9), "version 9"),
        (by_the_page(77, 0, b""), "type of outer frame 77"),
        (by_the_page(2, 0, b"", reserved=1), "type of outer frame"),
        (by_the_page(2, MAX_GREETING_BYTES + 1, b""), "at most"),
        (b"GET / HTTP/1.1" + bytes(60), "does not speak"),
    ):
        with pytest.raises(RemoteProtocolError, match=what):
            read(data)


def test_a_payload_beyond_all_limits_is_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError):
        Outer(type=Type.BLOCK, sender=1, payload=bytes((1 << 28) + 22)).encode()


def test_acknowledging_what_was_never_sent() -> None:
    stream = Stream(1, 2, 1000)
    stream.push(Type.CONTROL, b"x")
    assert stream.next() is not None
    with pytest.raises(RemoteProtocolError, match="never sent"):
        stream.heard(Outer(type=Type.BEAT, sender=2, receiver=1, ack=2))
    with pytest.raises(LinkError, match="another session"):
        stream.heard(Outer(type=Type.BEAT, sender=3, receiver=1, ack=1))
    stream.heard(Outer(type=Type.BEAT, sender=2, receiver=1, ack=1))
    assert stream.idle
