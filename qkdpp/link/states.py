"""The states of a session and the one table of their transitions.

CLOSED: no connection. HELLO: greeting sent. AGREED: both greetings say the
same. RUNNING: the peer has proved itself under a tag; everything may be sent.
DRAINING: one side is leaving; what was sent is still acknowledged. ABORTED:
given up for good, for a reason that a person must look at.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from qkdpp.core.errors import LocalProtocolError


class State(StrEnum):
    """Where a session stands."""

    CLOSED = "closed"
    HELLO = "hello"
    AGREED = "agreed"
    RUNNING = "running"
    DRAINING = "draining"
    ABORTED = "aborted"


class Move(StrEnum):
    """What happens to it."""

    CONNECTED = "connected"
    GREETED = "greeted"
    CONFIRMED = "confirmed"
    LEAVING = "leaving"
    DRAINED = "drained"
    LOST = "lost"
    REFUSED = "refused"


TABLE: Final[dict[tuple[State, Move], State]] = {
    (State.CLOSED, Move.CONNECTED): State.HELLO,
    (State.HELLO, Move.GREETED): State.AGREED,
    (State.AGREED, Move.CONFIRMED): State.RUNNING,
    (State.RUNNING, Move.LEAVING): State.DRAINING,
    (State.DRAINING, Move.DRAINED): State.CLOSED,
    **{(state, Move.LOST): State.CLOSED for state in (State.HELLO, State.AGREED, State.RUNNING, State.DRAINING)},
    **{(state, Move.REFUSED): State.ABORTED for state in State if state is not State.ABORTED},
}


def moved(state: State, move: Move) -> State:
    """The state after ``move``; LocalProtocolError if the table has none."""
    try:
        return TABLE[state, move]
    except KeyError:
        raise LocalProtocolError(f"a session that is {state} cannot be {move}") from None


def diagram() -> str:
    """The table in Mermaid's words, for ``docs/formats/wire.md``."""
    lines = [f"    {state.name} --> {after.name}: {move}" for (state, move), after in TABLE.items()]
    return "\n".join(["stateDiagram-v2", "    [*] --> CLOSED", *lines])
