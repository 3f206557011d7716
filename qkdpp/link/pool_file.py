"""Authentication pools in files (``docs/formats/keys.md``): locked, for the owner only, bound to one party."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import Final

import numpy as np

from qkdpp.core.entropy import Entropy
from qkdpp.core.errors import FormatError, InputError
from qkdpp.core.keyfile import create_secret
from qkdpp.core.ledger import Side
from qkdpp.link.pool import LANES, PAD_BYTES, PeerSeen, Pool, PoolState

MAGIC: Final = b"QKDPAUTH"
VERSION: Final = 2
HEADER: Final = struct.Struct("<8sIIQ2Q16s5Q32x")
ROLES: Final[tuple[Side | None, ...]] = (None, "alice", "bob")


def create_pool(path: Path, n_tags: int, entropy: Entropy) -> None:
    """Creates a pool file (mode 0600) with ``n_tags`` pads per direction; the other party gets a copy of it, unused.

    Raises InputError if the file exists.
    """
    if n_tags < 1:
        raise InputError(f"{path}: a pool needs at least one tag per direction, got {n_tags}")
    header = HEADER.pack(MAGIC, VERSION, 0, n_tags, 0, 0, entropy.bytes(PAD_BYTES), n_tags, 0, 0, 0, 0)
    create_secret(path, header + entropy.bytes(len(LANES) * n_tags * PAD_BYTES))


class FilePool(Pool):
    """A pool in a file, held by one process at a time; ``role`` is bound to the file when it is first opened.

    Raises InputError if the file is missing, open elsewhere, readable by others or the other party's, and FormatError
    if it is no pool.
    """

    def __init__(self, path: Path, role: Side) -> None:
        self._path = path
        try:
            self._handle = os.open(path, os.O_RDWR)
        except OSError as error:
            raise InputError(f"{path}: the pool cannot be opened ({error.strerror})") from error
        try:
            self._open(role)
        except BaseException:
            os.close(self._handle)
            raise

    def __enter__(self) -> FilePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the file back."""
        os.close(self._handle)

    def _open(self, role: Side) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{self._path}: another process holds this pool; let it end first") from error
        status = os.fstat(self._handle)
        if status.st_mode & 0o077:
            raise InputError(f"{self._path}: others may read this pool; it is no longer secret, make a new one")
        data = os.pread(self._handle, HEADER.size, 0)
        if len(data) < HEADER.size or not data.startswith(MAGIC):
            raise FormatError(f"{self._path}: not an authentication pool")
        _, version, bound, n_slots, alice, bob, hash_key, filled, incarnation, *peer = HEADER.unpack(data)
        if version != VERSION:
            raise FormatError(f"{self._path}: a pool of version {version}; this is version {VERSION}, make a new pool")
        if bound >= len(ROLES) or status.st_size != HEADER.size + len(LANES) * n_slots * PAD_BYTES:
            raise FormatError(f"{self._path}: a truncated or damaged pool")
        if ROLES[bound] not in (None, role):
            raise InputError(f"{self._path}: this is {ROLES[bound]}'s pool; {role} needs the other copy")
        seen = PeerSeen(incarnation=peer[0], sent=peer[1], accepted=peer[2])
        state = PoolState(cursors={"alice": alice, "bob": bob}, filled=filled, incarnation=incarnation, peer=seen)
        for lane, cursor in state.cursors.items():
            state.cursors[lane] = self._recover(lane, cursor, filled, n_slots)
        super().__init__(role, hash_key, n_slots, state)
        self._save()

    def _recover(self, lane: Side, cursor: int, filled: int, n_slots: int) -> int:
        """The first pad above all erased ones from ``cursor`` on; whatever lies outside the pads left is erased."""
        if not cursor <= filled <= cursor + n_slots:
            raise FormatError(f"{self._path}: cursor {cursor} beyond {filled} pads, or not within {n_slots} of it")
        offset = HEADER.size + LANES.index(lane) * n_slots * PAD_BYTES
        pads = np.frombuffer(os.pread(self._handle, n_slots * PAD_BYTES, offset), dtype="<u8").reshape(n_slots, 2)
        present = (pads[:, 0] | pads[:, 1]) != 0
        gone = np.flatnonzero(~present[np.arange(cursor, filled) % n_slots])
        cursor += int(gone[-1]) + 1 if gone.size else 0
        present[np.arange(cursor, filled) % n_slots] = False
        if present.any():
            kept = pads.copy()
            kept[present] = 0
            os.pwrite(self._handle, kept.tobytes(), offset)
        return cursor

    def _runs(self, lane: Side, first: int, count: int) -> list[tuple[int, int]]:
        """(offset, pads) of at most two runs of slots in the file."""
        start = HEADER.size + LANES.index(lane) * self.n_slots * PAD_BYTES
        slot = first % self.n_slots
        head = min(count, self.n_slots - slot)
        return [(start + slot * PAD_BYTES, head), (start, count - head)]

    def _read(self, lane: Side, index: int) -> bytes:
        ((offset, _), _) = self._runs(lane, index, 1)
        return os.pread(self._handle, PAD_BYTES, offset)

    def _write(self, lane: Side, first: int, pads: bytes) -> None:
        for offset, count in self._runs(lane, first, len(pads) // PAD_BYTES):
            if not count:
                break
            os.pwrite(self._handle, pads[: count * PAD_BYTES], offset)
            pads = pads[count * PAD_BYTES :]

    def _erase(self, lane: Side, first: int, count: int) -> None:
        self._put_header()
        self._write(lane, first, bytes(count * PAD_BYTES))
        os.fsync(self._handle)

    def _save(self) -> None:
        os.fsync(self._handle)
        self._put_header()
        os.fsync(self._handle)

    def _put_header(self) -> None:
        state, seen = self._state, self._state.peer
        header = HEADER.pack(
            MAGIC,
            VERSION,
            ROLES.index(self._role),
            self.n_slots,
            state.cursors["alice"],
            state.cursors["bob"],
            self.hash_key,
            state.filled,
            state.incarnation,
            seen.incarnation,
            seen.sent,
            seen.accepted,
        )
        os.pwrite(self._handle, header, 0)
