"""Blocks at rest: chunks under AES-256-GCM, data keys wrapped, destruction by dropping the wrapped key.

A data key is drawn anew at every opening of a store and then daily, and its
nonces count from zero in memory: neither a transaction that was taken back nor a
folder put back from a copy ever makes the same nonce serve twice.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qkdpp.core.entropy import Entropy
from qkdpp.core.errors import FormatError
from qkdpp.keystore.wrapping import Wrapping

CHUNK_BYTES: Final = 32 << 10
"""Plain bytes of a chunk; the last one of a block may be shorter."""
DATA_KEY_BYTES: Final = 32
LABEL: Final = "qkdpp chunk 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The columns of a block that its seal covers."""

    block: int
    peer: str
    epoch: int
    number: int
    direction: int
    nbits: int
    datakey: int
    born: int
    not_after: int


class Sealer:
    """Seals and opens chunks of one store. Data keys are unwrapped when first needed."""

    def __init__(self, store: UUID, wrapping: Wrapping, entropy: Entropy) -> None:
        self._store, self._wrapping, self._entropy = str(store), wrapping, entropy
        self._ciphers: dict[int, AESGCM] = {}
        self._current = 0
        self._nonce = 0

    def fresh(self) -> tuple[AESGCM, bytes]:
        """A new data key, ready and wrapped; it serves once :meth:`use` names its row."""
        key = self._entropy.bytes(DATA_KEY_BYTES)
        return AESGCM(key), self._wrapping.wrap(key)

    def use(self, datakey: int, cipher: AESGCM) -> None:
        """From now on chunks are sealed under this data key, whose row is durable."""
        self._ciphers[datakey] = cipher
        self._current, self._nonce = datakey, 0

    @property
    def current(self) -> int:
        """Row of the data key that seals."""
        return self._current

    def seal(self, db: sqlite3.Connection, origin: Origin, secret: bytes) -> None:
        """Stores ``secret`` as sealed chunks of a block, under the current data key."""
        cipher = self._ciphers[origin.datakey]
        for part, at in enumerate(range(0, len(secret), CHUNK_BYTES)):
            nonce = self._nonce.to_bytes(12, "big")
            self._nonce += 1
            sealed = cipher.encrypt(nonce, secret[at : at + CHUNK_BYTES], self._bound(origin, part))
            row = (origin.block, part, nonce, sealed)
            db.execute("INSERT INTO chunk (block, part, nonce, sealed) VALUES (?, ?, ?, ?)", row)

    def open(self, db: sqlite3.Connection, origin: Origin, part: int) -> bytes:
        """The plain bytes of one chunk; FormatError if it or a column that its seal covers was changed."""
        row = db.execute(
            "SELECT nonce, sealed FROM chunk WHERE block = ? AND part = ?", (origin.block, part)
        ).fetchone()
        try:
            return self._cipher(db, origin.datakey).decrypt(row[0], row[1], self._bound(origin, part))
        except (InvalidTag, TypeError) as error:
            where = f"block {origin.number} of {origin.peer}, chunk {part}"
            raise FormatError(
                f"{where}: the key store was changed from outside or is damaged; make a new one"
            ) from error

    def forget(self, datakey: int) -> None:
        """Drops a data key from memory."""
        self._ciphers.pop(datakey, None)

    def check(self, db: sqlite3.Connection) -> None:
        """Unwraps every data key once: InputError if the key-encrypting key is another store's."""
        for (datakey,) in db.execute("SELECT id FROM datakey").fetchall():
            self._cipher(db, datakey)

    def _cipher(self, db: sqlite3.Connection, datakey: int) -> AESGCM:
        if datakey not in self._ciphers:
            (wrapped,) = db.execute("SELECT wrapped FROM datakey WHERE id = ?", (datakey,)).fetchone()
            self._ciphers[datakey] = AESGCM(self._wrapping.unwrap(wrapped))
        return self._ciphers[datakey]

    def _bound(self, origin: Origin, part: int) -> bytes:
        """What the seal covers besides the bytes: all columns of the block that never change."""
        o = origin
        columns = [o.block, o.peer, o.epoch, o.number, o.direction, o.nbits, o.datakey, o.born, o.not_after, part]
        return msgspec.json.encode([LABEL, self._store, *columns])
