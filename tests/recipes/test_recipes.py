"""docs/recipes/README.md, followed word for word with the real programs and keys that two live nodes have just made."""

import os
import re
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from recipe_page import DOCS, FIRST, PAGE, Workplace, needs, script
from two_processes import PATIENCE_S, free_port, laboratory, trial, two_nodes

pytestmark = pytest.mark.xdist_group("live")

PORTS = {"alice": "47626", "bob": "47627"}
INTERFACES = "qkd-"
ROUNDS = 4


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """One laboratory and two nodes, which make keys and give them to applications until the end."""
    needs("bash", "curl", "jq")
    folder = tmp_path_factory.mktemp("recipes")
    trial(folder / "link", block_s=6.0, loss_db=25.0, metrics=free_port())
    ports = {name: listening(folder / "link" / f"kme-{name}.toml") for name in PORTS}
    names = {INTERFACES: f"q{os.getpid() % 100_000:05d}"}
    made = Workplace(folder=folder, replaced={PORTS[n]: ports[n] for n in PORTS} | {"4433": str(free_port())} | names)
    made.prepare()
    with laboratory(folder / "link"), two_nodes(folder / "link") as nodes:
        end = time.monotonic() + PATIENCE_S
        while True:
            for node in nodes:
                assert node.process.poll() is None, node.errors.read_text()
            with_stock = made.follow(FIRST, "new_key > /dev/null 2>&1 && echo yes || echo no")
            if with_stock == "yes\n":
                break
            assert time.monotonic() < end, [node.events() for node in nodes]
            time.sleep(0.5)
        yield made


def listening(path: Path) -> str:
    return tomllib.loads(path.read_text())["server"]["listen"].rpartition(":")[2]


def test_key_moves_once(place: Workplace) -> None:
    found = place.follow(FIRST, 'read -r id key < <(new_key); echo "$key"; same_key "$id"; same_key "$id" || echo $?')
    key, same, *rest = found.splitlines()
    assert key == same
    assert rest == ["22"], "of curl, for a status above 399"


def test_tls(place: Workplace) -> None:
    needs("openssl")
    out = place.follow("TLS")
    assert "the meeting is at noon" in out
    assert out.count("refused") == 1
    assert out.index("noon") < out.index("refused")


@pytest.fixture
def tunnels(place: Workplace) -> Iterator[None]:
    """Skips where no tunnel can be made; leaves none."""
    needs("ip", "ping", "wg", "wireguard-go")
    ends = [place.here(f"qkd-{end}") for end in "ab"]
    if not may_make_tunnels(ends[0]):
        pytest.skip("needs root, network namespaces and /dev/net/tun")
    yield
    for end in ends:
        subprocess.run(["ip", "netns", "del", end], check=False, capture_output=True)
        Path(f"/var/run/wireguard/{end}.sock").unlink(missing_ok=True)


def may_make_tunnels(name: str) -> bool:
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError:
        return False
    return all(subprocess.run(["ip", "netns", verb, name], check=False).returncode == 0 for verb in ("add", "del"))


def test_wireguard(place: Workplace, tunnels: None) -> None:
    out = place.follow("WireGuard")
    *going, unequal = out.split(", 0% packet loss")
    assert [shown.count("15 packets transmitted, 15 received") for shown in going] == [1] * ROUNDS
    assert len(set(handshakes(out))) == ROUNDS + 1, "one under each key, and none under the unequal one"
    assert "2 packets transmitted, 0 received" in unequal
    assert unequal.rstrip().endswith("\t0")


@pytest.mark.soak
def test_wireguard_takes_the_key_in_by_itself(place: Workplace, tunnels: None) -> None:
    """No handshake is asked for: the second one comes after two minutes, under the fourth key."""
    text = script("WireGuard")
    for old, new in (("    shake_hands\ndone", "done"), ("-i 0.1 -c 15", "-i 0.5 -c 70"), ("sleep 0.5", "sleep 17")):
        assert old in text
        text = text.replace(old, new)
    out = place.follow("WireGuard", text)
    assert out.count("70 packets transmitted, 70 received") == ROUNDS
    assert len(set(handshakes(out)) - {"0"}) == 2


def handshakes(shown: str) -> list[str]:
    """Times of the latest one, as ``wg show`` gave them again and again."""
    return re.findall(r"^\S{44}\t(\d+)$", shown, re.MULTILINE)


def test_aes_on_a_schedule(place: Workplace) -> None:
    place.follow("AES")
    text = "".join(f"{n}\n" for n in range(1, 20_001)).encode() * 2
    assert (place.folder / "numbers").read_bytes() == text
    sealed = (place.folder / "numbers.sealed").read_bytes()
    assert len(key_ids(sealed)) == 2, "ten a minute, for seven seconds"
    assert text[1000:1032] not in sealed


def test_one_time_pad(place: Workplace) -> None:
    place.follow("A file")
    sealed = (place.folder / "letter.sealed").read_bytes()
    assert (place.folder / "letter.opened").read_bytes() == "".join(f"{n}\n" for n in range(1, 201)).encode()
    assert b"100\n101\n" not in sealed


def key_ids(sealed: bytes) -> set[bytes]:
    """By the layout that frames.py states."""
    found, at = set(), 0
    while at < len(sealed):
        found.add(sealed[at + 1 : at + 17])
        at += 37 + int.from_bytes(sealed[at + 17 : at + 21], "big")
    assert at == len(sealed)
    return found


def test_the_page_names_every_file_beside_it() -> None:
    assert {path.name for path in (DOCS / "recipes").glob("*.py")} == set(re.findall(r"\]\((\w+\.py)\)", PAGE))
