"""The live link of one party, without sockets and clock: bytes in, events and bytes out.

Assumes a connection that keeps order, may break at any moment and may be
anybody's. Guarantees, while both processes live: every frame sent is delivered
once, in order, byte for byte the same over any number of connections. When
either process was started again there is a new session, announced by ``Up``
with ``resumed`` false, and nothing of an earlier one is delivered any more.
Control messages are delivered only if their tag verifies. What carries no tag
(greeting, acknowledgements, BYE, REFUSE) can at most cost the connection or,
if it spoils the numbers, the session: then a new one begins by itself. The link
is given up for good only for what a valid tag proves, or when the own pool is
used up. States and their transitions are in ``qkdpp.link.states``.

The user calls :meth:`Session.connected`, feeds :meth:`receive`, calls
:meth:`tick` a few times a second and writes what :meth:`outgoing` gives.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from qkdpp.core import stage
from qkdpp.core.abort import Abort, Aborted, AbortReason
from qkdpp.core.errors import AuthenticationError, LinkError, LocalProtocolError, RemoteProtocolError
from qkdpp.core.ledger import Side
from qkdpp.core.stage import Message
from qkdpp.link import frame as frames
from qkdpp.link.allowance import Allowance
from qkdpp.link.control import Codec, ControlAuth
from qkdpp.link.events import BlockFrame, Control, Down, Event, Failed, PeerLeft, Suspect, Up
from qkdpp.link.hello import WIRE_VERSION, Confirm, Hello, Leave, differences, digest, incompatible
from qkdpp.link.outer import MAX_GREETING_BYTES, MAX_PAYLOAD_BYTES, Outer, Reader, Type
from qkdpp.link.pool import PeerSeen, Pool
from qkdpp.link.states import Move, State, moved
from qkdpp.link.stream import Stream

BEAT_S: Final = 1.0
DEAD_S: Final = 5.0
CONFIRM_S: Final = 10.0
"""A connection on which the peer has not proved itself after so long is given up."""
SESSIONS_AT_ONCE: Final = 16
SESSION_EVERY_S: Final = 10.0
"""New sessions for which Alice spends pads: so many in a row, then one in so many seconds."""
MOST_TOLD_BYTES: Final = 2000
"""What is repeated of a peer's reason."""
_ALTERED: Final = "somebody alters messages, or the two pools are not copies of one another"
CHUNK_BYTES: Final = 1 << 20
"""What :meth:`Session.outgoing` gives at once, unless one frame is larger."""
_COPIES: Final = "see that both nodes name their own copy of one pool"
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
        self._auths: dict[Stream, ControlAuth] = {}
        self._allowance = Allowance(SESSIONS_AT_ONCE, SESSION_EVERY_S)
        self._greeting: Hello | None = None
        self._up: Up | None = None
        self._leaving = self._bye_sent = self._bye_heard = False
        self._said_leave: Stream | None = None
        self._heard_leave: Stream | None = None
        self._reader = Reader()
        self._ready: list[bytes] = []
        self._beat = False
        self._heard_s = self._beat_s = self._connected_s = 0.0

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
        stream.push(Type.CONTROL, self._auths[stream].seal(self._codec.encode(message)))

    def taken(self, n_bytes: int) -> None:
        """The user is done with BLOCK frames of so many bytes: the peer may send more."""
        if self._stream is not None:
            self._stream.taken(n_bytes)

    def close(self) -> None:
        """Takes leave once everything sent is acknowledged; ``finished`` tells when. Final."""
        self._leaving = True
        if self.state is State.RUNNING:
            self._leave(self._established())
        elif self.state is State.CLOSED:
            self.finished = True

    def _leave(self, stream: Stream) -> None:
        """Says so under a tag, once in a session; without a pad left the peer sees nothing but a lost connection."""
        if self._said_leave is not stream:
            self._said_leave = stream
            with contextlib.suppress(Abort):
                stream.push(Type.CONTROL, self._auths[stream].seal(self._codec.encode(Leave())))
        self._move(Move.LEAVING)

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
        self._heard_s = self._beat_s = self._connected_s = now_s
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
        if self.state in (State.HELLO, State.AGREED) and now_s - self._connected_s > CONFIRM_S:
            return self.disconnected(f"the peer has not proved itself within {CONFIRM_S:g} s")
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
            if self._active is not None and self._active.confirmed:
                self._renew()
            events += self._doubt(AbortReason.AUTHENTICATION_FAILED, str(error), _ALTERED)
        except Abort as abort:
            events += self._exhausted(abort.aborted)
        return events

    def _exhausted(self, aborted: Aborted) -> list[Event]:
        remedy = "the authentication pool is used up: make a new one for both parties"
        if self._pool.sent < self._pool.filled:
            return self._doubt(aborted.reason, "the peer says that its pool is used up", remedy)
        return self._refuse(aborted, remedy)

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
        """The end for good: for what is proven by a tag or known here."""
        self._tell_reason(aborted)
        self._move(Move.REFUSED)
        return [Failed(aborted=aborted, remedy=remedy)]

    def _doubt(self, reason: AbortReason, error: str, remedy: str) -> list[Event]:
        """The end of the connection, for what may as well be forged."""
        aborted = Aborted(reason=reason, evidence={"error": error})
        self._tell_reason(aborted)
        return [Suspect(aborted=aborted, remedy=remedy), *self.disconnected(error)]

    def _tell_reason(self, aborted: Aborted) -> None:
        text = f"{aborted.reason.value}: {dict(aborted.evidence)}".encode()[: MAX_GREETING_BYTES // 2]
        self._ready.append(Outer(type=Type.REFUSE, sender=self.incarnation, payload=text).encode())

    def _renew(self) -> None:
        """As if this program had been started again: the numbers of the present session can no longer be trusted."""
        self.incarnation = self._pool.begin()
        self._candidate = None

    # Frames.

    def _heard(self, frame: Outer) -> list[Event]:
        if frame.type is Type.REFUSE:
            text = frame.payload[:MOST_TOLD_BYTES].decode("utf-8", "replace")
            return self.disconnected(f"the peer refuses: {text!a}")
        if self.state is State.HELLO:
            if frame.type is not Type.HELLO:
                raise RemoteProtocolError("a connection that does not begin with a greeting")
            return self._greeted(stage.decode(frame.payload, Hello), frame.sender)
        stream = self._active
        if stream is None or frame.type is Type.HELLO:
            raise RemoteProtocolError("a second greeting")
        new = stream.heard(frame)
        if frame.type is Type.BYE:
            return self._goodbye()
        if not new:
            return []
        if frame.type is Type.CONTROL:
            body = self._auths[stream].unseal(frame.payload)
            stream.count(frame)
            return self._controlled(self._codec.decode(body), stream)
        if not stream.confirmed:
            raise AuthenticationError("the peer began a session without confirming who it is")
        if len(frame.payload) < frames.HEADER.size:
            raise RemoteProtocolError(f"a frame of {len(frame.payload)} bytes")
        stream.count(frame)
        block: int = frames.HEADER.unpack_from(frame.payload)[2]
        return [BlockFrame(block=block, frame=frame.payload)]

    def _controlled(self, message: Message, stream: Stream) -> list[Event]:
        """What a verified message does."""
        if isinstance(message, Confirm):
            return self._confirmed(message, stream)
        if not stream.confirmed:
            raise AuthenticationError("the peer began a session without confirming who it is")
        if not isinstance(message, Leave):
            return [Control(message=message)]
        self._heard_leave = stream
        if self.state is State.RUNNING:
            self._move(Move.LEAVING)
        return [PeerLeft()]

    def _goodbye(self) -> list[Event]:
        """BYE ends a connection; that the peer leaves is believed if it has said so under a tag."""
        if self.state is not State.DRAINING:
            return self.disconnected("the peer has ended the connection")
        self._bye_heard = True
        self._part()
        return []

    # Greeting and confirmation.

    def _hello(self) -> Hello:
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
            received={stream.peer: stream.received for stream in self._present_streams()},
        )

    def _present_streams(self) -> list[Stream]:
        """Those of this incarnation: an earlier one is only kept until there is a new session."""
        both = (self._stream, self._candidate)
        return [stream for stream in both if stream is not None and stream.own == self.incarnation]

    def _greeted(self, theirs: Hello, sender: int) -> list[Event]:
        if sender != theirs.incarnation:
            raise RemoteProtocolError("Hello: header and body name different incarnations")
        if theirs.digest != digest(theirs.parameters):
            raise RemoteProtocolError("Hello: the digest is not that of the parameters")
        if differing := incompatible(self._hello(), theirs):
            return self._doubt(AbortReason.PARAMETERS_DIFFER, str(differing), "; ".join(differing))
        seen = PeerSeen(incarnation=theirs.incarnation, sent=theirs.sent, accepted=theirs.accepted)
        if wrong := self._pool.check_peer(seen):
            return self._doubt(AbortReason.AUTHENTICATION_FAILED, wrong, _COPIES)
        received = theirs.received.get(self.incarnation, 0)
        known = [stream for stream in self._present_streams() if stream.peer == theirs.incarnation]
        if known and not known[0].fits(received):
            self._renew()
            error = f"{received} frames arrived, says the peer, which does not fit: a new session begins"
            return self._doubt(AbortReason.LINK_LOST, error, _ALTERED)
        alice = self._setup.role == "alice"
        if alice and not known and not self._allowance.spend(self._connected_s):
            error = f"{SESSIONS_AT_ONCE} new sessions in a row: one in {SESSION_EVERY_S:g} s from here on"
            remedy = "somebody breaks the link again and again, or the peer's program keeps being started"
            return self._doubt(AbortReason.LINK_LOST, error, remedy)
        self._greeting = theirs
        self._active = known[0] if known else self._new_stream(theirs)
        self._active.rewind(received)
        self._move(Move.GREETED)
        if self._up is None or not self._active.confirmed:
            return []
        return self._running(replace(self._up, resumed=True))

    def _new_stream(self, theirs: Hello) -> Stream:
        stream = Stream(self.incarnation, theirs.incarnation, self._setup.window_bytes)
        self._auths = {kept: auth for kept, auth in self._auths.items() if kept is self._stream}
        self._auths[stream] = ControlAuth(self._pool, self._setup.role, self.incarnation, stream.peer)
        if self._setup.role == "alice":
            self._confirm(stream, theirs.filled)
        self._candidate = stream
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
        stream.push(Type.CONTROL, self._auths[stream].seal(self._codec.encode(message), pad))

    def _confirmed(self, theirs: Confirm, stream: Stream) -> list[Event]:
        if stream.confirmed or (theirs.peer_incarnation, theirs.incarnation) != (self.incarnation, stream.peer):
            raise AuthenticationError("the peer confirms another session than this one")
        seen = PeerSeen(incarnation=stream.peer, sent=theirs.sent, accepted=theirs.accepted)
        if wrong := self._pool.check_peer(seen) or self._unequal(theirs.filled):
            aborted = Aborted(reason=AbortReason.AUTHENTICATION_FAILED, evidence={"error": wrong})
            return self._refuse(aborted, wrong)
        self._pool.note_peer(seen)
        if theirs.digest != self._digest:
            return self._differ(theirs, stream)
        stream.confirmed = True
        self._stream, self._candidate = stream, None
        self._auths = {stream: self._auths[stream]}
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

    def _unequal(self, peer_filled: int) -> str | None:
        """Takes the smaller end of both pools for both; what is wrong if pads beyond it were used."""
        try:
            self._pool.agree(min(self._pool.filled, peer_filled))
        except AuthenticationError as error:
            return f"{error}: make new pools"
        return None

    def _differ(self, theirs: Confirm, stream: Stream) -> list[Event]:
        """The peer has proved that its parameters are others; so do we, and both end for good."""
        told = self._greeting
        named = (
            {} if told is None or told.digest != theirs.digest else differences(self._setup.parameters, told.parameters)
        )
        if self._setup.role == "bob":
            self._confirm(stream, theirs.filled)
            while (frame := stream.next()) is not None:
                self._ready.append(frame.encode())
        evidence = {"own_and_peer_value": {name: list(values) for name, values in named.items()}}
        return self._refuse(
            Aborted(reason=AbortReason.PARAMETERS_DIFFER, evidence=evidence),
            "give both sides the same public parameters: " + ", ".join(named),
        )

    def _running(self, up: Up) -> list[Event]:
        self._reader.max_payload_bytes = MAX_PAYLOAD_BYTES
        self._move(Move.CONFIRMED)
        if self._leaving:
            self._leave(self._established())
        elif self._heard_leave is self._stream:
            self._move(Move.LEAVING)
        return [up]
