"""Stages: conversations written as generators, without sockets, clocks or threads.

A stage yields effects and nothing else; the link (or :func:`run_pair` in
tests) performs them. ``Seal`` and ``Unseal`` are the gates of
``docs/security.md``: an authentication tag over everything said so far.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import Any, ClassVar, TypeAlias, TypeVar

import msgspec

from qkdpp.core.errors import LocalProtocolError, RemoteProtocolError


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """Base of every message on the classical channel; never subclass a concrete message.

    ``max_bytes`` bounds the encoded body and is checked before it is decoded.
    """

    max_bytes: ClassVar[int] = 1 << 16


class Send(msgspec.Struct, frozen=True):
    """Effect: send ``message`` to the peer."""

    message: Message


class Receive(msgspec.Struct, frozen=True):
    """Effect: wait for a message of type ``expected``; the driver sends it in."""

    expected: type[Message]


class Seal(msgspec.Struct, frozen=True):
    """Effect: send an authentication tag over all that was said so far, for the named gate."""

    gate: str


class Unseal(msgspec.Struct, frozen=True):
    """Effect: wait for the peer's tag of the named gate; the driver ends the block if it does not verify."""

    gate: str


Effect: TypeAlias = Send | Receive | Seal | Unseal
R = TypeVar("R")
M = TypeVar("M", bound=Message)
Stage: TypeAlias = Generator[Effect, Message | None, R]


def send(message: Message) -> Stage[None]:
    """Sends one message."""
    yield Send(message)


def receive(expected: type[M]) -> Stage[M]:
    """Waits for one message of the given type."""
    message = yield Receive(expected)
    if not isinstance(message, expected):
        raise RemoteProtocolError(f"expected {expected.__name__}, got {type(message).__name__}")
    return message


def seal(gate: str) -> Stage[None]:
    """Sends a tag at a gate."""
    yield Seal(gate)


def unseal(gate: str) -> Stage[None]:
    """Waits for the peer's tag at a gate: nothing after this line runs unless it verified."""
    yield Unseal(gate)


def encode(message: Message) -> bytes:
    """A message as MessagePack, its type name included."""
    return msgspec.msgpack.encode(message)


def decode(body: bytes, expected: type[M]) -> M:
    """The message in ``body``; RemoteProtocolError unless it is a well-formed ``expected`` of allowed size."""
    if len(body) > expected.max_bytes:
        raise RemoteProtocolError(f"{expected.__name__}: {len(body)} bytes, at most {expected.max_bytes} allowed")
    try:
        return msgspec.msgpack.decode(body, type=expected)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"{expected.__name__}: {error}") from error


def run_pair(alice: Stage[Any], bob: Stage[Any]) -> tuple[Any, Any, list[tuple[str, Message]]]:
    """Drives two stages against each other in memory; returns both results and the messages sent.

    For tests of single stages: messages are encoded and decoded as on the wire; gates pass without a tag, in order.
    """
    inbox: dict[str, deque[bytes | str]] = {"alice": deque(), "bob": deque()}
    sides = {"alice": alice, "bob": bob}
    waiting: dict[str, Effect | None] = {"alice": None, "bob": None}
    results: dict[str, Any] = {}
    transcript: list[tuple[str, Message]] = []

    def advance(name: str, value: Message | None) -> None:
        other = "bob" if name == "alice" else "alice"
        try:
            while True:
                effect = sides[name].send(value)
                value = None
                if isinstance(effect, Send):
                    transcript.append((name, effect.message))
                    inbox[other].append(encode(effect.message))
                elif isinstance(effect, Seal):
                    inbox[other].append(effect.gate)
                else:
                    waiting[name] = effect
                    return
        except StopIteration as stop:
            waiting[name] = None
            results[name] = stop.value

    for name in sides:
        advance(name, None)
    while len(results) < len(sides):
        ready = [n for n in sides if n not in results and inbox[n]]
        if not ready:
            raise LocalProtocolError(f"both sides wait: {waiting}")
        name = ready[0]
        item, effect = inbox[name].popleft(), waiting[name]
        if isinstance(effect, Unseal) and item == effect.gate:
            advance(name, None)
        elif isinstance(effect, Receive) and isinstance(item, bytes):
            advance(name, decode(item, effect.expected))
        else:
            raise RemoteProtocolError(
                f"{name} waits for {effect}, got {item if isinstance(item, str) else 'a message'}"
            )
    return results["alice"], results["bob"], transcript
