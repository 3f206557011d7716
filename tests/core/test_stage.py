"""The runner of stages: typed messages, bounded sizes, gates in order."""

from typing import ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkdpp.core.errors import LocalProtocolError, RemoteProtocolError
from qkdpp.core.stage import Message, decode, encode, receive, run_pair, seal, send, unseal


class Ping(Message, frozen=True, kw_only=True):
    max_bytes: ClassVar[int] = 64
    n: int


class Pong(Message, frozen=True, kw_only=True):
    data: bytes


def test_a_conversation_returns_both_results_and_its_messages():
    def alice():
        yield from send(Ping(n=1))
        yield from unseal("gate")
        return (yield from receive(Pong)).data

    def bob():
        ping = yield from receive(Ping)
        yield from seal("gate")
        yield from send(Pong(data=b"x" * ping.n))
        return ping.n

    a, b, transcript = run_pair(alice(), bob())
    assert (a, b) == (b"x", 1)
    assert [(side, type(m).__name__) for side, m in transcript] == [("alice", "Ping"), ("bob", "Pong")]


def test_wrong_type_wrong_gate_and_deadlock_are_told_apart():
    def speaker(effect):
        yield from effect

    with pytest.raises(RemoteProtocolError):
        run_pair(speaker(send(Ping(n=1))), speaker(receive(Pong)))
    with pytest.raises(RemoteProtocolError):
        run_pair(speaker(seal("a")), speaker(unseal("b")))
    with pytest.raises(LocalProtocolError):
        run_pair(speaker(receive(Ping)), speaker(receive(Ping)))


def test_size_is_checked_before_decoding():
    body = msgspec.msgpack.encode({"type": "Ping", "n": 1, "padding": "x" * 100})
    with pytest.raises(RemoteProtocolError, match="at most 64"):
        decode(body, Ping)


@given(st.binary(max_size=200))
def test_garbage_is_a_remote_protocol_error_or_a_message(body):
    try:
        message = decode(body, Pong)
    except RemoteProtocolError:
        return
    assert decode(encode(message), Pong) == message
