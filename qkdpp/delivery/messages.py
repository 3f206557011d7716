"""What two key managers say to each other, as MessagePack (``docs/formats/delivery.md``)."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

import msgspec

from qkdpp.keystore import Hello, Reservation, Terms


class Greeting(msgspec.Struct, frozen=True, tag="hello", forbid_unknown_fields=True):
    """Counters of the sender's store."""

    hello: Hello


class Reserve(msgspec.Struct, frozen=True, tag="reserve", forbid_unknown_fields=True):
    """A reservation to accept; ``number`` is the sender's, for the answer."""

    number: int
    reservation: Reservation


class Join(msgspec.Struct, frozen=True, tag="join", forbid_unknown_fields=True):
    """The sender's application, which is ``who`` of it, has opened a stream."""

    number: int
    terms: Terms
    who: int


class Answer(msgspec.Struct, frozen=True, tag="answer", forbid_unknown_fields=True):
    """Accepted and durable, or why not."""

    number: int
    refused: str


class Void(msgspec.Struct, frozen=True, tag="void", forbid_unknown_fields=True):
    """Keys that came to nothing."""

    key_ids: tuple[UUID, ...]


class More(msgspec.Struct, frozen=True, tag="more", forbid_unknown_fields=True):
    """The destination waits for a chunk of a stream."""

    stream: UUID


class Close(msgspec.Struct, frozen=True, tag="close", forbid_unknown_fields=True):
    """The sender's application, which is ``who`` of it, has closed a stream; nothing from ``last`` on is given out."""

    stream: UUID
    who: int
    last: int


class Ask(msgspec.Struct, frozen=True, tag="ask", forbid_unknown_fields=True):
    """The sender's stream has run dry."""


class Grant(msgspec.Struct, frozen=True, tag="grant", forbid_unknown_fields=True):
    """A block that the receiver allocates from now on; the sender does no more, durably."""

    epoch: int
    block: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


Message = Greeting | Reserve | Join | Answer | Void | More | Close | Ask | Grant
ENCODER: Final = msgspec.msgpack.Encoder()
DECODER: Final = msgspec.msgpack.Decoder(Message)
