"""The programs of the recipes without a network: what arrives is what was sent, or nothing; when keys change."""

import io
from argparse import Namespace
from contextlib import nullcontext
from random import Random
from types import SimpleNamespace
from uuid import UUID

import aes_stream
import frames
import one_time_pad
import pytest
from frames import HEAD, TAG_BYTES

from qkdpp.delivery import DeliveredKey, DeliveryError
from qkdpp.delivery.client import Fault

ONCE_A_MINUTE = Namespace(keys_per_minute=1.0)
LARGEST_KEY = 128
"""Bytes; a frame of the pad then holds 96."""


class Manager:
    """Both key managers and the two applications of one link."""

    def __init__(self, seed: int = 1) -> None:
        self.random, self.kept = Random(seed), {}

    def status(self, sae):
        return SimpleNamespace(max_key_size=8 * LARGEST_KEY)

    def get(self, slave, number=1, size=256):
        assert (size % 8, size >= 64, size <= 8 * LARGEST_KEY) == (0, True, True)
        key = DeliveredKey(key_id=UUID(int=self.random.getrandbits(128)), key=self.random.randbytes(size // 8))
        self.kept[key.key_id] = key
        return [key]

    def fetch(self, master, key_ids):
        if not set(key_ids) <= self.kept.keys():
            raise DeliveryError(400, Fault(message="one or more keys specified are not found on KME"), None)
        return [self.kept.pop(key_id) for key_id in key_ids]


def seal(module, manager: Manager, plain: bytes) -> bytes:
    out = io.BytesIO()
    module.seal(manager, "sae-b", ONCE_A_MINUTE, io.BufferedReader(io.BytesIO(plain)), out)
    return out.getvalue()


def opened(module, manager: Manager, sealed: bytes) -> bytes:
    out = io.BytesIO()
    module.unseal(manager, "sae-a", ONCE_A_MINUTE, io.BytesIO(sealed), out)
    return out.getvalue()


def split(sealed: bytes) -> list[bytes]:
    found = []
    while sealed:
        end = HEAD.size + HEAD.unpack(sealed[: HEAD.size])[2] + TAG_BYTES
        found.append(sealed[:end])
        sealed = sealed[end:]
    return found


both = pytest.mark.parametrize("module", [aes_stream, one_time_pad])


@both
@pytest.mark.parametrize("n_bytes", [0, 1, 95, 96, 97, 1000])
def test_what_was_sent_arrives(module, n_bytes: int) -> None:
    manager, plain = Manager(), Random(n_bytes).randbytes(n_bytes)
    assert opened(module, manager, seal(module, manager, plain)) == plain
    assert not manager.kept


def test_a_pad_is_as_long_as_the_file_and_used_once() -> None:
    manager, plain = Manager(), bytes(250)
    frames = split(seal(one_time_pad, manager, plain))
    ciphers = [frame[HEAD.size : -TAG_BYTES] for frame in frames]
    assert [len(cipher) for cipher in ciphers] == [96, 96, 58, 0]
    assert [len(key.key) - 32 for key in manager.kept.values()] == [96, 96, 58, 0]
    assert ciphers == [key.key[32:] for key in manager.kept.values()], "of zeros the cipher is the pad"


@both
def test_every_changed_bit_and_every_shorter_stream_is_refused(module) -> None:
    sealed = seal(module, Manager(), b"the meeting is at noon")
    changed = [sealed[:at] + bytes([sealed[at] ^ 1 << at % 8]) + sealed[at + 1 :] for at in range(len(sealed))]
    for message in changed + [sealed[:n] for n in range(len(sealed))]:
        manager = Manager()
        seal(module, manager, b"the meeting is at noon")
        with pytest.raises((ValueError, DeliveryError)):
            opened(module, manager, message)


@pytest.mark.parametrize(("refused", "ends"), [(503, 3), (400, 2)])
def test_exit_code_where_a_key_is_refused(refused: int, ends: int, monkeypatch, capsys) -> None:
    def refuse(*_: object) -> None:
        raise DeliveryError(refused, Fault(message="not enough key"), None)

    monkeypatch.setattr(frames, "Client", lambda *_, **__: nullcontext())
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO()))
    monkeypatch.setattr("sys.stdout", SimpleNamespace(buffer=io.BytesIO()))
    monkeypatch.setattr("sys.argv", ["pad", "seal", "h:1", "sae-b", "--authority", "a.pem", "--certificate", "c.pem"])
    with pytest.raises(SystemExit) as ended:
        frames.run("doc", refuse, refuse)
    assert (ended.value.code, capsys.readouterr().err) == (ends, f"pad: {refused}: not enough key\n")


@pytest.fixture
def a_key_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aes_stream, "TEXT_BYTES", 96)
    monkeypatch.setattr(aes_stream.time, "monotonic", iter(range(0, 10**6, 60)).__next__)


@both
@pytest.mark.parametrize("order", [[1, 0, 2, 3], [0, 2, 3], [0, 0, 1, 2, 3], [0, 1, 3], [1, 2, 3], [3], [0, 1, 2]])
def test_frames_moved_left_out_or_repeated_are_refused(module, order: list[int], a_key_a_frame: None) -> None:
    manager = Manager()
    frames = split(seal(module, manager, bytes(250)))
    assert len(frames) == 4
    with pytest.raises((ValueError, DeliveryError)):
        opened(module, manager, b"".join(frames[i] for i in order))


@both
def test_a_frame_of_another_stream_is_refused(module, a_key_a_frame: None) -> None:
    manager = Manager()
    ours, others = (split(seal(module, manager, fill * 250)) for fill in (b"\0", b"\1"))
    ours[1] = others[1]
    with pytest.raises(ValueError, match="frame 1 is not the sender's"):
        opened(module, manager, b"".join(ours))


def test_who_knows_the_file_cannot_shorten_it() -> None:
    """Known text gives the pad away, and no part of that may ever be taken for the key of a tag."""
    manager, plain = Manager(), bytes(90)
    frame = split(seal(one_time_pad, manager, plain))[0]
    (key, _) = manager.kept.values()
    pad = frame[HEAD.size : -TAG_BYTES]
    head, cipher = HEAD.pack(True, key.key_id.bytes, 20), pad[:20]
    for at in (0, 20, 90 - 32):
        known = pad[at : at + 32]
        forged = one_time_pad.make_tag(known, key.key_id.bytes + bytes(12) + head + cipher)
        with pytest.raises(ValueError, match="not the sender's"):
            opened(one_time_pad, manager, head + cipher + forged)
        manager.kept[key.key_id] = key


@pytest.mark.parametrize(("per_minute", "keys"), [(1.0, 2), (10.0, 11)])
def test_schedule_of_the_paper(per_minute: float, keys: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text every second for a minute and a second: one key at the start, then so many a minute, of 128 bits."""

    class Ticking(io.BytesIO):
        now_s = -1.0

        def read1(self, n=-1):
            self.now_s += 1.0
            return b"text" if self.now_s <= 60.0 else b""

    plain, manager, out = Ticking(), Manager(), io.BytesIO()
    monkeypatch.setattr(aes_stream.time, "monotonic", lambda: plain.now_s)
    aes_stream.seal(manager, "sae-b", Namespace(keys_per_minute=per_minute), plain, out)
    assert len(manager.kept) == keys
    assert {len(key.key) for key in manager.kept.values()} == {16}
    used = [HEAD.unpack(frame[: HEAD.size])[1] for frame in split(out.getvalue())]
    changes = [s for s in range(1, len(used)) if used[s] != used[s - 1]]
    assert changes == [s * int(60 / per_minute) for s in range(1, keys)]
