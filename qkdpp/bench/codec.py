"""The codec of announced slots and bases, and the bit tools, with their peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkdpp.bench.data import generator, random_words
from qkdpp.bench.workload import Effort, Figures, Job, Peer, Workload, power
from qkdpp.core.bits import BitArray8, Bits, Words
from qkdpp.estimation import binary_entropy
from qkdpp.kernels import (
    decode_bits,
    decode_slots,
    encode_bits,
    encode_slots,
    gather_bits,
    hamming_distance,
    pack_bits,
    transpose_bits,
    unpack_bits,
)

AREA = "codec"
COUNT = {Effort.TINY: 100, Effort.QUICK: 1 << 18, Effort.FULL: 1 << 20}
MATRIX_ROWS = {Effort.TINY: 10, Effort.QUICK: 512, Effort.FULL: 1024}
CLICK_PROBABILITY = 1e-3
BIAS = 0.1

Slots = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strings:
    """Two strings of ``n`` bits, the first one unpacked as well, and an order of the bits."""

    n: int
    words: Words
    others: Words
    flags: BitArray8
    order: NDArray[np.int32]


def workloads(effort: Effort) -> list[Workload]:
    """The rows of this area."""
    n = COUNT[effort]
    slots = f"{power(n)} slots, 1 in {round(1 / CLICK_PROBABILITY)}"
    flags = f"{power(n)} flags, 1 in {round(1 / BIAS)}"

    def clicks() -> Slots:
        return np.cumsum(generator(1).geometric(CLICK_PROBABILITY, n)).astype(np.int64)

    def bases() -> NDArray[np.uint8]:
        return (generator(2).random(n) < BIAS).astype(np.uint8)

    codec = [
        Workload(
            area=AREA,
            kernel="encode_slots",
            size=slots,
            amount=n,
            unit="slot",
            tier="kernels",
            prepare=clicks,
            run=encode_slots,
            figures=lambda data, coded: _over_entropy(len(coded), data.size, CLICK_PROBABILITY),
        ),
        Workload(
            area=AREA,
            kernel="decode_slots",
            size=slots,
            amount=n,
            unit="slot",
            tier="kernels",
            prepare=lambda: _encoded(clicks()),
            run=lambda d: decode_slots(*d),
        ),
        Workload(
            area=AREA,
            kernel="encode_bits",
            size=flags,
            amount=n,
            unit="flag",
            tier="kernels",
            prepare=bases,
            run=encode_bits,
            figures=lambda data, coded: _over_entropy(len(coded), data.size * BIAS, BIAS),
            peers=(_bitarray_peer(lambda b, flags: _run(b.util.sc_encode, _bitarray(b, flags))),),
        ),
        Workload(
            area=AREA,
            kernel="decode_bits",
            size=flags,
            amount=n,
            unit="flag",
            tier="kernels",
            prepare=lambda: encode_bits(bases()),
            run=lambda d: decode_bits(d, n),
            peers=(_bitarray_peer(lambda b, _: _run(b.util.sc_decode, b.util.sc_encode(_bitarray(b, bases())))),),
        ),
    ]
    return [*codec, *_bit_tools(n, MATRIX_ROWS[effort])]


def _bit_tools(n: int, n_rows: int) -> list[Workload]:
    """Rows of the bit tools; the NumPy peer works on unpacked bits where it has nothing for packed ones."""

    def strings() -> Strings:
        rng = generator(3)
        words, others = random_words(n, rng), random_words(n, rng)
        order = rng.permutation(n).astype(np.int32)
        return Strings(n=n, words=words, others=others, flags=Bits(words, n).to_array(), order=order)

    def matrix() -> Words:
        return random_words(64 * -(-n_rows // 64) * n_rows, generator(4)).reshape(n_rows, -1)

    def row(
        kernel: str, run: Callable[[Any], Any], *peers: Peer, prepare: Callable[[], Any] = strings, size: str = ""
    ) -> Workload:
        return Workload(
            area=AREA,
            kernel=kernel,
            size=size or f"{power(n)} bits",
            amount=n_rows * n_rows if size else n,
            unit="bit",
            tier="kernels",
            prepare=prepare,
            run=run,
            peers=peers,
        )

    return [
        row(
            "pack_bits",
            lambda d: pack_bits(d.flags),
            _numpy_peer(lambda d: Bits.from_array(d.flags)),
            _bitarray_peer(lambda b, d: _run(_bitarray, b, d.flags)),
        ),
        row(
            "unpack_bits",
            lambda d: unpack_bits(d.words, n),
            _numpy_peer(lambda d: Bits(d.words, n).to_array()),
            _bitarray_peer(lambda b, d: _bitarray(b, d.flags).unpack),
        ),
        row(
            "gather_bits",
            lambda d: gather_bits(d.words, n, d.order),
            _numpy_peer(lambda d: Bits(d.words, n).select(d.order)),
            _bitarray_peer(lambda b, d: _run(_bitarray(b, d.flags).__getitem__, d.order.tolist())),
        ),
        row(
            "transpose_bits",
            lambda d: transpose_bits(d, n_rows),
            _numpy_peer(lambda d: Bits.from_array(Bits(d.reshape(-1), 64 * d.size).to_array().reshape(n_rows, -1).T)),
            prepare=matrix,
            size=f"{n_rows} x {n_rows} bits",
        ),
        row(
            "hamming_distance",
            lambda d: hamming_distance(d.words, d.others),
            _numpy_peer(lambda d: int(np.bitwise_count(d.words ^ d.others).sum())),
            _bitarray_peer(
                lambda b, d: _run(b.util.count_xor, *(_bitarray(b, Bits(w, n).to_array()) for w in (d.words, d.others)))
            ),
        ),
    ]


def _run(function: Callable[..., object], *arguments: object) -> Job:
    return lambda: function(*arguments)


def _numpy_peer(run: Callable[[Any], object]) -> Peer:
    return Peer(name="NumPy", install="", prepare=lambda data: lambda: run(data))


def _bitarray_peer(prepare: Callable[[Any, Any], Job]) -> Peer:
    """From the package *bitarray* and the data to a job."""

    def with_package(data: object) -> Job:
        import bitarray.util  # noqa: PLC0415 - optional

        return prepare(bitarray, data)

    return Peer(name="bitarray", install="pip install bitarray", prepare=with_package)


def _bitarray(package: Any, flags: BitArray8) -> Any:  # noqa: ANN401 - an optional package
    array = package.bitarray(endian="little")
    array.pack(flags)
    return array


def _encoded(slots: Slots) -> tuple[bytes, int, int]:
    return encode_slots(slots), int(slots.size), int(slots[-1])


def _over_entropy(coded_bytes: int, ones: float, p: float) -> Figures:
    """Bits per marked place, and over the entropy h(p) / p of a gap between places of probability ``p``."""
    bits = 8 * coded_bytes / ones
    return {"bits per mark": bits, "over entropy": bits * p / binary_entropy(p)}
