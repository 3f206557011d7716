"""ETSI GS QKD 014 V1.1.1: every status code and fixed text, and what a refused request leaves: everything."""

import gzip
import json
import time
from http.client import HTTPSConnection
from pathlib import Path
from uuid import uuid4

import pytest
from worlds import BLOCK_BYTES, Answered, World

KEYS = "/api/v1/keys"
ENC, DEC, STATUS = f"{KEYS}/sae-b/enc_keys", f"{KEYS}/sae-a/dec_keys", f"{KEYS}/sae-b/status"
ID = str(uuid4())
NOT_FOUND = "one or more keys specified are not found on KME"
UNSUPPORTED = "not all extension_mandatory parameters are supported"
UNMET = "not all extension_mandatory request options could be met"
OPTIONAL = "not all extension_optional request options handled"
MALFORMED = "malformed request body"


def get_key(**members: object) -> tuple[str, str, object]:
    return "POST", ENC, members


REFUSED = [
    # fixed texts of the standard
    (get_key(size=255), "size shall be a multiple of 8"),
    (("GET", f"{ENC}?size=257", None), "size shall be a multiple of 8"),
    (get_key(extension_mandatory=[{"other_colour": 1}]), UNSUPPORTED),
    (get_key(extension_mandatory=[{"qkdpp_ttl_s": 60}, {"other_colour": 1}]), UNSUPPORTED),
    (get_key(extension_mandatory=[{"qkdpp_ttl_s": 0}]), UNMET),
    (get_key(extension_mandatory=[{"qkdpp_ttl_s": True}]), UNMET),
    (get_key(extension_mandatory=[{"qkdpp_ttl_s": "60"}]), UNMET),
    (get_key(extension_mandatory=[{"qkdpp_max_age_s": None}]), UNMET),
    (get_key(extension_mandatory=[{"qkdpp_route_type": "relayed"}]), UNMET),
    (get_key(extension_mandatory=[{"qkdpp_route_type": ["direct"]}]), UNMET),
    (get_key(extension_mandatory=[{"qkdpp_disjoint_paths": 2}]), UNMET),
    (get_key(extension_mandatory=[{"qkdpp_disjoint_paths": True}]), UNMET),
    (("POST", DEC, {"key_IDs": [{"key_ID": ID}]}), NOT_FOUND),
    (("GET", f"{DEC}?key_ID={ID}", None), NOT_FOUND),
    # limits
    (get_key(size=56), None),
    (get_key(size=262_152), None),
    (get_key(number=129), None),
    (get_key(additional_slave_SAE_IDs=[f"sae-{n}" for n in range(9)]), None),
    (("POST", DEC, {"key_IDs": [{"key_ID": str(uuid4())} for _ in range(129)]}), None),
    # who with whom
    (("GET", f"{KEYS}/nobody/status", None), None),
    (("GET", f"{KEYS}/nobody/enc_keys", None), None),
    (("GET", f"{KEYS}/sae-slow/enc_keys", None), None),
    (("GET", f"{KEYS}/sae-a/enc_keys", None), None),
    (get_key(additional_slave_SAE_IDs=["nobody"]), None),
    (get_key(additional_slave_SAE_IDs=["sae-b"]), None),
    (get_key(additional_slave_SAE_IDs=["sae-b2", "sae-b2"]), None),
    (("POST", f"{KEYS}/nobody/dec_keys", {"key_IDs": [{"key_ID": ID}]}), NOT_FOUND),
    # types
    *[(get_key(number=value), MALFORMED) for value in (0, -1, 1.0, 1.5, True, None, "1", [1], {}, 10**30 * 1.0)],
    *[(get_key(size=value), MALFORMED) for value in (0, -8, 256.0, False, None, "256", [256])],
    (get_key(additional_slave_SAE_IDs="sae-b2"), MALFORMED),
    (get_key(additional_slave_SAE_IDs=[1]), MALFORMED),
    (get_key(extension_mandatory={"qkdpp_ttl_s": 60}), MALFORMED),
    (get_key(extension_optional=["x"]), MALFORMED),
    (get_key(extension_mandatory=[{"qkdpp_ttl_s": 60}, {"qkdpp_ttl_s": 61}]), None),
    (("POST", ENC, []), MALFORMED),
    (("POST", DEC, {}), MALFORMED),
    (("POST", DEC, None), MALFORMED),
    (("POST", DEC, {"key_IDs": []}), MALFORMED),
    (("POST", DEC, {"key_IDs": [ID]}), MALFORMED),
    (("POST", DEC, {"key_IDs": [{"key_ID": ID.replace("-", "")}]}), MALFORMED),
    (("POST", DEC, {"key_IDs": [{"key_ID": ID + "\n"}]}), MALFORMED),
    (("POST", DEC, {"key_IDs": [{"key_ID": ID}, {"key_ID": ID.upper()}]}), None),
    # queries
    (("GET", f"{ENC}?number=1&number=1", None), None),
    (("GET", f"{ENC}?number=", None), None),
    (("GET", f"{ENC}?number=%2B1", None), None),
    (("GET", f"{ENC}?number=%D9%A1", None), None),
    (("GET", f"{ENC}?size=256.0", None), None),
    (("GET", f"{ENC}?additional_slave_SAE_IDs=sae-b2", None), None),
    (("POST", f"{ENC}?number=1", {}), None),
    (("GET", DEC, None), None),
    (("GET", f"{DEC}?key_ID=7", None), None),
    (("GET", f"{DEC}?key_ID={ID}&key_ID={ID}", None), None),
]


def check_error(got: Answered, code: int, message: str | None = None) -> None:
    assert got.code == code, got
    assert isinstance(got.body["message"], str)
    assert set(got.body) <= {"message", "details"}
    assert all(isinstance(detail, dict) for detail in got.body.get("details", []))
    assert message in {None, got.message}
    assert got.headers["Cache-Control"] == "no-store"


def test_bad_requests_get_400_and_consume_nothing(world: World) -> None:
    before = world.stock()
    for (verb, path, body), message in REFUSED:
        sae = "sae-b" if "dec_keys" in path else "sae-a"
        check_error(world.ask(sae, verb, path, body), 400, message)
    assert world.stock() == before


@pytest.mark.parametrize(
    "raw", [b"{", b'{"number": 1', b"number=1", b'{"number": 01}', b'"\xff"', b"[" * 100_000, b"{" + b" " * (1 << 20)]
)
def test_broken_bodies_get_400_and_consume_nothing(world: World, raw: bytes) -> None:
    before = world.stock()
    check_error(world.ask("sae-a", "POST", ENC, raw=raw), 400)
    check_error(world.ask("sae-b", "POST", DEC, raw=raw), 400)
    assert world.stock() == before


def test_what_one_link_meets_by_itself(world: World) -> None:
    for kind in ("extension_mandatory", "extension_optional"):
        given = [{"qkdpp_route_type": "direct"}, {"qkdpp_disjoint_paths": 1}]
        assert world.ask("sae-a", *get_key(**{kind: given})).code == 200
    assert world.ask("sae-a", *get_key(extension_optional=[{"qkdpp_route_type": "relayed"}])).code == 200


@pytest.mark.parametrize("coding", ["gzip", "deflate", "identity", "other"])
def test_a_coded_body_gets_400_and_consumes_nothing(
    world: World, coding: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither opened, which might never end, nor taken for JSON."""
    before = world.stock()
    with world.connection("sae-a") as connection:
        for path, body in ((ENC, gzip.compress(b"{}")), (DEC, b"{}"), ("/api/v1/streams/open_connect", b"\x1f\x8b")):
            connection.request("POST", path, body, {"Content-Encoding": coding})
            got = connection.getresponse()
            assert (got.status, set(json.loads(got.read()))) == (400, {"message"})
            connection.close()
    assert world.stock() == before
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_other_paths_and_verbs(world: World) -> None:
    before = world.stock()
    for path in ("/", KEYS, f"{KEYS}/sae-b", f"{ENC}/", f"{KEYS}//enc_keys", "/api/v2/keys/sae-b/enc_keys"):
        check_error(world.ask("sae-a", "GET", path), 404)
    for verb in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        got = world.ask("sae-a", verb, ENC)
        check_error(got, 405)
        assert got.headers["Allow"] == "GET, POST"
    got = world.ask("sae-a", "POST", STATUS, {})
    check_error(got, 405)
    assert got.headers["Allow"] == "GET"
    with world.connection("sae-a") as connection:
        connection.request("HEAD", ENC)
        assert connection.getresponse().status == 405
    assert world.stock() == before


def test_another_sae_gets_401_and_nothing_is_consumed(world: World) -> None:
    with world.client("sae-a") as master, world.client("sae-b") as slave:
        mine = master.get("sae-b", 2)
        (both,) = master.get("sae-b", additional_slaves=["sae-b2"])
        before = world.stock()
        ids = [{"key_ID": str(key.key_id)} for key in (both, *mine)]
        check_error(world.ask("sae-b2", "POST", DEC, {"key_IDs": ids}), 401)
        unknown = [*ids, {"key_ID": ID}]
        check_error(world.ask("sae-b", "POST", DEC, {"key_IDs": unknown}), 400, NOT_FOUND)
        check_error(world.ask("sae-b", "POST", f"{KEYS}/sae-slow/dec_keys", {"key_IDs": ids}), 400, NOT_FOUND)
        check_error(world.ask("sae-a", "POST", DEC, {"key_IDs": ids}), 400, NOT_FOUND)
        assert world.stock() == before
        assert slave.fetch("sae-a", [key.key_id for key in (both, *mine)]) == [both, *mine]


def test_too_little_key_gets_503_whole(world: World) -> None:
    before = world.stock()
    got = world.ask("sae-a", "POST", ENC, {"number": BLOCK_BYTES // 32 // 2 + 1, "size": 512})
    check_error(got, 503)
    assert int(got.headers["Retry-After"]) >= 1
    assert world.stock() == before


def test_an_unreachable_peer_gets_503(world: World) -> None:
    before = world.stock()
    world.leave("kme-b")
    world.wait(lambda: world.ask("sae-a", "GET", STATUS).body["stored_key_count"] == 0)
    got = world.ask("sae-a", "GET", ENC)
    check_error(got, 503)
    assert "Retry-After" in got.headers
    assert world.stock() == before


def test_the_rate_of_an_sae_is_bounded(world: World) -> None:
    assert world.ask("sae-slow", "GET", ENC).code == 200
    before = world.stock()
    got = world.ask("sae-slow", "GET", ENC)
    check_error(got, 503)
    assert 900 < int(got.headers["Retry-After"]) <= 1000, "one request in a thousand seconds"
    assert world.stock() == before
    assert world.ask("sae-a", "GET", ENC).code == 200


def test_age(world: World) -> None:
    world.now += 100 * 10**9
    before = world.stock()
    check_error(world.ask("sae-a", *get_key(extension_mandatory=[{"qkdpp_max_age_s": 99}])), 400, UNMET)
    assert world.stock() == before
    assert world.ask("sae-a", *get_key(extension_mandatory=[{"qkdpp_max_age_s": 101}])).code == 200
    assert world.ask("sae-a", *get_key(extension_optional=[{"qkdpp_max_age_s": 99, "other_x": 1}])).code == 200


def test_optional_extensions_refused_where_configured(tmp_path: Path, pki: Path) -> None:
    with World(tmp_path, pki, extra="[limits]\nrefuse_optional = true\nmax_sae_id_count = 0") as world:
        world.now += 100 * 10**9
        before = world.stock()
        for extension in ({"other_x": 1}, {"qkdpp_ttl_s": -1}, {"qkdpp_max_age_s": 99}, {"qkdpp_disjoint_paths": 2}):
            check_error(world.ask("sae-a", *get_key(extension_optional=[extension])), 400, OPTIONAL)
        check_error(world.ask("sae-a", *get_key(additional_slave_SAE_IDs=["sae-b2"])), 400)
        assert world.stock() == before
        assert world.ask("sae-a", *get_key(extension_optional=[{"qkdpp_ttl_s": 60}])).code == 200


def test_a_refused_request_whose_body_was_not_read_closes_the_connection(world: World) -> None:
    with world.connection("stranger") as connection:
        connection.request("POST", ENC, b'{"number": 1}')
        response = connection.getresponse()
        assert (response.status, response.getheader("Connection")) == (401, "close")


def test_a_body_that_never_ends_is_cut(world: World) -> None:
    before = world.stock()
    with world.connection("sae-a") as connection:
        connection.putrequest("POST", ENC)
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        with pytest.raises(OSError):  # noqa: PT011 - reset or broken pipe
            send_for_ever(connection)
    assert world.stock() == before


def send_for_ever(connection: HTTPSConnection) -> None:
    while True:
        connection.send(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        time.sleep(0.005)


def test_a_client_that_leaves_in_the_middle_of_its_request_is_no_fault(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "qkdpp.delivery")
    before = world.stock()
    with world.connection("sae-a") as connection:
        connection.putrequest("POST", ENC)
        connection.putheader("Content-Length", "90")
        connection.endheaders(b"{")
    world.wait(lambda: "in the middle" in caplog.text)
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert world.stock() == before
