"""Who may ask: certificates that are known, unknown, expired, another authority's, and none."""

import hashlib
import socket
import ssl
import subprocess
import time
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from worlds import OUT_S, World

from qkdpp.delivery.identity import names

ENC = "/api/v1/keys/sae-b/enc_keys"


def test_a_certificate_without_an_entry_gets_401_on_every_path(world: World) -> None:
    before = world.stock()
    for path in (ENC, "/api/v1/keys/sae-b/status", "/api/v1/keys/sae-a/dec_keys", "/openapi.json", "/elsewhere"):
        got = world.ask("stranger", "GET", path, own="kme-a")
        assert (got.code, set(got.body)) == (401, {"message"})
    assert world.ask("sae-b", "GET", "/api/v1/keys/sae-a/enc_keys", own="kme-a").code == 401
    assert world.stock() == before


def answer(connection: HTTPSConnection) -> HTTPResponse:
    connection.request("GET", ENC)
    return connection.getresponse()


@pytest.mark.parametrize("case", ["none", "another authority's", "expired", "a node's"])
def test_a_client_that_cannot_be_vouched_for(world: World, case: str) -> None:
    before = world.stock()
    if case == "a node's":
        assert world.ask("kme-b", "GET", ENC, own="kme-a").code == 401
    else:
        sae, folder = {"none": (None, None), "expired": ("late", None)}.get(case, ("sae-a", world.pki / "other"))
        with world.connection(sae, "kme-a", folder) as connection, pytest.raises((OSError, HTTPException)):
            answer(connection)
    assert world.stock() == before


def test_versions_and_suites(world: World) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = world.tls("sae-a")
        context.minimum_version = context.maximum_version = version
        with world.connect(context) as connection:
            connection.request("GET", ENC)
            assert connection.getresponse().status == 200
    context = world.tls("sae-a")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA")
    with world.connect(context) as connection, pytest.raises(ssl.SSLError):
        connection.connect()


def test_tls_1_3_alone_where_configured(tmp_path: Path, pki: Path) -> None:
    with World(tmp_path, pki, server='minimum_tls = "1.3"') as world:
        context = world.tls("sae-a")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with world.connect(context) as connection, pytest.raises(ssl.SSLError):
            connection.connect()


def test_rules_read_what_openssl_shows(tmp_path: Path) -> None:
    made = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
        "-keyout", "k.pem", "-out", "c.pem", "-subj", "/O=a/CN=gate way",
        "-addext", "subjectAltName=DNS:gate.example,URI:spiffe://example/gate,DNS:b.example",
    ]  # fmt: skip
    try:
        subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs the program openssl")
    certificate = x509.load_pem_x509_certificate((tmp_path / "c.pem").read_bytes())
    der = certificate.public_bytes(Encoding.DER)
    assert names(der, "cn") == ["gate way"]
    assert names(der, "san_dns") == ["gate.example", "b.example"]
    assert names(der, "san_uri") == ["spiffe://example/gate"]
    key = subprocess.run(
        ["openssl", "pkey", "-in", "k.pem", "-pubout", "-outform", "DER"], cwd=tmp_path, check=True, capture_output=True
    ).stdout
    assert certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == key
    assert names(der, "spki_sha256") == [hashlib.sha256(key).hexdigest()]


def test_a_pinned_key_is_a_caller(tmp_path: Path, pki: Path) -> None:
    certificate = x509.load_pem_x509_certificate((pki / "stranger.pem").read_bytes())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pin = hashlib.sha256(key).hexdigest()
    entry = f'[[sae]]\nid = "pinned"\nkme = "kme-a"\nidentity = "{pin.upper()}"'
    with World(tmp_path, pki, extra=entry, server='identity = "spki_sha256"') as world:
        assert world.ask("stranger", "GET", "/api/v1/keys/sae-b/status").body["master_SAE_ID"] == "pinned"
        assert world.ask("sae-a", "GET", ENC).code == 401


def test_a_certificate_is_judged_at_every_request(world: World, pki: Path) -> None:
    """One that has run out since its connection was made is nobody's."""
    late = x509.load_pem_x509_certificate((pki / "late.pem").read_bytes())
    assert late.not_valid_after_utc.timestamp() <= time.time()
    assert names(late.public_bytes(Encoding.DER), "cn") == []


@pytest.mark.parametrize("name", ["sae-a", "kme-a", None])
def test_nobody_but_the_peer_meets_a_key_manager(world: World, name: str | None) -> None:
    with socket.create_connection(("127.0.0.1", world.meeting), timeout=OUT_S) as bare:
        try:
            with world.tls(name).wrap_socket(bare, server_hostname="kme-a") as secured:
                assert secured.recv(1) == b""
        except OSError:
            pass  # how a refused certificate shows with TLS 1.3
    assert world.ask("sae-a", "GET", ENC).code == 200
