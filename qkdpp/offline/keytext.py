"""Sifted keys in files: text of 0 and 1, or packed bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qkdpp.core.bits import Bits
from qkdpp.core.errors import FormatError, InputError

MAX_BYTES = 1 << 32
_SPACE = b" \t\r\n,"


def read_sifted(path: Path, *, packed: bool = False, n_bits: int | None = None) -> Bits:
    """A sifted key: characters 0 and 1 (blanks, commas and line ends ignored), or with ``packed`` raw bits.

    Packed bits are least-significant first, eight to a byte, as in ``docs/formats/keys.md``; ``n_bits`` says how many
    they are, all of them by default. Raises FormatError naming the file and the first offending character.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise FormatError(f"{path}: larger than {MAX_BYTES} bytes; split it")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if packed:
        try:
            return Bits.from_bytes(data, 8 * len(data) if n_bits is None else n_bits)
        except ValueError as error:
            raise FormatError(f"{path}: {error}; --bits must fit the file") from error
    raw = np.frombuffer(data, dtype=np.uint8)
    raw = raw[~np.isin(raw, np.frombuffer(_SPACE, dtype=np.uint8))]
    wrong = np.flatnonzero((raw != ord("0")) & (raw != ord("1")))
    if wrong.size:
        raise FormatError(f"{path}: byte 0x{int(raw[wrong[0]]):02x} is neither 0 nor 1; for packed bits give --packed")
    return Bits.from_array(raw - ord("0"))
