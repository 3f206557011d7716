"""The edge of the link on loopback: TLS with certificates on both sides, reconnection, strangers, goodbye."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from session_pair import Word, block_frame, number_of
from toy_stage import FixedEntropy

from qkdpp import pki
from qkdpp.core.abort import AbortReason
from qkdpp.core.errors import ConfigError, InputError
from qkdpp.core.ledger import Side
from qkdpp.link.events import BlockFrame, Control, Down, Event, Failed, PeerLeft, Up
from qkdpp.link.pem import load_pem
from qkdpp.link.pool import EphemeralPool
from qkdpp.link.session import Session, Setup
from qkdpp.link.states import State
from qkdpp.link.tcp import Address, TcpLink, TlsFiles


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    pki.create_authority(folder)
    for name in ("alice", "bob", "mallory"):
        pki.create_certificate(folder, name, "node")
    pki.create_certificate(folder, "app", "application")
    other = folder / "other"
    pki.create_authority(other)
    pki.create_certificate(other, "alice", "node")
    return folder


def files(folder: Path, own: str, peer: str, authority: Path | None = None) -> TlsFiles:
    return TlsFiles(
        authority=(authority or folder) / "authority.pem",
        certificate=folder / f"{own}.pem",
        key=folder / f"{own}.key",
        peer_name=peer,
    )


class Ends:
    """Bob listens, Alice connects."""

    def __init__(self, tls: tuple[TlsFiles | None, TlsFiles | None] = (None, None)) -> None:
        self.pools = EphemeralPool.pair(50, FixedEntropy("pool"))
        self.tls = tls
        self.tasks: list[asyncio.Task[None]] = []

    def link(self, role: Side, port: int, parameters: dict[str, str] | None = None) -> TcpLink:
        index = role == "bob"
        session = Session(Setup(role=role, parameters=parameters or {}), self.pools[index], [Word])
        address = Address(host="127.0.0.1", port=port, listen=role == "bob")
        link = TcpLink(session, address, self.tls[index])
        self.tasks.append(asyncio.create_task(link.run()))
        return link

    async def start(self, parameters: dict[str, str] | None = None) -> tuple[TcpLink, TcpLink]:
        bob = self.link("bob", 0)
        while not bob.port:
            await asyncio.sleep(0.005)
        return self.link("alice", bob.port, parameters), bob

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def until(link: TcpLink, kind: type[Event]) -> Event:
    """The next event of that kind."""
    async with asyncio.timeout(10):
        while True:
            event = await link.next_event()
            assert event is not None, f"ended before {kind.__name__}"
            if isinstance(event, kind):
                return event


def run(scenario: Callable[[Ends], Awaitable[None]], ends: Ends | None = None) -> None:
    async def main() -> None:
        made = ends or Ends()
        try:
            async with asyncio.timeout(30):
                await scenario(made)
        finally:
            await made.stop()

    asyncio.run(main())


@pytest.mark.parametrize("secured", [False, True])
def test_two_ends_meet_speak_and_part(secured: bool, certificates: Path) -> None:
    async def scenario(ends: Ends) -> None:
        alice, bob = await ends.start()
        assert isinstance(await until(alice, Up), Up)
        await until(bob, Up)
        big = block_frame(7, size=3_000_000)
        alice.send(big)
        bob.send_control(Word(number=8))
        event = await until(bob, BlockFrame)
        assert isinstance(event, BlockFrame)
        assert event.frame == big
        control = await until(alice, Control)
        assert isinstance(control, Control)
        assert control.message == Word(number=8)
        await alice.close()
        assert alice.session.finished
        await until(bob, PeerLeft)
        await ends.tasks[1]
        assert bob.session.state is State.CLOSED
        await bob.close()
        await ends.tasks[0]

    tls = (files(certificates, "alice", "bob"), files(certificates, "bob", "alice"))
    run(scenario, Ends(tls if secured else (None, None)))


def test_tls_is_version_1_3_and_nothing_less(certificates: Path) -> None:
    context = files(certificates, "bob", "alice").context(server=True)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("who", ["mallory", "app", "other authority", "no certificate"])
def test_only_the_named_peer_gets_in(who: str, certificates: Path) -> None:
    """Bob has a session with nobody but alice; she is who holds a certificate of that name by the pinned authority."""
    alice = {
        "mallory": files(certificates, "mallory", "bob"),
        "app": files(certificates, "app", "bob"),
        "other authority": files(certificates / "other", "alice", "bob", certificates),
        "no certificate": None,
    }[who]

    async def scenario(ends: Ends) -> None:
        connecting, bob = await ends.start()
        down = await until(connecting, Down)
        assert isinstance(down, Down)
        assert ("link.authority" in down.reason) is (alice is not None)
        await asyncio.sleep(0.3)  # it tries again
        assert not bob.session.established
        assert not connecting.session.established

    run(scenario, Ends((alice, files(certificates, "bob", "alice"))))


def test_alice_checks_whom_she_reaches(certificates: Path) -> None:
    async def scenario(ends: Ends) -> None:
        alice, _ = await ends.start()
        down = await until(alice, Down)
        assert isinstance(down, Down)
        assert "no connection" in down.reason
        assert not alice.session.established

    run(scenario, Ends((files(certificates, "alice", "bob"), files(certificates, "mallory", "alice"))))


def test_certificate_files_that_do_not_serve(certificates: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"authority\.pem: no such file"):
        files(tmp_path, "absent", "bob").context(server=True)
    mixed = TlsFiles(
        authority=certificates / "authority.pem",
        certificate=certificates / "alice.pem",
        key=certificates / "bob.key",
        peer_name="bob",
    )
    with pytest.raises(ConfigError, match=r"bob\.key: unusable for TLS: not the key of .*alice\.pem"):
        mixed.context(server=True)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("authority.key", "alice.pem", "alice.key"), r"^\S*authority\.key: .*name that of the authority"),
        (("authority.pem", "alice.key", "alice.key"), r"^\S*alice\.key: .*no certificate .*such as alice\.pem"),
        (("authority.pem", "alice.pem", "alice.pem"), r"^\S*alice\.pem: .*no private key .*such as alice\.key"),
        (("authority.pem", "alice.pem", "absent.key"), r"^\S*absent\.key: no such file"),
        ((".", "alice.pem", "alice.key"), r"cannot be read \(Is a directory\)"),
    ],
)
def test_the_file_that_does_not_serve_is_named(certificates: Path, given: tuple[str, ...], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_pem(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), *(certificates / name for name in given))


def test_a_broken_connection_is_made_again_and_nothing_is_lost() -> None:
    async def scenario(ends: Ends) -> None:
        alice, bob = await ends.start()
        await until(alice, Up)
        await until(bob, Up)
        for number in range(3):
            assert alice._current is not None
            alice._current.transport.abort()
            alice.send(block_frame(number))
            up = await until(alice, Up)
            assert isinstance(up, Up)
            assert up.resumed
            event = await until(bob, BlockFrame)
            assert isinstance(event, BlockFrame)
            assert number_of(event.frame) == number

    run(scenario)


def test_a_restarted_peer_is_found_again() -> None:
    async def scenario(ends: Ends) -> None:
        alice, bob = await ends.start()
        await until(alice, Up)
        await until(bob, Up)
        ends.tasks[1].cancel()
        await until(bob, Down)
        again = ends.link("alice", bob.port)
        for link in (again, bob):
            up = await until(link, Up)
            assert isinstance(up, Up)
            assert not up.resumed

    run(scenario)


def test_a_stranger_does_not_disturb_a_running_link() -> None:
    async def scenario(ends: Ends) -> None:
        alice, bob = await ends.start()
        await until(alice, Up)
        await until(bob, Up)
        reader, writer = await asyncio.open_connection("127.0.0.1", bob.port)
        assert await reader.read() == b"", "turned away"
        writer.close()
        alice.send(block_frame(1))
        event = await bob.next_event()
        assert isinstance(event, BlockFrame), "no Down in between"

    run(scenario)


def test_a_silent_stranger_who_came_first_gives_way() -> None:
    async def scenario(ends: Ends) -> None:
        bob = ends.link("bob", 0)
        while not bob.port:
            await asyncio.sleep(0.005)
        _, stranger = await asyncio.open_connection("127.0.0.1", bob.port)
        await asyncio.sleep(0.05)
        alice = ends.link("alice", bob.port)
        await until(alice, Up)
        await until(bob, Up)
        stranger.close()

    run(scenario)


def test_a_stranger_who_comes_again_and_again_is_heard_ever_more_seldom() -> None:
    async def scenario(ends: Ends) -> None:
        bob = ends.link("bob", 0)
        while not bob.port:
            await asyncio.sleep(0.005)
        heard = 0
        connected = bob.session.connected

        def counted(now_s: float) -> None:
            nonlocal heard
            heard += 1
            connected(now_s)

        bob.session.connected = counted  # type: ignore[method-assign]
        for _ in range(100):
            _, stranger = await asyncio.open_connection("127.0.0.1", bob.port)
            stranger.write(b"GET / HTTP/1.1\r\n\r\n" + bytes(100))
            await asyncio.sleep(0.01)
            stranger.close()
        assert heard < 10
        assert bob._arrivals.qsize() <= 1
        alice = ends.link("alice", bob.port)
        await until(alice, Up)

    run(scenario)


def test_different_parameters_are_told_to_both_nodes() -> None:
    async def scenario(ends: Ends) -> None:
        alice, bob = await ends.start({"timing.gate_ps": "500"})
        for link in (alice, bob):
            failed = await until(link, Failed)
            assert isinstance(failed, Failed)
            assert failed.aborted.reason is AbortReason.PARAMETERS_DIFFER
            assert await link.next_event() is None or await link.next_event() is None
        await asyncio.gather(*ends.tasks)

    run(scenario)


def test_a_link_that_stays_down_says_so_once() -> None:
    async def scenario(ends: Ends) -> None:
        alice, _ = await ends.start()
        await until(alice, Up)
        ends.tasks[0].cancel()
        await until(alice, Down)
        await asyncio.sleep(1.0)
        assert alice._events.qsize() <= 1, "no connection, however often that was tried"

    run(scenario)


def test_closing_without_a_peer_ends_at_once() -> None:
    async def scenario(ends: Ends) -> None:
        bob = ends.link("bob", 0)
        while not bob.port:
            await asyncio.sleep(0.005)
        await bob.close()
        await ends.tasks[0]

    run(scenario)


def test_a_port_that_is_taken_is_said() -> None:
    async def scenario(ends: Ends) -> None:
        bob = ends.link("bob", 0)
        while not bob.port:
            await asyncio.sleep(0.005)
        ends.link("bob", bob.port)
        with pytest.raises(InputError, match=r"link\.listen: .*Address already in use"):
            await ends.tasks[1]

    run(scenario)
