"""Files that hold secrets: created whole, for the owner only, never over an existing one.

A key file is the packed bits and nothing else (``docs/formats/keys.md``); the
exact number of bits stands in the report beside it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from qkdpp.core.bits import Bits, n_bytes
from qkdpp.core.errors import FormatError, InputError


def create_secret(path: Path, data: bytes) -> None:
    """Creates ``path`` (mode 0600) with ``data``, durable on return.

    The file appears under its name only when it is complete. Raises InputError if the name exists or its folder
    cannot be written.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(part, path)
        finally:
            part.unlink()
        _sync_folder(path.parent)
    except FileExistsError as error:
        raise InputError(f"{path}: exists already and is never overwritten; choose another name") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be created ({error.strerror})") from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_key(path: Path, bits: Bits) -> None:
    """Writes the packed bits of a key to a new file. Raises InputError if ``path`` exists."""
    create_secret(path, bits.to_bytes())


def read_key(path: Path, n: int) -> Bits:
    """The ``n`` bits in ``path``; FormatError unless the file has just as many, with zero padding."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) != n_bytes(n):
        raise FormatError(f"{path}: {len(data)} bytes, but {n} bits need {n_bytes(n)}; give the exact number of bits")
    try:
        return Bits.from_bytes(data, n)
    except ValueError as error:
        raise FormatError(f"{path}: {error}; this is not a key of {n} bits") from error
