"""One party of one block: performs the effects of a stage on frames, bytes in and bytes out.

Guarantees: frames are taken in sequence and once; after ``Unseal`` the stage
goes on only if the peer's tag covers every frame received and every message
sent; after an end, by result or abort, nothing more is sent or accepted.
Expected ends, faults of the peer and failed tags become :class:`Aborted`
results; faults of this side propagate as exceptions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic

from qkdpp.core import stage as core
from qkdpp.core.abort import Abort, Aborted, AbortReason
from qkdpp.core.errors import AuthenticationError, LocalProtocolError, RemoteProtocolError
from qkdpp.core.ledger import Side
from qkdpp.core.stage import Message, R, Receive, Seal, Send, Stage, Unseal
from qkdpp.link.auth import Authenticator
from qkdpp.link.frame import HEADER, Frame, Kind, decode
from qkdpp.link.pool import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One frame of a transcript: who said it, and what it was taken for.

    ``name`` is the type of a message, the gate of a tag, or the reason of an abort.
    """

    side: Side
    kind: Kind
    name: str
    frame: bytes = field(repr=False)

    @property
    def body(self) -> bytes:
        """The frame without its header."""
        return self.frame[HEADER.size :]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Frames and bytes of one direction, and how many of the frames are messages."""

    frames: int
    messages: int
    n_bytes: int


class Endpoint(Generic[R]):
    """Drives ``stage`` as ``role`` over frames of block ``block_id``, authenticated from ``pool``.

    With fewer than ``pads_needed`` pads left in either lane the block ends before anything is sent.
    """

    def __init__(self, stage: Stage[R], role: Side, block_id: int, pool: Pool, *, pads_needed: int = 0) -> None:
        self.role: Side = role
        self.transcript: list[Record] = []
        self._peer: Side = "bob" if role == "alice" else "alice"
        self._stage = stage
        self._block = block_id
        self._auth = Authenticator(pool, role, block_id)
        self._pool_left, self._pads_needed = pool.remaining, pads_needed
        self._counts: dict[Side, int] = {"alice": 0, "bob": 0}
        self._must_hear = 0
        self._heard = 0
        self._waiting: Receive | Unseal | None = None
        self._outgoing: list[bytes] = []
        self._results: list[R | Aborted] = []

    @property
    def finished(self) -> bool:
        """Whether there is a result."""
        return bool(self._results)

    @property
    def result(self) -> R | Aborted:
        """What the stage returned, or why it did not; LocalProtocolError before the end."""
        if not self._results:
            raise LocalProtocolError(f"{self.role} has not finished")
        return self._results[0]

    @property
    def eps_auth(self) -> float:
        """Sum of the forgery probabilities of all tags so far, both directions."""
        return self._auth.eps_auth

    def traffic(self, side: Side) -> Traffic:
        """What ``side`` sent."""
        records = [record for record in self.transcript if record.side == side]
        return Traffic(
            frames=len(records),
            messages=sum(record.kind is Kind.MESSAGE for record in records),
            n_bytes=sum(len(record.frame) for record in records),
        )

    def start(self) -> list[bytes]:
        """Runs the stage up to its first wait; the frames to send, in order."""
        if self._waiting is not None or self.finished:
            raise LocalProtocolError(f"{self.role} was started before")
        if self._pool_left < self._pads_needed:
            self._abort(
                Aborted(
                    reason=AbortReason.POOL_EXHAUSTED,
                    evidence={"tags_left": self._pool_left, "tags_needed": self._pads_needed},
                )
            )
        else:
            self._guarded(None)
        return self._flush()

    def receive(self, frame: bytes) -> list[bytes]:
        """Takes one frame of the peer; the frames to send in answer, in order. Ignored after the end."""
        if self.finished:
            return []
        if self._waiting is None:
            raise LocalProtocolError(f"{self.role} is not waiting: never started, or ended by an exception")
        self._guarded(frame)
        return self._flush()

    def lost(self) -> None:
        """The channel closed before the end."""
        if not self.finished:
            self._end(Aborted(reason=AbortReason.LINK_LOST, evidence={"waiting_for": _described(self._waiting)}))

    def _flush(self) -> list[bytes]:
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def _guarded(self, frame: bytes | None) -> None:
        """One step; expected ends and faults of the peer end the block."""
        try:
            self._advance(None if frame is None else self._accept(frame))
        except Abort as abort:
            self._abort(abort.aborted)
        except AuthenticationError as error:
            self._abort(Aborted(reason=AbortReason.AUTHENTICATION_FAILED, evidence={"error": str(error)}))
        except RemoteProtocolError as error:
            self._abort(Aborted(reason=AbortReason.PROTOCOL_VIOLATION, evidence={"error": str(error)}))

    def _accept(self, data: bytes) -> Message | None:
        """Checks a frame against what the stage waits for; the message for the stage, if it is one."""
        frame = decode(data)
        self._check_order(frame)
        waiting = self._waiting
        message: Message | None = None
        if frame.kind is Kind.ABORT:
            self._note(self._peer, frame.kind, "abort", data)
            raise _PeerAborted(frame.body)
        if isinstance(waiting, Receive) and frame.kind is Kind.MESSAGE:
            message = core.decode(frame.body, waiting.expected)
            self._note(self._peer, frame.kind, type(message).__name__, data)
        elif isinstance(waiting, Unseal) and frame.kind is Kind.TAG:
            if frame.ack < self._must_hear:
                raise RemoteProtocolError(f"the peer sealed gate {waiting.gate!r} before it had heard everything")
            self._auth.unseal(waiting.gate, frame.body, frame.ack)
            self._note(self._peer, frame.kind, waiting.gate, data)
        else:
            raise RemoteProtocolError(f"waiting for {_described(waiting)}, got a {frame.kind.name.lower()} frame")
        return message

    def _check_order(self, frame: Frame) -> None:
        if frame.block != self._block:
            raise RemoteProtocolError(f"a frame of block {frame.block} in block {self._block}")
        if frame.seq != self._counts[self._peer]:
            raise RemoteProtocolError(f"frame {frame.seq} where {self._counts[self._peer]} was due")
        if not self._heard <= frame.ack <= self._counts[self.role]:
            raise RemoteProtocolError(f"{frame.ack} frames acknowledged of {self._counts[self.role]} sent")
        self._heard = frame.ack

    def _advance(self, message: Message | None) -> None:
        """Runs the stage up to its next wait or its end."""
        self._waiting = None
        try:
            while True:
                effect = self._stage.send(message)
                message = None
                if isinstance(effect, Send):
                    self._send_message(effect.message)
                elif isinstance(effect, Seal):
                    self._send(Kind.TAG, effect.gate, self._auth.seal(effect.gate))
                else:
                    self._waiting = effect
                    return
        except StopIteration as stop:
            self._results.append(stop.value)

    def _send_message(self, message: Message) -> None:
        body, limit = core.encode(message), type(message).max_bytes
        if len(body) > limit:
            raise LocalProtocolError(f"{type(message).__name__}: {len(body)} bytes, at most {limit} allowed")
        self._send(Kind.MESSAGE, type(message).__name__, body)
        self._must_hear = self._counts[self.role]

    def _send(self, kind: Kind, name: str, body: bytes) -> None:
        seq, ack = self._counts[self.role], self._counts[self._peer]
        data = Frame(kind=kind, block=self._block, seq=seq, ack=ack, body=body).encode()
        self._note(self.role, kind, name, data)
        self._outgoing.append(data)

    def _note(self, side: Side, kind: Kind, name: str, data: bytes) -> None:
        self._counts[side] += 1
        self._auth.append(side, data)
        self.transcript.append(Record(side=side, kind=kind, name=name, frame=data))

    def _abort(self, aborted: Aborted) -> None:
        if aborted.reason is not AbortReason.PEER_ABORTED:
            self._send(Kind.ABORT, aborted.reason.value, aborted.reason.value.encode())
        self._end(aborted)

    def _end(self, aborted: Aborted) -> None:
        self._stage.close()
        self._waiting = None
        self._results.append(aborted)


def _described(waiting: Receive | Unseal | None) -> str:
    if waiting is None:
        return "nothing"
    return waiting.expected.__name__ if isinstance(waiting, Receive) else f"the tag of gate {waiting.gate!r}"


class _PeerAborted(Abort):
    """An abort frame arrived; its body is the peer's word and checked as such."""

    def __init__(self, body: bytes) -> None:
        try:
            reason = AbortReason(body.decode("ascii")).value
        except ValueError:
            reason = "unknown"
        super().__init__(AbortReason.PEER_ABORTED, peer_reason=reason)
