"""Numbered frames between one start of each party: delivered once, in order, over any number of connections.

A frame is kept until the peer acknowledges it and sent again, byte for byte,
after a lost connection. What may be under way is limited by the receiver: its
credit counts the bytes of BLOCK payload that its user has taken, plus a window.
CONTROL frames need no credit, and one may overtake BLOCK frames that wait for
it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from qkdpp.core.errors import LinkError, RemoteProtocolError
from qkdpp.link.outer import Outer, Type

ACK_EVERY: Final = 32
"""Frames received, at most, before an acknowledgement goes out by itself."""


class Stream:
    """Both directions between incarnation ``own`` and incarnation ``peer``."""

    def __init__(self, own: int, peer: int, window_bytes: int) -> None:
        self.own, self.peer = own, peer
        self.confirmed = False
        self.received = 0
        self._window = window_bytes
        self._waiting: deque[tuple[Type, bytes]] = deque()
        self._kept: deque[tuple[Type, bytes]] = deque()
        self._acknowledged = 0
        self._repeat = 0
        self._peer_credit = 0
        self._spent = 0
        self._heard_bytes = 0
        self._taken_bytes = 0
        self._told = (0, 0)

    @property
    def idle(self) -> bool:
        """Whether the peer has acknowledged everything."""
        return not self._waiting and not self._kept

    @property
    def queued_bytes(self) -> int:
        """Payload bytes that wait to be sent or to be acknowledged."""
        return sum(len(payload) for queue in (self._waiting, self._kept) for _, payload in queue)

    @property
    def owes(self) -> bool:
        """Whether the peer should be told soon how much has arrived or been taken."""
        received, taken = self._told
        return self.received - received >= ACK_EVERY or self._taken_bytes - taken > self._window // 4

    def push(self, kind: Type, payload: bytes) -> None:
        """Queues one numbered frame."""
        self._waiting.append((kind, payload))

    def next(self) -> Outer | None:
        """The next numbered frame to write: one to repeat, or a new one that the credit allows."""
        if self._repeat < len(self._kept):
            kind, payload = self._kept[self._repeat]
        else:
            if not self._waiting:
                return None
            at = 0
            if self._waiting[0][0] is Type.BLOCK and self._spent >= self._peer_credit:
                at = next((i for i, (kind, _) in enumerate(self._waiting) if kind is Type.CONTROL), -1)
                if at < 0:
                    return None
            kind, payload = self._waiting[at]
            del self._waiting[at]
            self._kept.append((kind, payload))
            self._spent += len(payload) if kind is Type.BLOCK else 0
        self._repeat += 1
        return self._stamped(kind, self._acknowledged + self._repeat - 1, payload)

    def unnumbered(self, kind: Type) -> Outer:
        """A BEAT or BYE; its seq is the number of the next numbered frame, so that a lost last one is missed."""
        return self._stamped(kind, self._acknowledged + self._repeat, b"")

    def _stamped(self, kind: Type, seq: int, payload: bytes) -> Outer:
        self._told = (self.received, self._taken_bytes)
        return Outer(
            type=kind,
            sender=self.own,
            receiver=self.peer,
            seq=seq,
            ack=self.received,
            credit=self._taken_bytes + self._window,
            payload=payload,
        )

    def rewind(self, received: int) -> None:
        """After a new connection: the peer has ``received`` frames; the others go out again."""
        self._repeat = 0
        self._told = (-ACK_EVERY, 0)
        self._forget(received)

    def heard(self, frame: Outer) -> bool:
        """Takes note of acknowledgement and credit; whether this is a new numbered frame, to be counted if it is good.

        LinkError if the frame is of another session or an earlier one is missing.
        """
        if (frame.sender, frame.receiver) != (self.peer, self.own):
            raise LinkError("a frame of another session")
        self._forget(frame.ack)
        self._peer_credit = frame.credit
        if frame.seq > self.received:
            raise LinkError(f"frame {frame.seq} where {self.received} was due")
        return frame.seq == self.received and frame.type not in (Type.BEAT, Type.BYE)

    def _forget(self, ack: int) -> None:
        count = ack - self._acknowledged
        if count > len(self._kept):
            raise RemoteProtocolError("the peer acknowledges frames that were never sent")
        for _ in range(count):
            self._kept.popleft()
        self._acknowledged = max(ack, self._acknowledged)
        self._repeat = max(0, self._repeat - max(count, 0))

    def count(self, frame: Outer) -> None:
        """A new frame has been checked: it will be acknowledged and never be taken again."""
        if frame.type is Type.BLOCK:
            if self._heard_bytes >= self._taken_bytes + self._window:
                raise RemoteProtocolError("the peer sent more than its credit")
            self._heard_bytes += len(frame.payload)
        self.received += 1

    def taken(self, n_bytes: int) -> None:
        """The user is done with so many bytes of BLOCK payload."""
        self._taken_bytes += n_bytes

    def fits(self, received: int) -> bool:
        """Whether a peer may have ``received`` so many frames, after what it acknowledged and what was sent."""
        return self._acknowledged <= received <= self._acknowledged + len(self._kept)
