"""The live link of one party, without sockets and clock: bytes in, events and bytes out.

Assumes a connection that keeps order, may break at any moment and may be
anybody's. Guarantees, while both processes live: every frame sent is delivered
once, in order, byte for byte the same over any number of connections. When
either process was started again there is a new session, announced by ``Up``
with ``resumed`` false, and nothing of an earlier one is delivered any more.
Control messages are delivered only if their tag verifies. States and their
transitions are in ``qkdpp.link.states``.

The user calls :meth:`Session.connected`, feeds :meth:`receive`, calls
:meth:`tick` a few times a second and writes what :meth:`outgoing` gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from qkdpp.core import stage
from qkdpp.core.abort import Abort, Aborted, AbortReason
from qkdpp.core.errors import AuthenticationError, LinkError, LocalProtocolError, RemoteProtocolError
from qkdpp.core.ledger import Side
from qkdpp.core.stage import Message
from qkdpp.link import frame as frames
from qkdpp.link.control import Codec, ControlAuth
from qkdpp.link.events import BlockFrame, Control, Down, Event, Failed, PeerLeft, Up
from qkdpp.link.hello import WIRE_VERSION, Confirm, Hello, differences, digest
from qkdpp.link.outer import MAX_GREETING_BYTES, MAX_PAYLOAD_BYTES, Outer, Reader, Type
from qkdpp.link.pool import PeerSeen, Pool
from qkdpp.link.states import Move, State, moved
from qkdpp.link.stream import Stream

BEAT_S: Final = 1.0
DEAD_S: Final = 5.0
CHUNK_BYTES: Final = 1 << 20
"""What :meth:`Session.outgoing` gives at once, unless one frame is larger."""
_ABROAD: Final = (State.AGREED, State.RUNNING, State.DRAINING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a session is made with.

    Attributes:
        role: alice or bob; the peer must be the other.
        parameters: public parameters by name, which must agree (``qkdpp.link.hello.named_fields``).
        capabilities: names of what this side can do beyond the wire version; both sides use what they share.
        open_blocks: blocks this side takes at once.
        window_bytes: BLOCK payload this side holds, at most, before its user has taken it (and one frame more).
    """

    role: Side
    parameters: Mapping[str, str]
    capabilities: frozenset[str] = field(default_factory=frozenset)
    open_blocks: int = 4
    window_bytes: int = 64 << 20


class Session:
    """One party's end. ``controls`` are the types of control messages that the node registers.

    Making one counts up the incarnation in ``pool``, durably.
    """

    def __init__(self, setup: Setup, pool: Pool, controls: Sequence[type[Message]] = ()) -> None:
        self.state = State.CLOSED
        self.finished = False
        self.number = 0
        """Sessions confirmed so far, the present one included."""
        self.incarnation = pool.begin()
        self._setup, self._pool, self._codec = setup, pool, Codec(controls)
        self._digest = digest(setup.parameters)
        self._stream: Stream | None = None
        self._active: Stream | None = None
        self._candidate: Stream | None = None
        self._auths: dict[int, ControlAuth] = {}
        self._greeting: Hello | None = None
        self._up: Up | None = None
        self._leaving = self._bye_sent = self._bye_heard = False
        self._reader = Reader()
        self._ready: list[bytes] = []
        self._beat = False
        self._heard_s = self._beat_s = 0.0

    @property
    def established(self) -> bool:
        """Whether there is a session with the peer, though the connection may be down."""
        return self._stream is not None

    @property
    def queued_bytes(self) -> int:
        """Payload bytes sent by the user and not yet acknowledged by the peer."""
        return 0 if self._stream is None else self._stream.queued_bytes

    # What the user of the link does.

    def send(self, block_frame: bytes) -> None:
        """Queues a frame of a block; it is kept until the peer has it."""
        self._established().push(Type.BLOCK, block_frame)

    def send_control(self, message: Message) -> None:
        """Seals and queues a control message. Raises Abort(POOL_EXHAUSTED)."""
        stream = self._established()
        stream.push(Type.CONTROL, self._auths[stream.peer].seal(self._codec.encode(message)))

    def taken(self, n_bytes: int) -> None:
        """The user is done with BLOCK frames of so many bytes: the peer may send more."""
        if self._stream is not None:
            self._stream.taken(n_bytes)

    def close(self) -> None:
        """Takes leave once everything sent is acknowledged; ``finished`` tells when. Final."""
        self._leaving = True
        if self.state is State.RUNNING:
            self._move(Move.LEAVING)
        elif self.state is State.CLOSED:
            self.finished = True

    def _established(self) -> Stream:
        if self._stream is None:
            raise LocalProtocolError("nothing can be sent before the link was up once")
        return self._stream

    # What the connection does.

    def connected(self, now_s: float) -> None:
        """A connection is there: greets the peer."""
        self._move(Move.CONNECTED)
        self._reader, self._ready, self._active = Reader(), [], None
        self._bye_sent = self._bye_heard = self._beat = False
        self._heard_s = self._beat_s = now_s
        self._ready.append(
            Outer(type=Type.HELLO, sender=self.incarnation, payload=stage.encode(self._hello())).encode()
        )

    def disconnected(self, reason: str) -> list[Event]:
        """The connection is gone."""
        if self.state in (State.CLOSED, State.ABORTED):
            return []
        self._move(Move.LOST)
        return [Down(reason=reason)]

    def tick(self, now_s: float) -> list[Event]:
        """Heartbeats and the death of silent connections; call it a few times a second."""
        if self.state in (State.CLOSED, State.ABORTED):
            return []
        if now_s - self._heard_s > DEAD_S:
            return self.disconnected(f"nothing heard for {DEAD_S:g} s")
        if now_s - self._beat_s >= BEAT_S:
            self._beat, self._beat_s = True, now_s
        return []

    def receive(self, data: bytes, now_s: float) -> list[Event]:
        """Takes bytes as they came; the events in order. Ends the connection or the session on what is wrong."""
        if self.state in (State.CLOSED, State.ABORTED):
            return []
        self._heard_s = now_s
        self._reader.feed(data)
        events: list[Event] = []
        try:
            while self.state not in (State.CLOSED, State.ABORTED) and (frame := self._reader.next()) is not None:
                events += self._heard(frame)
        except (LinkError, RemoteProtocolError) as error:
            events += self.disconnected(str(error))
        except AuthenticationError as error:
            aborted = Aborted(reason=AbortReason.AUTHENTICATION_FAILED, evidence={"error": str(error)})
            events += self._refuse(aborted, "somebody alters messages, or the two pools are not copies of one another")
        except Abort as abort:
            events += self._refuse(abort.aborted, "the authentication pool is used up: make a new one for both parties")
        return events

    def outgoing(self) -> bytes:
        """Bytes to write now; empty if there are none."""
        chunks, size = self._ready, sum(map(len, self._ready))
        self._ready = []
        stream = self._active
        while stream is not None and self.state in _ABROAD and size < CHUNK_BYTES:
            frame = stream.next()
            if frame is None and (self._beat or stream.owes):
                frame = stream.unnumbered(Type.BEAT)
                self._beat = False
            if frame is None and self.state is State.DRAINING and stream.idle and not self._bye_sent:
                frame = stream.unnumbered(Type.BYE)
                self._bye_sent = True
            if frame is None:
                break
            chunks.append(frame.encode())
            size += len(chunks[-1])
        self._part()
        return b"".join(chunks)

    def _part(self) -> None:
        """Ends the connection when both sides have said goodbye."""
        if self.state is State.DRAINING and self._bye_sent and self._bye_heard:
            self._move(Move.DRAINED)
            self.finished = self._leaving

    def _move(self, move: Move) -> None:
        self.state = moved(self.state, move)

    def _refuse(self, aborted: Aborted, remedy: str) -> list[Event]:
        text = f"{aborted.reason.value}: {dict(aborted.evidence)}".encode()[: MAX_GREETING_BYTES // 2]
        self._ready.append(Outer(type=Type.REFUSE, sender=self.incarnation, payload=text).encode())
        self._move(Move.REFUSED)
        return [Failed(aborted=aborted, remedy=remedy)]

    # Frames.

    def _heard(self, frame: Outer) -> list[Event]:
        if frame.type is Type.REFUSE:
            text = frame.payload.decode("utf-8", "replace")
            return self.disconnected(f"the peer refuses: {text}")
        if self.state is State.HELLO:
            if frame.type is not Type.HELLO:
                raise RemoteProtocolError("a connection that does not begin with a greeting")
            return self._greeted(stage.decode(frame.payload, Hello), frame.sender)
        stream = self._active
        if stream is None or frame.type is Type.HELLO:
            raise RemoteProtocolError("a second greeting")
        stream.heard(frame)
        new = stream.accept(frame)
        if frame.type is Type.BYE:
            return self._peer_leaves()
        if not new:
            return []
        if frame.type is Type.CONTROL:
            message = self._codec.decode(self._auths[stream.peer].unseal(frame.payload))
            if isinstance(message, Confirm):
                return self._confirmed(message, stream)
            if stream.confirmed:
                return [Control(message=message)]
        if not stream.confirmed:
            raise AuthenticationError("the peer began a session without confirming who it is")
        if len(frame.payload) < frames.HEADER.size:
            raise RemoteProtocolError(f"a frame of {len(frame.payload)} bytes")
        block: int = frames.HEADER.unpack_from(frame.payload)[2]
        return [BlockFrame(block=block, frame=frame.payload)]

    def _peer_leaves(self) -> list[Event]:
        self._bye_heard = True
        leaving = self.state is State.RUNNING
        if leaving:
            self._move(Move.LEAVING)
        self._part()
        return [PeerLeft()] if leaving else []

    # Greeting and confirmation.

    def _hello(self) -> Hello:
        streams = [stream for stream in (self._stream, self._candidate) if stream is not None]
        return Hello(
            wire_version=WIRE_VERSION,
            role=self._setup.role,
            incarnation=self.incarnation,
            capabilities=sorted(self._setup.capabilities),
            parameters=dict(self._setup.parameters),
            digest=self._digest,
            open_blocks=self._setup.open_blocks,
            filled=self._pool.filled,
            sent=self._pool.sent,
            accepted=self._pool.accepted,
            received={stream.peer: stream.received for stream in streams},
        )

    def _greeted(self, theirs: Hello, sender: int) -> list[Event]:
        if sender != theirs.incarnation:
            raise RemoteProtocolError("Hello: header and body name different incarnations")
        if differing := differences(self._hello(), theirs):
            evidence = {"own_and_peer_value": {name: list(values) for name, values in differing.items()}}
            return self._refuse(
                Aborted(reason=AbortReason.PARAMETERS_DIFFER, evidence=evidence),
                "give both sides the same public parameters: " + ", ".join(differing),
            )
        seen = PeerSeen(incarnation=theirs.incarnation, sent=theirs.sent, accepted=theirs.accepted)
        received = theirs.received.get(self.incarnation, 0)
        known = [s for s in (self._stream, self._candidate) if s is not None and s.peer == theirs.incarnation]
        wrong = self._pool.check_peer(seen)
        if known and known[0].forgotten_by(received):
            wrong = "the peer has forgotten this session without counting up its incarnation: make new pools"
        if wrong is not None:
            aborted = Aborted(reason=AbortReason.AUTHENTICATION_FAILED, evidence={"error": wrong})
            return self._refuse(aborted, wrong)
        self._greeting = theirs
        self._active = known[0] if known else self._new_stream(theirs)
        self._active.rewind(received)
        self._move(Move.GREETED)
        if self._up is None or not self._active.confirmed:
            return []
        return self._running(replace(self._up, resumed=True))

    def _new_stream(self, theirs: Hello) -> Stream:
        stream = Stream(self.incarnation, theirs.incarnation, self._setup.window_bytes)
        self._candidate = stream
        kept = set() if self._stream is None else {self._stream.peer}
        self._auths = {peer: auth for peer, auth in self._auths.items() if peer in kept}
        self._auths[stream.peer] = ControlAuth(self._pool, self._setup.role, self.incarnation, stream.peer)
        if self._setup.role == "alice":
            self._confirm(stream, theirs.filled)
        return stream

    def _confirm(self, stream: Stream, peer_filled: int) -> None:
        """Alice speaks first: Bob spends no pad before she has proved herself."""
        pad = self._pool.take(peer_filled)
        message = Confirm(
            incarnation=self.incarnation,
            peer_incarnation=stream.peer,
            digest=self._digest,
            capabilities=sorted(self._setup.capabilities),
            open_blocks=self._setup.open_blocks,
            filled=self._pool.filled,
            sent=pad[0] + 1,
            accepted=self._pool.accepted,
        )
        stream.push(Type.CONTROL, self._auths[stream.peer].seal(self._codec.encode(message), pad))

    def _confirmed(self, theirs: Confirm, stream: Stream) -> list[Event]:
        told = self._greeting
        pair = (theirs.peer_incarnation, theirs.incarnation, theirs.digest)
        if stream.confirmed or told is None or pair != (self.incarnation, stream.peer, self._digest):
            raise AuthenticationError("the peer confirms another session than this one")
        if (theirs.capabilities, theirs.open_blocks) != (told.capabilities, told.open_blocks):
            raise AuthenticationError("the peer confirms another greeting than the one that arrived")
        seen = PeerSeen(incarnation=stream.peer, sent=theirs.sent, accepted=theirs.accepted)
        if wrong := self._pool.check_peer(seen):
            raise AuthenticationError(wrong)
        self._pool.note_peer(seen)
        self._pool.agree(min(self._pool.filled, theirs.filled))
        stream.confirmed = True
        self._stream, self._candidate = stream, None
        self._auths = {stream.peer: self._auths[stream.peer]}
        self.number += 1
        self._up = Up(
            session=self.number,
            resumed=False,
            peer_incarnation=stream.peer,
            open_blocks=min(self._setup.open_blocks, theirs.open_blocks),
            capabilities=self._setup.capabilities & frozenset(theirs.capabilities),
        )
        if self._setup.role == "bob":
            self._confirm(stream, theirs.filled)
        return self._running(self._up)

    def _running(self, up: Up) -> list[Event]:
        self._reader.max_payload_bytes = MAX_PAYLOAD_BYTES
        self._move(Move.CONFIRMED)
        if self._leaving:
            self._move(Move.LEAVING)
        return [up]
