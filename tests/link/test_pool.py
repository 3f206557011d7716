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
from qkdpp.core.errors import AuthenticationError, FormatError, InputError
from qkdpp.core.ledger import Side
from qkdpp.link import pool as module
from qkdpp.link.pool import EphemeralPool, FilePool, Pool, create_pool

N_TAGS = 6
HEADER_BYTES = 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_pool(tmp_path / "pool", N_TAGS, FixedEntropy("pool"))
    return tmp_path / "pool"


def pads_of_the_file(path: Path) -> dict[Side, list[bytes]]:
    """By docs/formats/keys.md: two lanes of pads after a header of 64 bytes."""
    data = path.read_bytes()[HEADER_BYTES:]
    pads = [data[i : i + 16] for i in range(0, len(data), 16)]
    return {"alice": pads[:N_TAGS], "bob": pads[N_TAGS:]}


def test_layout_of_the_format_page(path: Path) -> None:
    data = path.read_bytes()
    assert len(data) == HEADER_BYTES + 2 * 16 * N_TAGS
    assert struct.unpack("<8sIIQQQ", data[:40]) == (b"QKDPAUTH", 1, 0, N_TAGS, 0, 0)
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


def test_skipped_pads_are_spent_and_never_come_back(path: Path) -> None:
    with FilePool(path, "alice") as pool:
        pool.peek(3)
        assert pool.bits_used == 0
        pool.accept(3)
        assert pool.bits_used == 4 * 128
        for index in range(4):
            with pytest.raises(AuthenticationError, match="used before"):
                pool.peek(index)
    assert not any(b"".join(pads_of_the_file(path)["bob"][:4])), "used pads are erased"


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
from qkdpp.link.pool import FilePool
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
        "short": data[:63],
        "magic": b"X" + data[1:],
        "version": data[:8] + b"\2" + data[9:],
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
