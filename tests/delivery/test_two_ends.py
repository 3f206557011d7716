"""Two servers whose stores were filled alike: what the master gets, the slave fetches, once."""

import json
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from worlds import BLOCK_BYTES, ODD, World

from qkdpp.delivery import DeliveryError


def test_keys_are_equal_at_both_ends_and_given_once(world: World) -> None:
    with world.client("sae-a") as master, world.client("sae-b") as slave:
        keys = master.get("sae-b", 3, 512)
        assert len({key.key_id for key in keys}) == 3
        assert {len(key.key) for key in keys} == {64}
        assert slave.fetch("sae-a", [key.key_id for key in keys]) == keys
        with pytest.raises(DeliveryError, match="not found on KME") as refused:
            slave.fetch("sae-a", [keys[0].key_id])
        assert refused.value.code == 400


def test_many_at_once_get_different_keys_and_both_ends_agree(world: World) -> None:
    world.fill(4)

    def pair(_: int) -> list[bytes]:
        with world.client("sae-a") as master, world.client("sae-b") as slave:
            found = []
            for _ in range(4):
                (key,) = master.get("sae-b")
                assert slave.fetch("sae-a", [key.key_id]) == [key]
                found.append(key.key)
            return found

    with ThreadPoolExecutor(8) as pool:
        keys = [key for found in pool.map(pair, range(8)) for key in found]
    assert len(set(keys)) == 32
    assert not world.alarms


def test_status_tells_stock_and_limits(world: World) -> None:
    with world.client("sae-a") as master:
        before = master.status("sae-b")
        master.get("sae-b", 2)
        after = master.status("sae-b")
    assert (before.source_KME_ID, before.target_KME_ID) == ("kme-a", "kme-b")
    assert (before.master_SAE_ID, before.slave_SAE_ID) == ("sae-a", "sae-b")
    assert before.stored_key_count == BLOCK_BYTES * 8 // before.key_size
    assert before.stored_key_count - after.stored_key_count == 2
    assert before.max_key_count >= before.stored_key_count
    (body,) = [world.ask("sae-a", "GET", "/api/v1/keys/sae-b/status").body]
    assert set(body) == {
        "source_KME_ID", "target_KME_ID", "master_SAE_ID", "slave_SAE_ID", "key_size", "stored_key_count",
        "max_key_count", "max_key_per_request", "max_key_size", "min_key_size", "max_SAE_ID_count",
    }  # fmt: skip


def test_get_forms(world: World) -> None:
    got = world.ask("sae-a", "GET", "/api/v1/keys/sae-b/enc_keys?number=2&size=128")
    assert got.code == 200
    assert got.headers["Cache-Control"] == "no-store"
    assert [len(item["key"]) for item in got.body["keys"]] == [24, 24]
    assert all(item["key"].endswith("==") for item in got.body["keys"])
    first = got.body["keys"][0]
    path = f"/api/v1/keys/sae-a/dec_keys?key_ID={first['key_ID'].upper()}"
    assert world.ask("sae-b", "GET", path).body == {"keys": [first]}
    assert world.ask("sae-b", "GET", path).code == 400


def test_an_empty_post_asks_for_one_key_and_unknown_members_are_ignored(world: World) -> None:
    assert len(world.ask("sae-a", "POST", "/api/v1/keys/sae-b/enc_keys").body["keys"]) == 1
    got = world.ask("sae-a", "POST", "/api/v1/keys/sae-b/enc_keys", {"number": 2, "vendor": [1]})
    assert len(got.body["keys"]) == 2
    ids = [{"key_ID": item["key_ID"], "master_SAE_ID": "sae-a"} for item in got.body["keys"]]
    assert world.ask("sae-b", "POST", "/api/v1/keys/sae-a/dec_keys", {"key_IDs": ids}).body == got.body


def test_multicast(world: World) -> None:
    with world.client("sae-a") as master, world.client("sae-b") as one, world.client("sae-b2") as two:
        keys = master.get("sae-b", additional_slaves=["sae-b2"])
        ids = [key.key_id for key in keys]
        assert one.fetch("sae-a", ids) == two.fetch("sae-a", ids) == keys
        for client in (one, two):
            with pytest.raises(DeliveryError, match="not found"):
                client.fetch("sae-a", ids)


def test_a_slave_at_the_masters_own_key_manager(world: World) -> None:
    with world.client("sae-a") as master, world.client("sae-b") as far, world.client("sae-slow") as near:
        keys = master.get("sae-b", 2, additional_slaves=["sae-slow"])
        ids = [key.key_id for key in keys]
        assert near.fetch("sae-a", ids) == far.fetch("sae-a", ids) == keys
        with pytest.raises(DeliveryError, match="not found"):
            far.fetch("sae-a", ids)
        (turned,) = master.get("sae-slow", additional_slaves=["sae-b"])
        assert far.fetch("sae-a", [turned.key_id]) == [turned]


def test_an_identifier_is_percent_encoded_once(world: World) -> None:
    got = world.ask("sae-a", "GET", f"/api/v1/keys/{quote(ODD, safe='')}/status")
    assert got.body["slave_SAE_ID"] == ODD


def test_a_key_expires_when_it_was_asked_to(world: World) -> None:
    with world.client("sae-a") as master, world.client("sae-b") as slave:
        (short,) = master.get("sae-b", mandatory=[{"qkdpp_ttl_s": 10}])
        (long,) = master.get("sae-b")
        world.now += 11 * 10**9
        with pytest.raises(DeliveryError, match="not found"):
            slave.fetch("sae-a", [long.key_id, short.key_id])
        assert slave.fetch("sae-a", [long.key_id]) == [long]


def test_the_peer_may_be_master_too(world: World) -> None:
    world.fill(3)
    with world.client("sae-b") as master, world.client("sae-a") as slave:
        keys = master.get("sae-a", 2)
        assert slave.fetch("sae-b", [key.key_id for key in keys]) == keys


def test_description_is_served(world: World) -> None:
    got = world.ask("sae-a", "GET", "/openapi.json")
    assert got.body["openapi"] == "3.1.0"
    assert json.dumps(got.body).count("dec_keys") >= 1
