"""HELLO, which opens every connection, and Confirm, which opens every session under a tag.

A difference in what both must agree on is named field by field, with both
values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec

from qkdpp.core.ledger import Side
from qkdpp.core.stage import Message
from qkdpp.link.outer import MAX_GREETING_BYTES

WIRE_VERSION: Final = 2
"""Of outer frames' payloads, control messages and what both sides do with them."""


class Hello(Message, frozen=True, kw_only=True):
    """First frame of either side on every connection. Not authenticated: what counts is said again in Confirm.

    ``parameters`` are the public parameters by name, ``digest`` is :func:`digest` of them; ``filled``, ``sent`` and
    ``accepted`` are the numbers of the pool; ``received`` gives, by incarnation of the peer, how many of its frames
    arrived.
    """

    max_bytes: ClassVar[int] = MAX_GREETING_BYTES

    wire_version: int
    role: Side
    incarnation: int
    capabilities: list[str]
    parameters: dict[str, str]
    digest: bytes
    open_blocks: int
    filled: int
    sent: int
    accepted: int
    received: dict[int, int]


class Confirm(Message, frozen=True, kw_only=True):
    """First control message of either side in every session: who talks to whom, about what, with which pool."""

    incarnation: int
    peer_incarnation: int
    digest: bytes
    capabilities: list[str]
    open_blocks: int
    filled: int
    sent: int
    accepted: int


class Leave(Message, frozen=True, kw_only=True):
    """Last control message of a side that ends: it starts nothing more in this session."""


def named_fields(value: msgspec.Struct) -> dict[str, str]:
    """The fields of nested structs as ``section.field`` and canonical JSON."""
    fields: dict[str, str] = {}

    def walk(prefix: str, part: Any) -> None:  # noqa: ANN401 - builtins of any struct
        if isinstance(part, dict) and part:
            for name, inner in part.items():
                walk(f"{prefix}.{name}" if prefix else str(name), inner)
        else:
            fields[prefix] = msgspec.json.encode(part, order="sorted").decode()

    walk("", msgspec.to_builtins(value))
    return fields


def digest(parameters: Mapping[str, str]) -> bytes:
    """SHA-256 of the named fields as canonical JSON."""
    return hashlib.sha256(msgspec.json.encode(dict(parameters), order="sorted")).digest()


def differences(own: Mapping[str, str], theirs: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Own and peer's value of every parameter that differs."""
    pairs = {name: (own.get(name, "absent"), theirs.get(name, "absent")) for name in sorted(own.keys() | theirs.keys())}
    return {name: values for name, values in pairs.items() if values[0] != values[1]}


def incompatible(own: Hello, theirs: Hello) -> dict[str, tuple[str, str]]:
    """Own and peer's value of what must fit before the two can talk at all."""
    found: dict[str, tuple[str, str]] = {}
    if own.wire_version != theirs.wire_version:
        found["wire version: install the same version on both sides"] = (
            str(own.wire_version),
            str(theirs.wire_version),
        )
    if own.role == theirs.role:
        found["role: one must be alice, the other bob"] = (own.role, theirs.role)
    return found
