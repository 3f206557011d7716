"""``qkdpp serve`` and ``qkdpp keys get`` as processes; what they write holds no key; files that do not fit."""

import base64
import json
import subprocess
import time
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest
from serve_processes import QKDPP, Served
from typer.testing import CliRunner
from worlds import OUT_S, World, delivery_file, free_port

from qkdpp.cli.app import build
from qkdpp.core.errors import ConfigError, InputError, LinkError
from qkdpp.delivery import Client, DeliveryError, server
from qkdpp.delivery.protocol import Protocol


def test_from_one_command_to_the_other(served: Served) -> None:
    end = time.monotonic() + OUT_S
    while (got := served.get("sae-a", "sae-b", "--number", "2", "--size", "128")).returncode:
        assert (got.returncode, "503" in got.stderr) == (3, True), got.stderr
        assert time.monotonic() < end
    keys = json.loads(got.stdout)["keys"]
    assert [len(base64.b64decode(key["key"])) for key in keys] == [16, 16]
    ids = [part for key in keys for part in ("--id", key["key_ID"])]
    assert json.loads(served.get("sae-b", "sae-a", *ids).stdout) == {"keys": keys}, "the standard's Key container"
    again = served.get("sae-b", "sae-a", *ids)
    assert (again.returncode, again.stdout) == (2, "")
    assert "not found on KME" in again.stderr
    chunks = stream(served)
    assert served.stop() == [0, 0]
    written = [path.read_bytes() for path in served.folder.rglob("*") if path.is_file()]
    planted = Random("block 2").randbytes(64)[:32]
    assert base64.b64decode(keys[0]["key"]) == planted[:16]
    for text in written:
        for form in (planted[:16], planted[16:], keys[0]["key"].encode(), planted[:16].hex().encode(), *chunks):
            assert form not in text


def test_an_idle_connection_that_was_closed_is_made_anew(
    tmp_path: Path, pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application may ask for a key every few minutes only, or its key manager may have been started again."""
    connections: list[Protocol] = []

    def short(*arguments: object, **named: object) -> Protocol:
        connections.append(Protocol(*arguments, **named, keepalive_timeout=0.02))
        return connections[-1]

    monkeypatch.setattr(server, "Protocol", short)
    with World(tmp_path, pki) as world, world.client("sae-a") as master, world.client("sae-b") as slave:
        for _ in range(3):
            (key,) = master.get("sae-b")
            world.wait(lambda: not any(connection.transport for connection in connections))
            assert slave.fetch("sae-a", [key.key_id]) == [key]


def test_a_refusal_is_one_line_that_names_the_key_manager(world: World) -> None:
    files = ("--authority", str(world.pki / "authority.pem"), "--certificate", str(world.pki / "sae-a.pem"))

    def get(where: str, *arguments: str) -> str:
        error = CliRunner().invoke(build(), ["keys", "get", where, *arguments, *files]).exception
        assert isinstance(error, InputError)
        return str(error)

    where, nobody = f"127.0.0.1:{world.ports['kme-a']}", f"127.0.0.1:{free_port()}"
    assert get(where, "nobody") == f"{where}: 400: unknown slave SAE"
    refused = get(nobody, "sae-b")
    assert (refused.count(nobody), "`qkdpp serve`" in refused, "Errno" in refused) == (1, True, False)
    assert "'kme-b'; name it as its certificate does (--kme" in get(where, "sae-b", "--kme", "kme-b")
    assert "leave out --number" in get(where, "sae-b", "--id", str(uuid4()), "--number", "2")
    assert "server.listen" in get(f"127.0.0.1:{world.meeting}", "sae-b"), "the key managers' own port"
    for wrong in (f"http://{where}", f"{where}/api/v1", "127.0.0.1", ":8443", "127.0.0.1:99999"):
        assert "HOST:PORT of a key manager is wanted" in get(wrong, "sae-b")


def test_no_key_is_exit_code_3_and_an_identifier_is_a_uuid(world: World) -> None:
    files = ("--authority", str(world.pki / "authority.pem"), "--certificate", str(world.pki / "sae-a.pem"))

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(build(), ["keys", *arguments, *files])
        return done.exit_code, done.stderr

    where = f"127.0.0.1:{world.ports['kme-a']}"
    assert run("get", f"https://{where}/", "sae-b") == (0, ""), "as curl has it"
    assert run("get", where, "sae-b", "--size", "262144") == (3, f"qkdpp: {where}: 503: not enough key\n")
    code, said = run("stream", where, "sae-a", "sae-b", "--wait-s", "0")
    assert (code, said.count("\n"), "has not opened the stream" in said) == (3, 1, True)
    world.leave("kme-b")
    assert run("get", where, "sae-b") == (3, f"qkdpp: {where}: 503: the peer KME does not answer\n")
    for asked in (("get", where, "sae-b"), ("stream", where, "sae-a", "sae-b")):
        code, said = run(*asked, "--id", "KEY_ID")
        assert (code, "'KEY_ID' is no UUID" in said) == (2, True)


def stream(served: Served) -> list[bytes]:
    """Two commands read one stream of an agreed name; its chunks as they are and as they are written."""
    asked = ("sae-a", "sae-b", "--id", str(uuid4()), "--number", "3", "--size", "24")
    both = [
        subprocess.Popen(
            served.command("stream", sae, *asked), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for sae in ("sae-a", "sae-b")
    ]
    texts, errors = zip(*(process.communicate(timeout=60) for process in both), strict=True)
    assert [process.returncode for process in both] == [0, 0], errors
    (first, *mine), (_, *theirs) = ([json.loads(line) for line in text.splitlines()] for text in texts)
    assert first["key_stream_ID"] in asked
    assert mine == theirs
    assert [chunk["index"] for chunk in mine] == [0, 1, 2]
    keys = [base64.b64decode(chunk["key"]) for chunk in mine]
    assert [len(key) for key in keys] == [24] * 3
    return keys + [chunk["key"].encode() for chunk in mine]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("format = 1", "format = 2", "format 2"),
        ('name = "kme-a"', 'name = "kme-b"', "different names"),
        ('kme = "kme-b"', 'kme = "kme-c"', "neither this one nor a peer"),
        ('id = "sae-b2"', 'id = "sae-b"', "one id"),
        ('listen = ":0"', 'listen = "8443"', "kme-a.toml: server.listen.* host:port"),
        ('listen = ":0"', 'listen = ":0"\nmetrics = "9464"', "kme-a.toml: server.metrics.* host:port"),
        ("[store]", "[limits]\nkey_size = 255\n[store]", "multiples of 8"),
        ("[store]", "[limits]\nmax_key_per_request = 10000\n[store]", "64 MiB"),
        ("[store]", "[limits]\nttl_s = 0\n[store]", "ttl_s"),
        ("[store]", "[limits]\nmax_key_size = 256\nmax_key_per_request = 10001\n[store]", "10000"),
        ("rate_per_s = 0.001", "rate_per_s = 0", "rate_per_s"),
        ("rate_per_s = 0.001", "rate_per_s = nan", "rate_per_s"),
        ("[store]", "[storage]", "storage"),
        ('connect = ":1"', "", "either listen or connect"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, pki: Path, old: str, new: str, named: str) -> None:
    from qkdpp.delivery.config import load_delivery

    path = delivery_file(tmp_path, pki, "kme-a", 'connect = ":1"').path
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=named):
        load_delivery(path)


def test_the_file_of_the_page_fits(tmp_path: Path) -> None:
    from qkdpp.delivery.bodies import Limits
    from qkdpp.delivery.config import load_delivery

    page = (Path(__file__).parents[2] / "docs/formats/delivery.md").read_text(encoding="utf-8")
    path = tmp_path / "kme-a.toml"
    path.write_text(page.partition("```toml\n")[2].partition("```")[0], encoding="utf-8")
    shown = load_delivery(path)
    assert shown.limits == Limits()
    assert shown.callers == {"sae-a": "sae-a"}


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, pki: Path) -> None:
    path = delivery_file(tmp_path, pki, "kme-a", 'connect = ":1"').path
    done = subprocess.run([*QKDPP, "serve", str(path)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "kme-a.kek" in done.stderr
    assert not (tmp_path / "kme-a").exists()


def test_the_client_names_what_went_wrong(world: World) -> None:
    authority = world.pki / "authority.pem"
    files = {"certificate": world.pki / "sae-a.pem", "key": world.pki / "sae-a.key"}
    with world.client("sae-a") as client:
        with pytest.raises(DeliveryError) as refused:
            client.get("sae-b", 100, 262_144)
        assert (refused.value.code, refused.value.retry_after_s) == (503, 1)
        (key,) = client.get("sae-b")
        assert key.key.hex() not in repr(key)
        assert repr(key.key)[2:-1] not in repr(key)
    with (
        pytest.raises(LinkError),
        Client(f"127.0.0.1:{free_port()}", authority=world.pki / "authority.pem", **files) as c,
    ):
        c.status("sae-b")
    with (
        pytest.raises(LinkError, match=r"not signed by \S*other/authority\.pem .*; name the authority"),
        Client(f"127.0.0.1:{world.ports['kme-a']}", authority=world.pki / "other/authority.pem", **files) as c,
    ):
        c.status("sae-b")
    where = f"127.0.0.1:{world.ports['kme-a']}"
    with pytest.raises(LinkError, match="kme-b"), Client(where, authority=authority, name="kme-b", **files) as c:
        c.status("sae-b")
    with Client(where, authority=authority, name="kme-a", **files) as c:
        with pytest.raises(DeliveryError, match=r"malformed request body \(reason: .*key_IDs\[0\]"):
            c.fetch("sae-b", ["7"])
        assert c.status("sae-b").source_KME_ID == "kme-a"
    for own, why in (("late", "out of date"), ("other/sae-a", r"not signed by \S*pki\d*/authority\.pem")):
        refused = {"certificate": world.pki / f"{own}.pem", "key": world.pki / f"{own}.key"}
        with (
            pytest.raises(LinkError, match=rf"it refuses \S*{own}\.pem: {why} \("),
            Client(where, authority=authority, **refused) as c,
        ):
            c.status("sae-b")
    with pytest.raises(ConfigError):
        Client("nowhere", authority=world.pki / "authority.pem", **files)
    with pytest.raises(ConfigError):
        Client("a:1", authority=world.pki / "none.pem", **files)
