"""Authentication pools: a reusable hash key and one-time pads, each used once, whatever happens.

Both parties hold the same pool. Pads lie in two lanes, one per direction; the
sender of a tag takes the next pad of its lane and names its index, the
receiver accepts no index below its own cursor. A cursor is durable before a
pad serves, and a used pad is erased, so that neither a kill nor an older
cursor copied over the newer one brings a pad back. What no file can notice is
the whole file put back from a copy: never do that (``docs/formats/keys.md``).
"""

from __future__ import annotations

import fcntl
import os
import struct
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.entropy import Entropy
from qkdpp.core.errors import AuthenticationError, FormatError, InputError
from qkdpp.core.keyfile import create_secret
from qkdpp.core.ledger import Side

PAD_BYTES: Final = 16
PAD_BITS: Final = 8 * PAD_BYTES
LANES: Final[tuple[Side, Side]] = ("alice", "bob")
"""A lane is named after its sender."""


class Pool(ABC):
    """One party's view of a pool; ``hash_key`` is the reusable hash key, 16 bytes."""

    def __init__(self, role: Side, hash_key: bytes, n_tags: int, cursors: dict[Side, int]) -> None:
        self.hash_key = hash_key
        self._role: Side = role
        self._peer: Side = "bob" if role == "alice" else "alice"
        self._n_tags = n_tags
        self._cursors = cursors
        self._started = dict(cursors)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._role}, remaining={self.remaining})"

    @property
    def remaining(self) -> int:
        """Pads left in the lane with fewer of them."""
        return self._n_tags - max(self._cursors.values())

    @property
    def bits_used(self) -> int:
        """Pad bits consumed in both lanes since this object was made."""
        return PAD_BITS * sum(self._cursors[lane] - self._started[lane] for lane in LANES)

    def take(self) -> tuple[int, bytes]:
        """Index and pad for the next tag to send; Abort(POOL_EXHAUSTED) if there is none."""
        index = self._cursors[self._role]
        if index >= self._n_tags:
            raise Abort(AbortReason.POOL_EXHAUSTED, lane=self._role, tags=self._n_tags)
        pad = self._read(self._role, index)
        self._advance(self._role, index + 1)
        return index, pad

    def peek(self, index: int) -> bytes:
        """The peer's pad at ``index``, not yet consumed; AuthenticationError if it cannot serve any more."""
        if not self._cursors[self._peer] <= index < self._n_tags:
            raise AuthenticationError(f"pad {index} was used before or does not exist")
        return self._read(self._peer, index)

    def accept(self, index: int) -> None:
        """Consumes the peer's pads up to and including ``index``."""
        self._advance(self._peer, index + 1)

    @abstractmethod
    def _read(self, lane: Side, index: int) -> bytes:
        """The pad at ``index``."""

    @abstractmethod
    def _advance(self, lane: Side, cursor: int) -> None:
        """Consumes all pads before ``cursor``; has lasting effect when it returns."""


class EphemeralPool(Pool):
    """A throw-away pool in memory, one object per party, made by :meth:`pair`."""

    def __init__(self, role: Side, hash_key: bytes, lanes: dict[Side, bytes]) -> None:
        super().__init__(role, hash_key, len(lanes[role]) // PAD_BYTES, dict.fromkeys(LANES, 0))
        self._lanes = lanes

    @staticmethod
    def pair(n_tags: int, entropy: Entropy) -> tuple[EphemeralPool, EphemeralPool]:
        """Alice's and Bob's copies of a fresh pool of ``n_tags`` pads per direction."""
        hash_key = entropy.bytes(PAD_BYTES)
        lanes = {lane: entropy.bytes(n_tags * PAD_BYTES) for lane in LANES}
        return EphemeralPool("alice", hash_key, lanes), EphemeralPool("bob", hash_key, lanes)

    def _read(self, lane: Side, index: int) -> bytes:
        return self._lanes[lane][index * PAD_BYTES : (index + 1) * PAD_BYTES]

    def _advance(self, lane: Side, cursor: int) -> None:
        self._cursors[lane] = cursor


MAGIC: Final = b"QKDPAUTH"
VERSION: Final = 1
HEADER: Final = struct.Struct("<8sIIQ2Q16s8x")
ROLE_OFFSET: Final = 12
CURSOR_OFFSET: Final[dict[Side, int]] = {"alice": 24, "bob": 32}
ROLES: Final[tuple[Side | None, ...]] = (None, "alice", "bob")


def create_pool(path: Path, n_tags: int, entropy: Entropy) -> None:
    """Creates a pool file (mode 0600) with ``n_tags`` pads per direction; the other party gets a copy of it, unused.

    Raises InputError if the file exists.
    """
    if n_tags < 1:
        raise InputError(f"{path}: a pool needs at least one tag per direction, got {n_tags}")
    header = HEADER.pack(MAGIC, VERSION, 0, n_tags, 0, 0, entropy.bytes(PAD_BYTES))
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
        _, version, bound, n_tags, *cursors, hash_key = HEADER.unpack(data)
        if version != VERSION or bound >= len(ROLES) or status.st_size != HEADER.size + 2 * n_tags * PAD_BYTES:
            raise FormatError(f"{self._path}: truncated pool or unknown version {version}")
        if ROLES[bound] not in (None, role):
            raise InputError(f"{self._path}: this is {ROLES[bound]}'s pool; {role} needs the other copy")
        self._n_tags = n_tags
        unused = {lane: self._unused_from(lane, cursor) for lane, cursor in zip(LANES, cursors, strict=True)}
        super().__init__(role, hash_key, n_tags, unused)
        os.pwrite(self._handle, struct.pack("<I", ROLES.index(role)), ROLE_OFFSET)
        os.fsync(self._handle)

    def _offset(self, lane: Side, index: int) -> int:
        return HEADER.size + (LANES.index(lane) * self._n_tags + index) * PAD_BYTES

    def _unused_from(self, lane: Side, cursor: int) -> int:
        """The first pad from ``cursor`` on that is not erased."""
        if cursor > self._n_tags:
            raise FormatError(f"{self._path}: cursor {cursor} beyond {self._n_tags} pads")
        while cursor < self._n_tags and not any(self._read(lane, cursor)):
            cursor += 1
        return cursor

    def _read(self, lane: Side, index: int) -> bytes:
        return os.pread(self._handle, PAD_BYTES, self._offset(lane, index))

    def _advance(self, lane: Side, cursor: int) -> None:
        """Cursor forward and pads erased, both durable; a failure on the way loses pads and never repeats one."""
        first, self._cursors[lane] = self._cursors[lane], cursor
        os.pwrite(self._handle, struct.pack("<Q", cursor), CURSOR_OFFSET[lane])
        os.pwrite(self._handle, bytes((cursor - first) * PAD_BYTES), self._offset(lane, first))
        os.fsync(self._handle)
