"""Bytes that are no request: the standard's Error, one line in the log, and nothing of what was sent in either."""

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest
from worlds import OUT_S, World

SENT = b"pa55phrase"
STATUS = b"/api/v1/keys/sae-b/status HTTP/1.1"
ENC = b"/api/v1/keys/sae-b/enc_keys HTTP/1.1\r\nHost: kme"
CASES = {
    "no text": b"\x16\x03\x01" + SENT + b"\x00\r\n\r\n",
    "a verb of other characters": b"G\xc3T(" + SENT + b") " + STATUS + b"\r\nHost: kme\r\n\r\n",
    "words in a path": b"GET /" + SENT + b" and " + STATUS + b"\r\nHost: kme\r\n\r\n",
    "no version": b"GET /" + SENT + b" HTTP/one\r\nHost: kme\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SENT,
    "a long path": b"GET /" + SENT * 1000 + b" HTTP/1.1\r\nHost: kme\r\n\r\n",
    "a long header": b"GET " + STATUS + b"\r\nHost: kme\r\nX: " + SENT * 1000 + b"\r\n\r\n",
    "many headers": b"GET " + STATUS + b"\r\nHost: kme\r\n" + b"X: " + (SENT + b"\r\nX: ") * 1000 + b"\r\n\r\n",
    "a header without a colon": b"GET " + STATUS + b"\r\nHost: kme\r\n" + SENT + b"\r\n\r\n",
    "a control character in a name": b"GET " + STATUS + b"\r\nHost: kme\r\n" + SENT + b"\x01: 1\r\n\r\n",
    "a control character in a value": b"GET " + STATUS + b"\r\nHost: kme\r\nX: " + SENT + b"\x01\r\n\r\n",
    "a length that is none": b"POST " + ENC + b"\r\nContent-Length: " + SENT + b"\r\n\r\n",
    "two lengths": b"POST " + ENC + b"\r\nContent-Length: 2\r\nContent-Length: 10\r\n\r\n" + SENT,
    "a length and chunks": b"POST " + ENC + b"\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n" + SENT,
    "no chunk": b"POST " + ENC + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + SENT + b"\r\n\r\n",
}


@contextlib.contextmanager
def secured(world: World) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", world.ports["kme-a"]), timeout=OUT_S) as bare,
        world.tls("sae-a").wrap_socket(bare, server_hostname="127.0.0.1") as made,
    ):
        yield made


def check_refused(made: ssl.SSLSocket, log: pytest.LogCaptureFixture) -> None:
    """And the connection ends."""
    got = HTTPResponse(made)
    got.begin()
    body = got.read()
    shown = (got.status, got.headers["Content-Type"], got.headers["Cache-Control"])
    assert shown == (400, "application/json", "no-store")
    error = json.loads(body)
    assert error.keys() == {"message"}
    assert isinstance(error["message"], str)
    assert SENT not in body
    assert made.recv(1) == b""
    (record,) = log.records
    assert (record.levelname, record.exc_info, "\n" in record.getMessage()) == ("WARNING", None, False)
    assert SENT.decode() not in log.text


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Of the server at any level; its event loop tells a debugger more."""
    caplog.set_level("DEBUG")
    caplog.set_level("WARNING", "asyncio")
    return caplog


def test_what_is_no_request_gets_an_error_and_ends_its_connection(world: World, log: pytest.LogCaptureFixture) -> None:
    before = world.stock()
    for name, raw in CASES.items():
        log.clear()
        with secured(world) as made:
            print(name)
            made.sendall(raw)
            check_refused(made, log)
    assert world.stock() == before
    assert world.ask("sae-a", "GET", "/api/v1/keys/sae-b/status").code == 200


def test_what_follows_a_request_on_its_connection_is_judged_too(world: World, log: pytest.LogCaptureFixture) -> None:
    with secured(world) as made:
        made.sendall(b"GET " + STATUS + b"\r\nHost: kme\r\n\r\n")
        first = HTTPResponse(made)
        first.begin()
        assert (first.status, json.loads(first.read())["source_KME_ID"]) == (200, "kme-a")
        log.clear()
        made.sendall(SENT + b"\x01\r\n\r\n")
        check_refused(made, log)
