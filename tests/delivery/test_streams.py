"""Streams of two applications: the same chunks under the same indices, each once, whoever asks first."""

import threading
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from worlds import BLOCK_BYTES, KMES, OUT_S, World

from qkdpp.delivery import DeliveryError, Stream
from qkdpp.delivery.streams import Code

OPEN = "/api/v1/streams/open_connect"
ENDS = {"source": "sae-a", "destination": "sae-b"}
PATIENT = 1000 * OUT_S
"""Timeout (ms) where a chunk is on its way, however slow the machine."""


def get_key(stream: object) -> str:
    return f"/api/v1/streams/{stream}/get_key"


def close(stream: object) -> str:
    return f"/api/v1/streams/{stream}/close"


def test_both_applications_get_the_same_chunks_and_each_index_once(world: World) -> None:
    with world.client("sae-a") as a, world.client("sae-b") as b:
        source = a.open_stream("sae-a", "sae-b", Key_chunk_size=16, Timeout=PATIENT)
        assert not source.joined
        assert source.quality.Key_chunk_size == 16
        destination = b.open_stream("sae-a", "sae-b", stream_id=source.stream_id)
        assert destination.joined
        assert destination.quality == source.quality
        with source, destination:
            early = [destination.get() for _ in range(3)]
            mine = [source.get() for _ in range(70)]
            theirs = early + [destination.get() for _ in range(67)]
            assert mine == theirs
            assert [chunk.index for chunk in mine] == list(range(70))
            assert {len(chunk.key) for chunk in mine} == {16}
            assert len({chunk.key for chunk in mine}) == 70
            named = source.get(80)
            assert (named.index, destination.get(80)) == (80, named)
            for end in (source, destination):
                for index in (80, 3):
                    with pytest.raises(DeliveryError, match="given") as refused:
                        end.get(index)
                    assert (refused.value.code, refused.value.status) == (400, 2)
            assert source.get().index == destination.get().index == 70
    assert not world.alarms


def test_a_stream_costs_few_reservations(world: World) -> None:
    with world.client("sae-a") as a, world.client("sae-b") as b:
        source = a.open_stream("sae-a", "sae-b", Timeout=PATIENT)
        destination = b.open_stream("sae-b", "sae-a", stream_id=source.stream_id)
        for _ in range(100):
            assert source.get() == destination.get()
    for own in KMES:
        query = "SELECT count(*) FROM event WHERE kind IN ('reserved', 'accepted')"
        assert world.stores[own].submit("test", lambda db, query=query: db.execute(query).fetchone()[0]).result(10) < 9


def until_refused(stream: Stream, most: int) -> DeliveryError:
    """After at most so many chunks."""
    for _ in range(most):
        try:
            stream.get()
        except DeliveryError as error:
            return error
    raise AssertionError("there was always key")


def test_before_the_other_has_opened_it_there_is_no_key(world: World) -> None:
    before = world.stock()
    with world.client("sae-a") as a:
        stream = a.open_stream("sae-a", "sae-b", Timeout=100)
        with pytest.raises(DeliveryError) as refused:
            stream.get()
        assert (refused.value.code, refused.value.status, refused.value.retry_after_s) == (503, 3, 1)
    assert world.stock() == before


def test_either_end_may_open_it_first_with_an_agreed_identifier(world: World) -> None:
    name = uuid4()
    with world.client("sae-a") as a, world.client("sae-b") as b:
        destination = b.open_stream("sae-a", "sae-b", stream_id=name, Timeout=PATIENT)
        source = a.open_stream("sae-a", "sae-b", stream_id=name)
        assert (destination.joined, source.joined) == (False, True)
        assert destination.get() == source.get()
        assert a.open_stream("sae-a", "sae-b", stream_id=name).joined  # again, without effect
        assert destination.get() == source.get()


def test_quality_that_cannot_be_met_is_answered_by_an_offer(world: World) -> None:
    with world.client("sae-a") as a:
        with pytest.raises(DeliveryError) as refused:
            a.open_stream(
                "sae-a", "sae-b", Key_chunk_size=4, Min_bps=10**9, Timeout=1, TTL=10**9, Metadata_mimetype="text/csv"
            )
        assert (refused.value.code, refused.value.status) == (400, 7)
        offer = refused.value.offer
        assert offer is not None
        assert '"Key_chunk_size":8' in str(refused.value), "a person sees it too"
        assert (offer.Key_chunk_size, offer.Min_bps) == (8, BLOCK_BYTES * 8 // 10)
        assert (offer.Timeout, offer.TTL, offer.Metadata_mimetype) == (100, 86400, "application/json")
        quality = {name: getattr(offer, name) for name in offer.__struct_fields__}
        stream = a.open_stream("sae-a", "sae-b", **quality)
        assert stream.quality == offer
        with world.client("sae-b") as b, pytest.raises(DeliveryError) as other:
            b.open_stream("sae-a", "sae-b", stream_id=stream.stream_id, Key_chunk_size=32)
        assert (other.value.status, other.value.offer) == (7, offer)


def test_metadata(world: World) -> None:
    with world.client("sae-a") as a, world.client("sae-b") as b:
        source = a.open_stream("sae-a", "sae-b", Metadata_mimetype="application/json", Timeout=PATIENT)
        destination = b.open_stream("sae-a", "sae-b", stream_id=source.stream_id)
        with pytest.raises(DeliveryError) as refused:
            source.get(metadata_size=3)
        assert (refused.value.code, refused.value.status) == (400, 8)
        first = source.get(metadata_size=100)
        assert (first.index, first.metadata) == (0, '{"age_ms":0}')
        world.now += 5 * 10**9
        assert (destination.get().key, source.get().metadata[:8]) == (first.key, '{"age_ms')


def test_closing_leaves_the_other_what_it_may_still_read(world: World) -> None:
    with world.client("sae-a") as a, world.client("sae-b") as b:
        source = a.open_stream("sae-a", "sae-b", Timeout=PATIENT)
        destination = b.open_stream("sae-a", "sae-b", stream_id=source.stream_id)
        mine = [source.get() for _ in range(6)]
        assert destination.get() == mine[0]
        source.close()
        assert list(destination) == mine[1:]
        with pytest.raises(DeliveryError) as refused:
            source.get()
        assert refused.value.code == 404
        destination.close()
        for end in (a, b):
            with pytest.raises(DeliveryError) as again:
                end.open_stream("sae-a", "sae-b", stream_id=source.stream_id)
            assert (again.value.code, again.value.status) == (400, 5)
    for own in KMES:
        assert world.link(own).status().result(10).held == 0


def test_a_stream_of_others_is_unknown(world: World) -> None:
    with world.client("sae-a") as a, world.client("sae-b") as b:
        source = a.open_stream("sae-a", "sae-b")
        b.open_stream("sae-a", "sae-b", stream_id=source.stream_id)
        before = world.stock()
        for sae in ("sae-b2", "sae-slow"):
            got = world.ask(sae, "POST", get_key(source.stream_id), {}, own=world.home(sae))
            missing = world.ask("sae-a", "POST", get_key(uuid4()), {})
            assert (
                (got.code, got.body) == (missing.code, missing.body) == (404, {"message": "no such stream of this SAE"})
            )
        assert world.ask("sae-b2", "POST", close(source.stream_id), {}).code == 404
        taken = world.ask(
            "sae-b2", "POST", OPEN, {"source": "sae-a", "destination": "sae-b2", "key_stream_ID": str(source.stream_id)}
        )
        assert (taken.code, taken.body["status"]) == (400, 5)
        assert world.ask("stranger", "POST", get_key(source.stream_id), {}, own="kme-a").code == 401
        assert world.stock() == before


BAD = [
    (OPEN, {}),
    (OPEN, {"source": "sae-a"}),
    (OPEN, ENDS | {"source": "sae-b"}),
    (OPEN, ENDS | {"destination": "sae-a"}),
    (OPEN, ENDS | {"destination": "nobody"}),
    (OPEN, ENDS | {"destination": "sae-slow"}),
    (OPEN, {"source": "sae-b", "destination": "sae-b2"}),
    (OPEN, ENDS | {"destination": 7}),
    (OPEN, ENDS | {"key_stream_ID": "7"}),
    (OPEN, ENDS | {"key_stream_ID": 7}),
    (OPEN, ENDS | {"QoS": []}),
    (OPEN, ENDS | {"QoS": {"Key_chunk_size": "32"}}),
    (OPEN, ENDS | {"QoS": {"Key_chunk_size": 32.0}}),
    (OPEN, ENDS | {"QoS": {"Timeout": True}}),
    (OPEN, ENDS | {"QoS": {"TTL": -1}}),
    (OPEN, ENDS | {"QoS": {"Max_bps": 1, "Min_bps": 2}}),
    (OPEN, ENDS | {"QoS": {"Max_bps": 2**60}}),
    (f"{OPEN}?source=sae-a", ENDS),
]


def test_bad_requests_get_400_and_consume_nothing(world: World) -> None:
    with world.client("sae-a") as a, world.client("sae-b") as b:
        stream = a.open_stream("sae-a", "sae-b")
        b.open_stream("sae-a", "sae-b", stream_id=stream.stream_id)
        before = world.stock()
        name = get_key(stream.stream_id)
        bad = [(name, {"index": -1}), (name, {"index": 1.0}), (name, {"index": "0"}), (name, {"metadata_size": True})]
        for path, body in [*BAD, *bad, (name, {"index": 10**6}), (close(stream.stream_id), [])]:
            got = world.ask("sae-a", "POST", path, body)
            assert (got.code, isinstance(got.body["message"], str)) == (400, True), (path, body, got)
        for path in (get_key("7"), get_key(uuid4()), close(uuid4())):
            assert world.ask("sae-a", "POST", path, {}).code == 404
        for path in (OPEN, name, close(stream.stream_id)):
            got = world.ask("sae-a", "GET", path)
            assert (got.code, got.headers["Allow"]) == (405, "POST")
            assert world.ask("sae-a", "POST", path, raw=b"{").code == 400
        assert world.stock() == before


def test_too_little_key_and_then_enough(world: World) -> None:
    with world.client("sae-a") as a, world.client("sae-b") as b:
        source = a.open_stream("sae-a", "sae-b", Key_chunk_size=2048, Timeout=100)
        destination = b.open_stream("sae-a", "sae-b", stream_id=source.stream_id)
        for end in (destination, source):
            assert [end.wait(OUT_S).index for _ in range(2)] == [0, 1]
            with pytest.raises(DeliveryError) as refused:
                end.get()
            assert (refused.value.code, refused.value.status) == (503, 2)
        world.fill(4)
        assert destination.wait(OUT_S) == source.wait(OUT_S)


def test_a_waiting_application_gets_its_chunk_as_soon_as_there_is_key(world: World) -> None:
    with world.client("sae-a") as a, world.client("sae-b") as b:
        source = a.open_stream("sae-a", "sae-b", Key_chunk_size=4096, Timeout=PATIENT)
        destination = b.open_stream("sae-a", "sae-b", stream_id=source.stream_id)
        assert source.get() == destination.get()
        filling = threading.Timer(0.1, world.fill, args=[4])
        filling.start()
        assert destination.get().index == 1
        filling.join()
        assert source.get().index == 1


def test_max_bps_holds_a_stream_back(world: World) -> None:
    with world.client("sae-a") as a, world.client("sae-b") as b:
        source = a.open_stream("sae-a", "sae-b", Max_bps=1, Timeout=100)
        b.open_stream("sae-a", "sae-b", stream_id=source.stream_id)
        assert source.wait(OUT_S).index == 0
        answers = (until_refused(source, 1) for _ in range(10 * OUT_S))
        refused = next(answer for answer in answers if answer.status != Code.TIMEOUT)  # while the next is on its way
        assert "Max_bps" in str(refused)
        assert (refused.code, refused.status) == (503, 2)


def test_chunks_expire_in_the_store_and_in_memory(world: World) -> None:
    with world.client("sae-a") as a, world.client("sae-b") as b:
        source = a.open_stream("sae-a", "sae-b", TTL=10, Timeout=PATIENT)
        destination = b.open_stream("sae-a", "sae-b", stream_id=source.stream_id)
        first = [source.get() for _ in range(8)]
        assert destination.get() == first[0]
        world.now += 11 * 10**9
        for end, index in ((destination, 1), (source, 8)):
            with pytest.raises(DeliveryError, match="destroyed"):
                end.get(index)
        fresh = destination.get()
        assert fresh.index > 7
        assert source.get(fresh.index) == fresh


def test_an_alarm_stops_what_lies_in_memory(world: World) -> None:
    with world.client("sae-a") as a, world.client("sae-b") as b:
        source = a.open_stream("sae-a", "sae-b", Timeout=PATIENT)
        b.open_stream("sae-a", "sae-b", stream_id=source.stream_id)
        for _ in range(3):
            source.get()
        world.link("kme-a").halt("blinding")
        with pytest.raises(DeliveryError) as refused:
            source.get()
        assert (refused.value.code, refused.value.status, refused.value.retry_after_s) == (503, 4, None)


def test_without_the_peer_there_is_no_link(world: World) -> None:
    with world.client("sae-a") as a, world.client("sae-b") as b:
        source = a.open_stream("sae-a", "sae-b", Timeout=100)
        b.open_stream("sae-a", "sae-b", stream_id=source.stream_id)
        assert source.wait(OUT_S).index == 0
        world.leave("kme-b")
        refused = until_refused(source, 3)
        assert (refused.code, refused.status) == (503, 4)
        with pytest.raises(DeliveryError) as new:
            a.open_stream("sae-a", "sae-b")
        assert (new.value.code, new.value.status) == (503, 4)


def test_many_applications_at_once(world: World) -> None:
    """Eight threads read one stream, four at each end: no index twice, equal bytes."""
    got: dict[str, list] = {"sae-a": [], "sae-b": []}
    with world.client("sae-a") as a, world.client("sae-b") as b:
        stream = a.open_stream("sae-a", "sae-b", Key_chunk_size=8, Timeout=PATIENT).stream_id
        b.open_stream("sae-a", "sae-b", stream_id=stream)

        def read(sae: str) -> None:
            with world.client(sae) as client:
                mine: Stream = client.open_stream("sae-a", "sae-b", stream_id=stream)
                got[sae] += [mine.get() for _ in range(25)]

        threads = [threading.Thread(target=read, args=[sae]) for sae in got for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    by_index = [{chunk.index: chunk.key for chunk in chunks} for chunks in got.values()]
    assert [len(chunks) for chunks in by_index] == [100, 100]
    assert by_index[0] == by_index[1]


def test_the_number_of_open_streams_is_bounded(world: World) -> None:
    with world.client("sae-a") as a:
        streams = [a.open_stream("sae-a", "sae-b") for _ in range(64)]
        with pytest.raises(DeliveryError) as refused:
            a.open_stream("sae-a", "sae-b")
        assert (refused.value.code, refused.value.status) == (503, 4)
        streams[0].close()
        assert isinstance(a.open_stream("sae-a", "sae-b").stream_id, UUID)


def test_memory_is_lost_with_the_process_and_no_index_comes_back(tmp_path: Path, pki: Path) -> None:
    with World(tmp_path, pki) as world:
        with world.client("sae-a") as a, world.client("sae-b") as b:
            source = a.open_stream("sae-a", "sae-b", Timeout=PATIENT)
            stream = source.stream_id
            destination = b.open_stream("sae-a", "sae-b", stream_id=stream)
            mine = {chunk.index: chunk.key for chunk in (source.get() for _ in range(10))}
            theirs = {chunk.index: chunk.key for chunk in (destination.get() for _ in range(3))}
        world.again()
        with world.client("sae-a") as a, world.client("sae-b") as b:
            for sae, client, got in (("sae-a", a, mine), ("sae-b", b, theirs)):
                again = client.open_stream("sae-a", "sae-b", stream_id=stream)
                assert again.joined, sae
                for _ in range(20):
                    chunk = again.get()
                    assert chunk.index not in got
                    got[chunk.index] = chunk.key
    both = mine.keys() & theirs.keys()
    assert len(both) > 10
    assert {i: mine[i] for i in both} == {i: theirs[i] for i in both}
