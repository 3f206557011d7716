"""Delivery as a live node runs it: which file fits, what a failure does, what a security alarm stops."""

import asyncio
import socket
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
from worlds import KMES, OUT_S, World, delivery_file

from qkdpp.core.entropy import OsEntropy
from qkdpp.core.errors import ConfigError
from qkdpp.delivery import server
from qkdpp.keystore import FileWrapping, KeyStore, StoreError, create_kek
from qkdpp.node import delivery
from qkdpp.node.config import load_node
from qkdpp.node.monitors import Alarm
from qkdpp.scenarios.scenario_file import load
from qkdpp.sim.trial import write_trial

STORE = '[store]\nfolder = "alice.store"\nkey = "alice.store.key"\npeer = "bob"\n'


def test_a_security_alarm_stops_delivery_at_once(world: World) -> None:
    (key,) = world.ask("sae-a", "GET", "/api/v1/keys/sae-b/enc_keys").body["keys"]
    fetch = f"/api/v1/keys/sae-a/dec_keys?key_ID={key['key_ID']}"
    before = world.stock()
    for own in KMES:
        world.link(own).halt("blinding")
    for sae, path in (("sae-a", "/api/v1/keys/sae-b/enc_keys"), ("sae-b", fetch)):
        answered = world.ask(sae, "GET", path)
        assert (answered.code, answered.message) == (503, "the link is closed after an alarm")
        assert "Retry-After" not in answered.headers
    assert world.ask("sae-a", "GET", "/api/v1/keys/sae-b/status").body["stored_key_count"] == 0
    assert world.stock() == before


def test_an_address_that_is_taken_is_an_alarm_and_is_tried_again(
    tmp_path: Path, pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "AGAIN_S", 0.05)
    create_kek(tmp_path / "kme-a.kek", OsEntropy())
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    found = delivery_file(tmp_path, pki, "kme-a", f'listen = ":{port}"')
    alarms: list[Alarm] = []

    async def beside(store: KeyStore) -> None:
        well = asyncio.Event()
        async with asyncio.timeout(OUT_S):
            async with delivery.delivering(found, store, alarmed=alarms.append, well=well.set):
                while not alarms:
                    await asyncio.sleep(0.01)
                assert not well.is_set()
                taken.close()
                await well.wait()
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)

    with KeyStore(tmp_path / "kme-a", "kme-a", FileWrapping(tmp_path / "kme-a.kek")) as store:
        asyncio.run(beside(store))
    assert {(alarm.name, alarm.level) for alarm in alarms} == {("delivery", "critical")}
    assert str(port) in alarms[0].message


def test_a_store_that_cannot_be_written_for_a_while_still_lets_keys_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "EXPIRE_S", 0.001)
    ends = iter([StoreError("disk full"), None, None])

    async def wait() -> None:
        done = asyncio.Event()

        def expire() -> Future[None]:
            future: Future[None] = Future()
            end = next(ends, done)
            if end is done:
                done.set()
            if isinstance(end, StoreError):
                future.set_exception(end)
            else:
                future.set_result(None)
            return future

        task = asyncio.create_task(server._expire(SimpleNamespace(expire=expire)))
        async with asyncio.timeout(OUT_S):
            await done.wait()
        task.cancel()

    asyncio.run(wait())


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trial") / "link"
    write_trial(folder, "backbone-625mhz", load("backbone-625mhz"), port=47625, block_s=10.0)
    return folder


def test_the_files_of_a_trial_fit_together(trial: Path) -> None:
    for name, other in (("alice", "bob"), ("bob", "alice")):
        found = delivery.delivery_of(load_node(trial / f"{name}.toml"))
        assert found is not None
        assert found.callers == {f"sae-{name}": f"sae-{name}"}
        assert [peer.name for peer in found.peers] == [other]


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        ("kme-alice.toml", '"alice"', '"kme-a"', "node.name"),
        ("kme-alice.toml", 'folder = "alice.store"', 'folder = "store"', "not the store of"),
        ("kme-alice.toml", '"bob"', '"bert"', "no .*peer.* 'bob'"),
        ("alice.toml", STORE, "", "needs a .store."),
        ("alice.toml", "kme-alice.toml", "kme.toml", "cannot be read"),
    ],
)
def test_a_delivery_file_of_something_else_is_refused(
    trial: Path, tmp_path: Path, file: str, old: str, new: str, named: str
) -> None:
    for name in ("alice.toml", "kme-alice.toml"):
        text = (trial / name).read_text(encoding="utf-8")
        if name == file:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=named):
        delivery.delivery_of(load_node(tmp_path / "alice.toml"))
