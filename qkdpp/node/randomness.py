"""Randomness of a block: the operating system's, and, if it is to be replayed, a sealed copy of it.

A recording of randomness gives every key of the run to whoever opens it: off by default, encrypted with AES-256-GCM
under a key in a file of its own (mode 0400), one file a block.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qkdpp.core.entropy import Entropy, OsEntropy
from qkdpp.core.errors import FormatError, InputError
from qkdpp.core.keyfile import create_secret

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12


class RecordedEntropy:
    """Passes bytes on and keeps a copy of them in ``kept``; secret."""

    def __init__(self, inner: Entropy) -> None:
        self._inner = inner
        self.kept = bytearray()

    def __repr__(self) -> str:
        return "RecordedEntropy()"

    def bytes(self, n: int) -> bytes:
        """``n`` fresh random bytes."""
        data = self._inner.bytes(n)
        self.kept += data
        return data


class ReplayedEntropy:
    """Gives the bytes of a recording in order; InputError beyond its end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __repr__(self) -> str:
        return "ReplayedEntropy()"

    def bytes(self, n: int) -> bytes:
        """The next ``n`` bytes."""
        if self._at + n > len(self._data):
            raise InputError("the recorded randomness is shorter than the block needs: it belongs to another block")
        data = self._data[self._at : self._at + n]
        self._at += n
        return data


def sealing_key(path: Path) -> bytes:
    """The key in ``path``; made there (mode 0400) if it does not exist. InputError if others may read it."""
    if not path.exists():
        create_secret(path, OsEntropy().bytes(KEY_BYTES))
        path.chmod(0o400)
    if path.stat().st_mode & 0o077:
        raise InputError(f"{path}: others may read this key; make it mode 0400, or remove it for a new one")
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise FormatError(f"{path}: a sealing key has {KEY_BYTES} bytes, this file has {len(key)}")
    return key


def seal(path: Path, key: bytes, block: int, data: bytes | bytearray) -> None:
    """Writes ``data`` of a block to a new file, encrypted and bound to the block's number."""
    nonce = os.urandom(NONCE_BYTES)
    create_secret(path, nonce + AESGCM(key).encrypt(nonce, data, b"qkdpp block %d" % block))


def unseal(path: Path, key: bytes, block: int) -> bytes:
    """What :func:`seal` wrote; FormatError if key, block or file are not those."""
    data = path.read_bytes()
    try:
        return AESGCM(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], b"qkdpp block %d" % block)
    except (InvalidTag, ValueError) as error:
        raise FormatError(f"{path}: cannot be opened: damaged, of another block, or sealed with another key") from error
