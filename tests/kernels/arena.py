"""Memory for compiled kernels in which every byte outside the buffers is a canary."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkdpp.kernels import use_backend

OFFSETS = (0, 1, 3, 8, 13, 63)
"""Bytes past a multiple of 64 at which buffers are tried."""
CANARY = 0xA5
MARGIN = 64


class Arena:
    """Hands out buffers ``offset`` bytes past a multiple of 64."""

    def __init__(self, module: Any, offset: int) -> None:
        self.ffi, self.offset = module.ffi, offset
        self.used: list[tuple[Any, int, int]] = []

    def buffer(self, n_bytes: int, content: bytes = b"") -> Any:
        """Pointer to ``n_bytes`` bytes, the first of them ``content``."""
        memory = self.ffi.new("uint8_t[]", n_bytes + 3 * MARGIN + self.offset)
        self.ffi.memmove(memory, bytes([CANARY]) * len(memory), len(memory))
        at = -int(self.ffi.cast("uintptr_t", memory)) % 64 + self.offset + MARGIN
        self.ffi.memmove(memory + at, content, len(content))
        self.used.append((memory, at, n_bytes))
        return memory + at

    def words(self, n_bytes: int, content: bytes = b"") -> Any:
        """The same as a pointer to 64-bit words."""
        return self.ffi.cast("uint64_t *", self.buffer(n_bytes, content))

    def array(self, kind: str, content: NDArray[Any]) -> Any:
        """Pointer of a C type to a copy of an array."""
        data = np.ascontiguousarray(content).tobytes()
        return self.ffi.cast(f"{kind} *", self.buffer(len(data), data))

    def read(self, pointer: Any, dtype: str, n: int) -> NDArray[Any]:
        """The first ``n`` items behind a pointer."""
        size = np.dtype(dtype).itemsize * n
        return np.frombuffer(bytes(self.ffi.buffer(self.ffi.cast("uint8_t *", pointer), size)), dtype=dtype)

    def check(self) -> None:
        """Every canary is alive."""
        for memory, at, n_bytes in self.used:
            content = bytes(self.ffi.buffer(memory))
            assert set(content[:at] + content[at + n_bytes :]) == {CANARY}


def by_numpy(function: Any, *arguments: Any) -> Any:
    """What the NumPy tier computes; the compiled one stays in use."""
    use_backend("numpy")
    try:
        return function(*arguments)
    finally:
        use_backend("c")
