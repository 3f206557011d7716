"""The compiled tier: thin calls into ``qkdpp.kernels._ck`` (sources and contract: ``csrc/``).

Assumes arguments whose sizes the callers have checked; here they become
contiguous buffers, and a status other than success becomes KernelError. The
interpreter lock is released while a kernel runs. ``QKDPP_ISA`` names the
instruction set; without it the best that the processor and the operating
system support is used.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import Words, n_words
from qkdpp.core.errors import ConfigError, KernelError

VARIABLE: Final = "QKDPP_ISA"
BLOCK_BYTES: Final = 16

HEADERS: Final = Path(__file__).parents[2] / "csrc"
"""Where the headers lie in a source tree; an installed package has none, and a module that came with it."""

_started: dict[str, bool] = {}


def _stale(module: Any) -> bool:  # noqa: ANN401
    """Whether the module was built from other headers than those of this source tree (``csrc/build_ffi.py``)."""
    text = b"".join(path.read_bytes() for path in sorted(HEADERS.glob("qk_*.h")))
    checksum = int.from_bytes(hashlib.sha256(text).digest()[:7], "little")
    return bool(text) and getattr(module.lib, "QK_HEADERS", None) != checksum


@cache
def _module() -> Any:  # noqa: ANN401 - what cffi builds has no types
    module = importlib.import_module("qkdpp.kernels._ck")
    if _stale(module):
        raise ImportError("they were built from another version of csrc; build them again: pip install -e .")
    return module


@cache
def _types() -> tuple[Any, Any, Any]:
    """The types of a digest, of pointers to bytes and of pointers to words, looked up once."""
    ffi = _module().ffi
    return ffi.typeof(f"uint8_t[{BLOCK_BYTES}]"), ffi.typeof("uint8_t[]"), ffi.typeof("uint64_t[]")


def fault() -> str | None:
    """Why the compiled kernels cannot be used, or None."""
    try:
        _module()
    except ImportError as error:
        return str(error).splitlines()[0]
    return None


def start() -> None:
    """Chooses the instruction set, once; raises ConfigError if ``QKDPP_ISA`` asks for an absent one."""
    if not _started:
        use_isa(os.environ.get(VARIABLE) or isas()[-1])
        _started["isa"] = True


@cache
def _tiers() -> dict[str, int]:
    """Every instruction set of this build and its number, the plainest first."""
    lib, ffi = _module().lib, _module().ffi
    return {ffi.string(lib.qk_isa_name(i)).decode(): i for i in range(lib.qk_isa_count())}


def isas() -> tuple[str, ...]:
    """The instruction sets that can run here, the plainest first."""
    return tuple(name for name, number in _tiers().items() if _module().lib.qk_isa_supported(number))


def isa() -> str:
    """The instruction set in use."""
    number = _module().lib.qk_isa()
    return next(name for name, its_number in _tiers().items() if its_number == number)


def use_isa(name: str) -> None:
    """Puts an instruction set to use; ConfigError if it is unknown or cannot run here."""
    if name not in isas():
        raise ConfigError(f"{VARIABLE}: {name!r} cannot run here; use one of {', '.join(isas())}")
    _module().lib.qk_set_isa(_tiers()[name])


def _bytes(data: Any) -> Any:  # noqa: ANN401
    """Pointer to the bytes of a buffer; ``bytes`` are passed as they are."""
    return data if type(data) is bytes else _module().ffi.from_buffer(_types()[1], data)


def _words(words: Any, *, out: bool = False) -> Any:  # noqa: ANN401
    return _module().ffi.from_buffer(_types()[2], words, require_writable=out)


def _ensure(status: int) -> None:
    if status:
        raise KernelError(f"a compiled kernel refused its arguments (status {status})")


@cache
def _horner_parts() -> tuple[Any, Any, Any]:
    """What one call needs, looked up once."""
    return _module().lib.qk_poly_horner, _module().ffi.new, _module().ffi.buffer


def poly_horner(state: int, key: int, blocks: bytes | bytearray | memoryview) -> int:
    """``state = (state + block) * key`` for every 16 bytes of ``blocks``."""
    kernel, new, buffer = _horner_parts()
    words = new("uint64_t[6]")
    buffer(words)[16:] = state.to_bytes(BLOCK_BYTES, "little") + key.to_bytes(BLOCK_BYTES, "little")
    data = blocks if type(blocks) is bytes else _bytes(blocks)
    _ensure(kernel(words, words + 2, words + 4, data, len(blocks) // BLOCK_BYTES))
    return int.from_bytes(buffer(words, BLOCK_BYTES)[:], "little")


@cache
def poly_hasher() -> Callable[[bytes, bytes | bytearray | memoryview], bytes]:
    """The function that hashes one message under a key of 16 bytes: 16 bytes.

    What a call needs is bound once, for a hash of a short message costs less than the look-ups. Digests are written to
    memory that is kept between calls; a call takes its own from a list, so that threads share none.
    """
    ffi, kernel, digest = _module().ffi, _module().lib.qk_poly_hash, _types()[0]
    kept: list[tuple[Any, Any]] = []

    def poly_hash(key: bytes, message: bytes | bytearray | memoryview) -> bytes:
        data = message if type(message) is bytes else _bytes(message)
        try:
            memory = kept.pop()
        except IndexError:
            out = ffi.new(digest)
            memory = out, ffi.buffer(out)
        status = kernel(memory[0], key, data, len(data))
        value: bytes = memory[1][:]
        kept.append(memory)
        if status:
            _ensure(status)
        return value

    return poly_hash


def poly_hash_many(
    key: bytes, messages: bytes | bytearray | memoryview, edges: NDArray[np.uint64]
) -> NDArray[np.uint8]:
    """Hashes of the parts of ``messages`` between neighbouring ``edges``: uint8[n, 16]."""
    n = edges.size - 1
    out = np.empty((n, BLOCK_BYTES), dtype=np.uint8)
    _ensure(_module().lib.qk_poly_hash_many(_bytes(out), key, _bytes(messages), _words(edges), n))
    return out


def toeplitz_hash(key: Words, n_bits: int, seed: Words, out_bits: int) -> Words:
    """The hash, uint64[ceil(out_bits / 64)]; scratch of at most 2 bytes per key bit beside some KiB."""
    return _toeplitz("", key, n_bits, seed, out_bits)


def toeplitz_hash_modified(key: Words, n_bits: int, seed: Words, out_bits: int) -> Words:
    """The modified form for ``out_bits < n_bits``; scratch of at most 1.3 bytes per key bit beside some KiB."""
    return _toeplitz("_modified", key, n_bits, seed, out_bits)


def _toeplitz(form: str, key: Words, n_bits: int, seed: Words, out_bits: int) -> Words:
    lib = _module().lib
    kernel, scratch_words = getattr(lib, f"qk_toeplitz_hash{form}"), getattr(lib, f"qk_toeplitz{form}_scratch_words")
    out = np.empty(n_words(out_bits), dtype="<u8")
    scratch = np.empty(scratch_words(n_bits, out_bits), dtype=np.uint64)
    _ensure(
        kernel(
            _words(out, out=True),
            out_bits,
            _words(np.ascontiguousarray(key)),
            n_bits,
            _words(np.ascontiguousarray(seed)),
            _words(scratch, out=True),
            scratch.size,
        )
    )
    return out
