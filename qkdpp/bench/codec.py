"""The codec of announced slots and bases."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qkdpp.bench.data import generator
from qkdpp.bench.workload import Effort, Figures, Workload, power
from qkdpp.estimation import binary_entropy
from qkdpp.kernels import decode_bits, decode_slots, encode_bits, encode_slots

AREA = "codec"
COUNT = {Effort.TINY: 100, Effort.QUICK: 1 << 18, Effort.FULL: 1 << 20}
CLICK_PROBABILITY = 1e-3
BIAS = 0.1

Slots = NDArray[np.int64]


def workloads(effort: Effort) -> list[Workload]:
    """The rows of this area."""
    n = COUNT[effort]
    slots = f"{power(n)} slots, 1 in {round(1 / CLICK_PROBABILITY)}"
    flags = f"{power(n)} flags, 1 in {round(1 / BIAS)}"

    def clicks() -> Slots:
        return np.cumsum(generator(1).geometric(CLICK_PROBABILITY, n)).astype(np.int64)

    def bases() -> NDArray[np.uint8]:
        return (generator(2).random(n) < BIAS).astype(np.uint8)

    return [
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
        ),
    ]


def _encoded(slots: Slots) -> tuple[bytes, int, int]:
    return encode_slots(slots), int(slots.size), int(slots[-1])


def _over_entropy(coded_bytes: int, ones: float, p: float) -> Figures:
    """Bits per marked place, and over the entropy h(p) / p of a gap between places of probability ``p``."""
    bits = 8 * coded_bytes / ones
    return {"bits per mark": bits, "over entropy": bits * p / binary_entropy(p)}
