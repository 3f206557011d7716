"""Endpoints: ends as values, faults of this side as exceptions, the transcript and its counts."""

from collections.abc import Callable

import pytest
from toy_stage import Answer, Clicks, FixedEntropy, Run

from qkdpp.core.abort import Abort, Aborted, AbortReason
from qkdpp.core.errors import LocalProtocolError, RemoteProtocolError
from qkdpp.core.stage import Message, Stage, receive, seal, send, unseal
from qkdpp.link.endpoint import Endpoint
from qkdpp.link.frame import HEADER, Frame, Kind, decode
from qkdpp.link.memory import connect
from qkdpp.link.pool import EphemeralPool


def pair(alice: Stage[object], bob: Stage[object], n_tags: int = 4) -> tuple[Endpoint[object], Endpoint[object]]:
    pools = EphemeralPool.pair(n_tags, FixedEntropy("pool"))
    return Endpoint(alice, "alice", 3, pools[0]), Endpoint(bob, "bob", 3, pools[1])


def speaker(end: Callable[[], None] = lambda: None) -> Stage[object]:
    yield from send(Clicks(number=1, data=b"x"))
    end()
    answer = yield from receive(Answer)
    return answer.data


def listener(end: Callable[[], None] = lambda: None) -> Stage[object]:
    clicks = yield from receive(Clicks)
    end()
    yield from send(Answer(number=clicks.number, data=clicks.data))
    return clicks.data


def reason(endpoint: Endpoint[object]) -> AbortReason:
    assert isinstance(endpoint.result, Aborted)
    return endpoint.result.reason


def test_results_transcript_and_traffic() -> None:
    run = Run().connect()
    assert run.alice.result == run.bob.result
    for own, other in ((run.alice, run.bob), (run.bob, run.alice)):
        for side in ("alice", "bob"):
            mine = [record.frame for record in own.transcript if record.side == side]
            theirs = [record.frame for record in other.transcript if record.side == side]
            assert mine == theirs
            traffic = own.traffic(side)
            assert (traffic.frames, traffic.n_bytes) == (len(mine), sum(map(len, mine)))
            assert traffic.messages == sum(decode(frame).kind is Kind.MESSAGE for frame in mine)
    names = [record.name for record in run.alice.transcript]
    assert names == ["Clicks", "Answer", "Clicks", "Answer", "clicks", "Reveal", "reveal", "release"]
    record = run.alice.transcript[0]
    assert record.body == record.frame[HEADER.size :] == decode(record.frame).body
    assert run.alice.eps_auth == run.bob.eps_auth > 0
    assert run.pools[0].bits_used == run.pools[1].bits_used == 3 * 128


def test_an_abort_of_a_stage_reaches_both() -> None:
    def stop() -> None:
        raise Abort(AbortReason.QBER_TOO_HIGH, qber=0.2)

    alice, bob = pair(speaker(), listener(stop))
    connect(alice, bob)
    assert bob.result == Aborted(reason=AbortReason.QBER_TOO_HIGH, evidence={"qber": 0.2})
    assert alice.result == Aborted(reason=AbortReason.PEER_ABORTED, evidence={"peer_reason": "qber_too_high"})
    last = bob.transcript[-1]
    assert (last.side, last.kind, last.name, last.body) == ("bob", Kind.ABORT, "qber_too_high", b"qber_too_high")
    assert alice.transcript[-1].kind is Kind.ABORT


def test_what_was_said_before_an_abort_is_still_sent() -> None:
    def stop() -> None:
        raise Abort(AbortReason.NO_LOCK)

    alice, _ = pair(speaker(stop), listener())
    assert [decode(frame).kind for frame in alice.start()] == [Kind.MESSAGE, Kind.ABORT]


def test_an_exhausted_pool_ends_the_block_before_sending() -> None:
    def sealer() -> Stage[object]:
        yield from seal("a")
        yield from seal("b")
        return None

    def opener() -> Stage[object]:
        yield from unseal("a")
        yield from unseal("b")
        return None

    alice, bob = pair(sealer(), opener(), n_tags=1)
    connect(alice, bob)
    assert reason(alice) is AbortReason.POOL_EXHAUSTED
    assert bob.result == Aborted(reason=AbortReason.PEER_ABORTED, evidence={"peer_reason": "pool_exhausted"})


def test_a_fault_of_the_peer_found_by_the_stage() -> None:
    def fault() -> None:
        raise RemoteProtocolError("a count that cannot be")

    alice, bob = pair(speaker(), listener(fault))
    connect(alice, bob)
    assert reason(bob) is AbortReason.PROTOCOL_VIOLATION
    assert reason(alice) is AbortReason.PEER_ABORTED


@pytest.mark.parametrize("error", [LocalProtocolError("ours"), ZeroDivisionError(), OSError()])
def test_own_faults_propagate(error: Exception) -> None:
    def fault() -> None:
        raise error

    alice, bob = pair(speaker(), listener(fault))
    with pytest.raises(type(error)):
        connect(alice, bob)
    assert not bob.finished
    with pytest.raises(LocalProtocolError, match="not waiting"):
        bob.receive(b"")
    with pytest.raises(LocalProtocolError, match="not finished"):
        _ = bob.result


class Small(Message, frozen=True, kw_only=True):
    max_bytes = 20
    data: bytes


def test_messages_beyond_their_limit() -> None:
    def big() -> Stage[object]:
        yield from send(Small(data=bytes(100)))
        return None

    def waiting() -> Stage[object]:
        return (yield from receive(Small))

    alice, bob = pair(big(), waiting())
    with pytest.raises(LocalProtocolError, match="at most 20"):
        alice.start()
    bob.start()
    bob.receive(Frame(kind=Kind.MESSAGE, block=3, seq=0, ack=0, body=bytes(21)).encode())
    assert reason(bob) is AbortReason.PROTOCOL_VIOLATION


def test_a_lost_link() -> None:
    alice, bob = pair(speaker(), listener())
    alice.start()
    bob.start()
    alice.lost()
    assert alice.result == Aborted(reason=AbortReason.LINK_LOST, evidence={"waiting_for": "Answer"})
    assert alice.receive(b"anything") == []
    bob.lost()
    bob.lost()
    assert reason(bob) is AbortReason.LINK_LOST


def test_a_result_outlives_a_lost_link() -> None:
    run = Run().connect()
    result = run.alice.result
    run.alice.lost()
    assert run.alice.result is result


def test_starting_twice_or_never() -> None:
    alice, bob = pair(speaker(), listener())
    alice.start()
    with pytest.raises(LocalProtocolError, match="started before"):
        alice.start()
    with pytest.raises(LocalProtocolError, match="not waiting"):
        bob.receive(b"")


def test_a_peer_that_seals_before_it_heard_everything() -> None:
    """The tag is right, but a message was still under way when it was made: the gate stays shut."""

    def asker() -> Stage[object]:
        yield from send(Clicks(number=1, data=b"late"))
        yield from unseal("g")
        return "open"

    def hasty() -> Stage[object]:
        yield from seal("g")
        clicks = yield from receive(Clicks)
        return clicks.data

    alice, bob = pair(asker(), hasty())
    connect(alice, bob)
    assert reason(alice) is AbortReason.PROTOCOL_VIOLATION


def test_tags_may_cross() -> None:
    def both() -> Stage[object]:
        yield from seal("g")
        yield from unseal("g")
        return "open"

    alice, bob = pair(both(), both())
    connect(alice, bob)
    assert alice.result == bob.result == "open"


def test_an_abort_frame_with_an_unknown_reason() -> None:
    alice, _ = pair(speaker(), listener())
    alice.start()
    alice.receive(Frame(kind=Kind.ABORT, block=3, seq=0, ack=0, body=b"\xff<script>").encode())
    assert alice.result == Aborted(reason=AbortReason.PEER_ABORTED, evidence={"peer_reason": "unknown"})


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (Frame(kind=Kind.MESSAGE, block=4, seq=0, ack=0, body=b""), "block 4"),
        (Frame(kind=Kind.MESSAGE, block=3, seq=1, ack=0, body=b""), "frame 1"),
        (Frame(kind=Kind.MESSAGE, block=3, seq=0, ack=2, body=b""), "2 frames acknowledged"),
        (Frame(kind=Kind.TAG, block=3, seq=0, ack=0, body=b""), "got a tag"),
        (Frame(kind=Kind.MESSAGE, block=3, seq=0, ack=0, body=b"\xc1"), "Answer"),
    ],
)
def test_frames_out_of_place(frame: Frame, text: str) -> None:
    alice, _ = pair(speaker(), listener())
    alice.start()
    answer = alice.receive(frame.encode())
    assert isinstance(alice.result, Aborted)
    assert alice.result.reason is AbortReason.PROTOCOL_VIOLATION
    assert text in str(alice.result.evidence)
    assert [decode(data).body for data in answer] == [b"protocol_violation"]


def test_a_short_pool_ends_the_block_before_anything_is_said() -> None:
    def talk() -> Stage[int]:
        yield from send(Clicks(number=1, data=b"x"))
        return 1

    pools = EphemeralPool.pair(3, FixedEntropy("pool"))
    alice = Endpoint(talk(), "alice", 1, pools[0], pads_needed=4)
    frames = alice.start()
    assert isinstance(alice.result, Aborted)
    assert alice.result.reason is AbortReason.POOL_EXHAUSTED
    assert [decode(frame).kind for frame in frames] == [Kind.ABORT]
    assert pools[0].bits_used == 0
