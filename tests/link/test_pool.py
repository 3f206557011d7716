"""Authentication pools: no pad serves twice, after a kill, a failed write, a power cut or an older cursor."""

import os
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from toy_stage import FixedEntropy

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.errors import AuthenticationError, FormatError, InputError, LocalProtocolError
from qkdpp.core.ledger import Side
from qkdpp.link import pool_file as module
from qkdpp.link.pool import WINDOW, EphemeralPool, PeerSeen, Pool
from qkdpp.link.pool_file import FilePool, create_pool

N_TAGS = 6
HEADER_BYTES = 128


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_pool(tmp_path / "pool", N_TAGS, FixedEntropy("pool"))
    return tmp_path / "pool"


def pads_of_the_file(path: Path) -> dict[Side, list[bytes]]:
    """By docs/formats/keys.md: two lanes of pads after a header of 128 bytes."""
    data = path.read_bytes()[HEADER_BYTES:]
    pads = [data[i : i + 16] for i in range(0, len(data), 16)]
    return {"alice": pads[:N_TAGS], "bob": pads[N_TAGS:]}


def test_layout_of_the_format_page(path: Path) -> None:
    data = path.read_bytes()
    assert len(data) == HEADER_BYTES + 2 * 16 * N_TAGS
    assert struct.unpack("<8sIIQQQ", data[:40]) == (b"QKDPAUTH", 2, 0, N_TAGS, 0, 0)
    assert struct.unpack("<5Q", data[56:96]) == (N_TAGS, 0, 0, 0, 0)
    assert path.stat().st_mode & 0o777 == 0o600
    with FilePool(path, "bob") as pool:
        assert pool.hash_key == data[40:56]
        assert pool.remaining == N_TAGS


def test_both_copies_serve_both_lanes_in_step(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    pads = pads_of_the_file(path)
    with FilePool(path, "alice") as alice, FilePool(path.with_name("copy"), "bob") as bob:
        for sender, receiver, side in ((alice, bob, "alice"), (bob, alice, "bob")) * 2:
            index, pad = sender.take()
            assert pad == pads[side][index] == receiver.peek(index)  # type: ignore[index]
            receiver.accept(index)
        assert alice.bits_used == bob.bits_used == 4 * 128
        assert alice.remaining == bob.remaining == N_TAGS - 2


def test_ephemeral_pools_behave_alike() -> None:
    alice, bob = EphemeralPool.pair(2, FixedEntropy("pool"))
    index, pad = alice.take()
    assert bob.peek(index) == pad != bob.take()[1]
    bob.accept(index)
    with pytest.raises(AuthenticationError):
        bob.peek(index)
    assert alice.hash_key == bob.hash_key
    assert (alice.bits_used, bob.bits_used) == (128, 256)


def test_pads_of_blocks_in_flight_are_accepted_out_of_order_and_once(path: Path) -> None:
    with FilePool(path, "alice") as pool:
        pool.peek(3)
        assert pool.bits_used == 0
        for index in (3, 1):
            pool.accept(index)
        assert pool.bits_used == 2 * 128
        assert pool.remaining == N_TAGS - 4
        for index in (1, 3):
            for use in (pool.peek, pool.accept):
                with pytest.raises(AuthenticationError, match="used before"):
                    use(index)
        assert any(pool.peek(0))
    erased = [not any(pad) for pad in pads_of_the_file(path)["bob"]]
    assert erased == [False, True, False, True, False, False], "used pads are erased"


def test_a_restart_burns_all_pads_below_the_highest_seen(path: Path) -> None:
    with FilePool(path, "alice") as pool:
        pool.accept(3)
    with FilePool(path, "alice") as pool:
        for index in range(4):
            with pytest.raises(AuthenticationError, match="used before"):
                pool.peek(index)
        pool.accept(4)
    assert [any(pad) for pad in pads_of_the_file(path)["bob"]] == [False] * 5 + [True]


def test_pads_that_never_arrive_are_burned_behind_the_window(tmp_path: Path) -> None:
    create_pool(tmp_path / "pool", WINDOW + 3, FixedEntropy("pool"))
    with FilePool(tmp_path / "pool", "alice") as pool:
        pool.accept(WINDOW)
        assert any(pool.peek(1))
        pool.accept(WINDOW + 1)
        assert any(pool.peek(2))
        with pytest.raises(AuthenticationError, match="used before"):
            pool.peek(1)


def test_pads_lost_on_their_way_are_given_up(path: Path) -> None:
    with FilePool(path, "alice") as pool:
        pool.burn_below(2)
        with pytest.raises(AuthenticationError, match="used before"):
            pool.peek(1)
        pool.accept(2)
        with pytest.raises(AuthenticationError, match="has used pad"):
            pool.burn_below(N_TAGS + 1)
    assert not any(b"".join(pads_of_the_file(path)["bob"][:3]))


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_refilled_slots_serve_in_a_circle(path: Path, kind: str) -> None:
    if kind == "file":
        shutil.copy(path, path.with_name("copy"))
        pools: tuple[Pool, Pool] = (FilePool(path, "alice"), FilePool(path.with_name("copy"), "bob"))
    else:
        pools = EphemeralPool.pair(N_TAGS, FixedEntropy("pool"))
    fresh, seen = FixedEntropy("distilled"), set()
    for _ in range(5):
        for sender, receiver in (pools, pools[::-1]):
            for _ in range(4):
                index, pad = sender.take()
                assert receiver.peek(index) == pad
                receiver.accept(index)
                assert pad not in seen
                seen.add(pad)
        assert {pool.room for pool in pools} == {4}
        key, at = fresh.bytes(4 * 2 * 16), pools[0].filled
        for pool in pools:
            pool.fill(at, key)
            assert pool.remaining == 2, "not served before the peer has them too"
            pool.agree(at + 4)
            assert pool.remaining == N_TAGS
        assert [pools[1].peek(at + i) for i in range(4)] == [key[16 * i : 16 * i + 16] for i in range(4)]
    assert pools[0].take()[0] == 20
    for pool in pools:
        if isinstance(pool, FilePool):
            pool.close()


def test_a_refill_that_only_one_party_made_is_taken_back(path: Path) -> None:
    with FilePool(path, "alice") as pool:
        for _ in range(4):
            pool.accept(pool.take()[0])
        pool.fill(N_TAGS, bytes(range(128)))
    with FilePool(path, "alice") as pool:
        assert pool.filled == N_TAGS + 4
        with pytest.raises(Abort):
            pool.take(peer_filled=4)
        pool.agree(N_TAGS)
        with pytest.raises(AuthenticationError, match="lacks pads"):
            pool.agree(3)
    with FilePool(path, "alice") as pool:
        assert (pool.filled, pool.remaining) == (N_TAGS, 2)
    pads = pads_of_the_file(path)
    assert [any(pad) for pad in pads["alice"]] == [False] * 4 + [True] * 2


def test_a_refill_cut_off_before_it_was_complete_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FilePool(path, "alice") as pool:
        for _ in range(4):
            pool.accept(pool.take()[0])
        before = path.read_bytes()[:HEADER_BYTES]
        pool.fill(N_TAGS, bytes(range(1, 129)))
    with path.open("r+b") as file:
        file.write(before)
    with FilePool(path, "alice") as pool:
        assert (pool.filled, pool.remaining) == (N_TAGS, 2)
    assert [any(pad) for pad in pads_of_the_file(path)["bob"]] == [False] * 4 + [True] * 2


def test_too_large_a_refill_is_refused(path: Path) -> None:
    with FilePool(path, "alice") as pool:
        pool.accept(pool.take()[0])
        for at, n_bytes in ((N_TAGS, 64), (N_TAGS + 1, 32), (N_TAGS, 33)):
            with pytest.raises(LocalProtocolError):
                pool.fill(at, bytes(n_bytes))


def test_incarnations_count_up_and_what_the_peer_showed_is_kept(path: Path) -> None:
    for expected in (1, 2, 3):
        with FilePool(path, "alice") as pool:
            assert pool.begin() == expected == pool.incarnation
            pool.note_peer(PeerSeen(incarnation=expected, sent=expected, accepted=0))
    with FilePool(path, "alice") as pool:
        assert pool.check_peer(PeerSeen(incarnation=3, sent=3, accepted=0)) is None
        assert pool.check_peer(PeerSeen(incarnation=4, sent=5, accepted=0)) is None
        for seen in ((2, 3, 0), (3, 2, 0), (3, 3, 1)):
            wrong = pool.check_peer(PeerSeen(incarnation=seen[0], sent=seen[1], accepted=seen[2]))
            assert wrong is not None
            assert "make new pools" in wrong
        pool.accept(4)
        assert pool.check_peer(PeerSeen(incarnation=3, sent=4, accepted=0)) is not None


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_an_exhausted_lane_aborts(path: Path, kind: str) -> None:
    pool: Pool = FilePool(path, "bob") if kind == "file" else EphemeralPool.pair(N_TAGS, FixedEntropy("x"))[1]
    for _ in range(N_TAGS):
        pool.take()
    with pytest.raises(Abort) as caught:
        pool.take()
    assert caught.value.aborted.reason is AbortReason.POOL_EXHAUSTED
    assert pool.remaining == 0
    if isinstance(pool, FilePool):
        pool.close()


def test_reopening_goes_on_where_it_stopped(path: Path) -> None:
    taken = []
    for _ in range(3):
        with FilePool(path, "alice") as pool:
            assert pool.bits_used == 0
            taken += [pool.take(), pool.take()]
    assert [index for index, _ in taken] == list(range(6))
    assert len({pad for _, pad in taken}) == 6


@pytest.mark.parametrize("side", ["alice", "bob"])
def test_an_older_cursor_brings_no_pad_back(path: Path, side: Side) -> None:
    """Header bytes of an earlier time copied over the present ones."""
    early = path.read_bytes()[:HEADER_BYTES]
    with FilePool(path, side) as pool:
        for _ in range(4):
            pool.take()
    with path.open("r+b") as file:
        file.write(early)
    with FilePool(path, side) as pool:
        index, pad = pool.take()
        assert index == 4
        assert any(pad)


def test_a_cursor_beyond_the_pads_is_refused(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(24)
        file.write(struct.pack("<Q", N_TAGS + 1))
    with pytest.raises(FormatError, match="beyond"):
        FilePool(path, "alice")


def test_a_power_cut_at_any_moment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a pad was handed out for, the disk already knew that it was used."""
    disk = path.with_name("disk")
    shutil.copy(path, disk)
    real = os.fsync

    def fsync(handle: int) -> None:
        real(handle)
        shutil.copy(path, disk)

    monkeypatch.setattr(module.os, "fsync", fsync)
    with FilePool(path, "alice") as pool:
        for _ in range(3):
            handed_out, _ = pool.take()
            shutil.copy(disk, path.with_name("after the cut"))
            with FilePool(path.with_name("after the cut"), "alice") as survivor:
                assert survivor.take()[0] > handed_out


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_failing_disk_loses_pads_and_repeats_none(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str, nth: int
) -> None:
    pads = pads_of_the_file(path)["alice"]
    served = []
    with FilePool(path, "alice") as pool:
        served.append(pool.take())
        real, count = getattr(os, call), [0]

        def fail(*arguments: object) -> object:
            count[0] += 1
            if count[0] == nth:
                raise OSError(28, "no space left")
            return real(*arguments)

        monkeypatch.setattr(module.os, call, fail)
        for _ in range(3):
            try:
                served.append(pool.take())
            except OSError:
                continue
        monkeypatch.undo()
    with FilePool(path, "alice") as pool:
        served.append(pool.take())
    indices = [index for index, _ in served]
    assert len(set(indices)) == len(indices)
    assert all(pad == pads[index] for index, pad in served)


CHILD = """
import sys
from pathlib import Path
from qkdpp.link.pool_file import FilePool
pool = FilePool(Path(sys.argv[1]), "alice")
while True:
    index, pad = pool.take()
    print(index, pad.hex(), flush=True)
"""


def test_kill(tmp_path: Path) -> None:
    """A process killed while it takes pads; the next one never repeats what the first one printed."""
    create_pool(tmp_path / "pool", 100_000, FixedEntropy("pool"))
    printed: list[tuple[int, str]] = []
    for lines in (1, 7, 40):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "pool")], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(lines):
            index, pad = child.stdout.readline().split()
            printed.append((int(index), pad))
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate()
        printed += [(int(line.split()[0]), line.split()[1]) for line in rest.splitlines() if len(line.split()) == 2]
    indices = [index for index, _ in printed]
    assert indices == sorted(set(indices))
    assert len({pad for _, pad in printed}) == len(printed)
    assert len(printed) >= 48


def test_one_process_at_a_time(path: Path) -> None:
    with FilePool(path, "alice"), pytest.raises(InputError, match="another process"):
        FilePool(path, "alice")
    FilePool(path, "alice").close()


def test_a_copy_belongs_to_one_party(path: Path) -> None:
    FilePool(path, "alice").close()
    with pytest.raises(InputError, match="alice's pool"):
        FilePool(path, "bob")
    FilePool(path, "alice").close()


def test_files_that_are_no_pools(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be opened"):
        FilePool(tmp_path / "absent", "alice")
    data = path.read_bytes()
    for name, content in {
        "empty": b"",
        "short": data[:127],
        "magic": b"X" + data[1:],
        "version": data[:8] + b"\1" + data[9:],
        "role": data[:12] + b"\7" + data[13:],
        "truncated": data[:-1],
        "longer": data + b"\0",
    }.items():
        file = tmp_path / name
        file.write_bytes(content)
        file.chmod(0o600)
        with pytest.raises(FormatError):
            FilePool(file, "alice")


def test_a_pool_that_others_may_read(path: Path) -> None:
    path.chmod(0o640)
    with pytest.raises(InputError, match="others may read"):
        FilePool(path, "alice")


def test_creating_never_overwrites(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(InputError, match="never overwritten"):
        create_pool(path, 3, FixedEntropy("other"))
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["pool"], "no leavings"
    with pytest.raises(InputError, match="at least one"):
        create_pool(path.with_name("new"), 0, FixedEntropy("other"))


def test_representation_shows_no_secret(path: Path) -> None:
    with FilePool(path, "alice") as pool:
        assert repr(pool) == "FilePool(alice, remaining=6)"
