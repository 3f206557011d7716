"""Toeplitz hash of privacy amplification and polynomial hash of authentication, with their peers."""

from __future__ import annotations

import ctypes
import ctypes.util
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkdpp.bench.data import generator, random_words
from qkdpp.bench.workload import Effort, Job, Peer, Workload, power
from qkdpp.core.bits import Bits, Words
from qkdpp.kernels import modified_seed_bits, poly_hash, poly_hash_many, toeplitz_hash, toeplitz_hash_modified

AREA = "hash"
TOEPLITZ_LOG2 = {Effort.TINY: (8,), Effort.QUICK: (16, 18, 20), Effort.FULL: (16, 18, 20, 22, 24, 26)}
RESEARCH_CODE = {16: 523e6, 18: 441e6, 20: 367e6, 22: 299e6, 24: 222e6, 26: 201e6}
"""Bits per second of the best published code (additive FFT, full product, quiet machine of the Cascade Lake class)."""
OVER_SCIPY = {18: 15.0, 20: 25.0, 22: 25.0, 24: 25.0, 26: 25.0}
SLOW_PEER_LOG2 = 18
"""Largest size at which peers below 1 Mbit/s are run."""
SCIPY_LOG2 = 24
GF2X_LOG2 = 22

POLY_BYTES = {Effort.TINY: (64,), Effort.QUICK: (64, 1 << 14, 1 << 20), Effort.FULL: (64, 1 << 10, 1 << 14, 1 << 20)}
CALLS_PER_S = 1 / 5e-6
"""A single call shall take 5 us at most at 64 bytes."""
MESSAGES_PER_S = 1 / 0.2e-6
BATCH = {Effort.TINY: 10, Effort.QUICK: 10_000, Effort.FULL: 100_000}
GALOIS_BYTES = 1 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Toeplitz:
    """A key of ``n`` bits and the seed that takes it to ``out`` bits."""

    key: Words
    n: int
    seed: Words
    out: int

    @property
    def seed_bits(self) -> int:
        """Length of the seed."""
        return self.n + self.out - 1


def workloads(effort: Effort) -> list[Workload]:
    """The rows of this area."""
    rows = [_toeplitz(k) for k in TOEPLITZ_LOG2[effort]]
    rows += [_modified(k) for k in TOEPLITZ_LOG2[effort]]
    rows += [_poly(n) for n in POLY_BYTES[effort]]
    return [*rows, _batch(BATCH[effort], 64)]


def _toeplitz(log2_n: int) -> Workload:
    n = 1 << log2_n

    peers = []
    if log2_n <= SCIPY_LOG2:
        scipy = Peer(
            name="scipy FFT", install="pip install scipy", prepare=scipy_toeplitz, asked=OVER_SCIPY.get(log2_n)
        )
        peers.append(scipy)
    if log2_n <= GF2X_LOG2:
        peers.append(Peer(name="gf2x", install="apt install libgf2x3", prepare=gf2x_toeplitz))
    if log2_n <= SLOW_PEER_LOG2:
        peers.append(Peer(name="cryptomite", install="pip install cryptomite", prepare=cryptomite_toeplitz))
    return Workload(
        area=AREA,
        kernel="toeplitz_hash",
        size=f"{power(n)} to {power(n // 2)} bits",
        amount=n,
        unit="bit",
        tier="kernels",
        prepare=lambda: _keyed(n),
        run=lambda d: toeplitz_hash(d.key, d.n, d.seed, d.out),
        goal=RESEARCH_CODE.get(log2_n),
        peers=tuple(peers),
    )


def _keyed(n: int) -> Toeplitz:
    rng = generator(n)
    return Toeplitz(key=random_words(n, rng), n=n, seed=random_words(n + n // 2 - 1, rng), out=n // 2)


def _modified(log2_n: int) -> Workload:
    """The form that amplification uses; the plain one stands beside it."""
    n = 1 << log2_n

    def prepare() -> tuple[Toeplitz, Words]:
        return _keyed(n), random_words(modified_seed_bits(n, n // 2), generator(log2_n))

    def plain(data: tuple[Toeplitz, Words]) -> Job:
        d = data[0]
        return lambda: toeplitz_hash(d.key, d.n, d.seed, d.out)

    return Workload(
        area=AREA,
        kernel="toeplitz, modified",
        size=f"{power(n)} to {power(n // 2)} bits",
        amount=n,
        unit="bit",
        tier="kernels",
        prepare=prepare,
        run=lambda d: toeplitz_hash_modified(d[0].key, n, d[1], n // 2),
        goal=RESEARCH_CODE.get(log2_n),
        peers=(Peer(name="toeplitz_hash", install="", prepare=plain),),
    )


def scipy_toeplitz(data: Toeplitz) -> Job:
    """The product in float64, as short as it can be; bits unpacked beforehand."""
    import scipy.fft  # noqa: PLC0415 - slow to import

    key = Bits(data.key, data.n).to_array().astype(np.float64)
    seed = Bits(data.seed, data.seed_bits).to_array().astype(np.float64)
    size = scipy.fft.next_fast_len(data.seed_bits, real=True)

    def job() -> NDArray[np.int64]:
        product = scipy.fft.irfft(scipy.fft.rfft(key, size) * scipy.fft.rfft(seed, size), size)
        return np.rint(product[data.n - 1 : data.n - 1 + data.out]).astype(np.int64) & 1

    return job


def gf2x_toeplitz(data: Toeplitz) -> Job:
    """The full product of two polynomials over GF(2); the bits wanted are cut out of it."""
    name = ctypes.util.find_library("gf2x")
    if name is None:
        raise ImportError("gf2x")
    multiply = ctypes.CDLL(name).gf2x_mul
    pointer, length = ctypes.c_void_p, ctypes.c_ulong
    multiply.argtypes, multiply.restype = (pointer, pointer, length, pointer, length), ctypes.c_int
    out = np.zeros(data.key.size + data.seed.size, dtype=np.uint64)

    def job() -> Bits:
        multiply(out.ctypes.data, data.seed.ctypes.data, data.seed.size, data.key.ctypes.data, data.key.size)
        return Bits(out, 64 * out.size).slice(data.n - 1, data.n - 1 + data.out)

    return job


def cryptomite_toeplitz(data: Toeplitz) -> Job:
    """A Toeplitz extractor of the same size; its seed is ordered otherwise, so its result is another one."""
    from cryptomite.toeplitz import Toeplitz as Extractor  # noqa: PLC0415 - optional

    key = Bits(data.key, data.n).to_array().tolist()
    seed = Bits(data.seed, data.seed_bits).to_array().tolist()
    extractor = Extractor(data.n, data.out)
    return lambda: extractor.extract(key, seed)


def _poly(n: int) -> Workload:
    single = n < 1 << 10
    peers = [
        Peer(
            name="OpenSSL GMAC",
            install="pip install cryptography",
            prepare=gmac,
            amount=None if not single else 1,
            asked=1.0 if n >= 1 << 14 else None,
        )
    ]
    if n <= GALOIS_BYTES:
        peers.append(Peer(name="galois", install="pip install galois", prepare=galois_hash))
    return Workload(
        area=AREA,
        kernel="poly_hash",
        size=f"{n} bytes, a call" if single else f"{power(n)} bytes",
        amount=1 if single else n,
        unit="call" if single else "B",
        tier="kernels",
        prepare=lambda: _message(n),
        run=lambda d: poly_hash(d[0], d[1]),
        goal=CALLS_PER_S if single else None,
        peers=tuple(peers),
    )


def _message(n: int) -> tuple[bytes, bytes]:
    rng = generator(n)
    return rng.bytes(16), rng.bytes(n)


def gmac(data: tuple[bytes, bytes]) -> Job:
    """AES-GCM with everything as associated data: a tag and no ciphertext."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    cipher, nonce = AESGCM(data[0]), bytes(12)
    return lambda: cipher.encrypt(nonce, b"", data[1])


def galois_hash(data: tuple[bytes, bytes]) -> Job:
    """The same polynomial in elements of a field class: big integers, Horner's rule."""
    import galois  # noqa: PLC0415 - optional

    field: Any = galois.GF(2**128, irreducible_poly=(1 << 128) | 0x87, primitive_element="x", verify=False)
    key, message = data
    padded = message + bytes(-len(message) % 16) + len(message).to_bytes(16, "little")
    blocks = field([int.from_bytes(padded[i : i + 16], "little") for i in range(0, len(padded), 16)])
    at = field(int.from_bytes(key, "little"))

    def job() -> bytes:
        total = field(0)
        for block in blocks:
            total = (total + block) * at
        return int(total).to_bytes(16, "little")

    return job


def _batch(n: int, n_bytes: int) -> Workload:
    def prepare() -> tuple[bytes, bytes, NDArray[np.int64]]:
        rng = generator(n)
        return rng.bytes(16), rng.bytes(n * n_bytes), np.arange(0, n * n_bytes + 1, n_bytes, dtype=np.int64)

    def gmac_each(data: tuple[bytes, bytes, NDArray[np.int64]]) -> Job:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        cipher, nonce = AESGCM(data[0]), bytes(12)
        parts = [data[1][i : i + n_bytes] for i in range(0, len(data[1]), n_bytes)]
        return lambda: [cipher.encrypt(nonce, b"", part) for part in parts]

    return Workload(
        area=AREA,
        kernel="poly_hash_many",
        size=f"{n:,} of {n_bytes} bytes",
        amount=n,
        unit="message",
        tier="kernels",
        prepare=prepare,
        run=lambda d: poly_hash_many(*d),
        goal=MESSAGES_PER_S,
        peers=(Peer(name="OpenSSL GMAC", install="pip install cryptography", prepare=gmac_each),),
    )
