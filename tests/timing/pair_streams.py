"""Synthetic entangled pairs on two taggers, and the Kwiat recording, for the timing tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from timing_streams import merge

from qkdpp.core.entropy import OsEntropy
from qkdpp.core.stage import Message, run_pair
from qkdpp.core.tags import TimeTags
from qkdpp.timing.pair_messages import MAX_TICK, AnnouncedSlots, decode_chunk
from qkdpp.timing.pair_values import Expected, Matched, PairParams
from qkdpp.timing.pairs import alice, bob

ALICE = {0: 0, 1: 1, 2: 2, 3: 3}
BOB = {4: 0, 5: 1, 6: 2, 7: 3}
KWIAT = Path(__file__).parents[3] / "shared/data/kwiat_spdc/Alice1_Bob1_with_delays.txt"
KWIAT_TICK_AS = 78_125_000


@dataclass(frozen=True)
class Lab:
    """Two recordings, and the emission times (ps) of the pairs."""

    alice: TimeTags
    bob: TimeTags
    emission_ps: NDArray[np.float64]


def lab(
    rng: np.random.Generator,
    *,
    duration_s: float = 0.1,
    pairs_hz: float = 100_000.0,
    noise_hz: tuple[float, float] = (300_000.0, 300_000.0),
    delays_ns: tuple[tuple[float, ...], tuple[float, ...]] = ((-6.0, 2.0, 1.0, 3.0), (5.0, -4.0, 0.5, -1.5)),
    jitter_ps: float = 120.0,
    tick_as: tuple[int, int] = (4_000_000, 81_000_000),
    rate: float = 0.0,
    offset_s: float = 0.0,
    start_s: float = 0.0,
    pump_ps: float = 0.0,
    qber: float = 0.02,
) -> Lab:
    """Pairs with equal bits in equal bases, independent noise; Bob's clock is ``(1 + rate) t + offset``."""
    n = rng.poisson(pairs_hz * duration_s)
    emission = np.sort(rng.random(n)) * duration_s * 1e12
    if pump_ps:
        emission = np.unique(np.rint(emission / pump_ps)) * pump_ps
        n = emission.size
    basis = rng.integers(0, 2, (2, n))
    bit = rng.integers(0, 2, (2, n))
    same = basis[0] == basis[1]
    bit[1, same] = bit[0, same] ^ (rng.random(int(same.sum())) < qber)
    records = []
    for party, ids in enumerate((ALICE, BOB)):
        detector = basis[party] << 1 | bit[party]
        dark = rng.poisson(noise_hz[party] * duration_s)
        detector = np.concatenate([detector, rng.integers(0, 4, dark)])
        ps = np.concatenate([emission, rng.random(dark) * duration_s * 1e12])
        ps = ps + rng.normal(0, jitter_ps, ps.size) + np.array(delays_ns[party])[detector] * 1000
        if party:
            ps = ps * (1 + rate)
        start = round((start_s * (1 + rate * party) + offset_s * party) * 1e18) // tick_as[party]
        ticks = start + np.floor(ps * 1e6 / tick_as[party]).astype(np.int64)
        records.append(merge([(c, ticks[detector == d]) for c, d in ids.items()], tick_as[party]))
    return Lab(alice=records[0], bob=records[1], emission_ps=emission)


def kwiat(*, rate: float = 0.0, offset_s: float = 0.0, cut_s: float = 0.0) -> tuple[TimeTags, TimeTags]:
    """The recording, split into one per party; Bob's clock bent and the first part of his file cut off."""
    if not KWIAT.exists():
        pytest.skip("needs the recording ../shared/data/kwiat_spdc")
    channel, ticks = np.loadtxt(KWIAT, dtype=np.int64, unpack=True)
    a, b = channel < 4, (channel >= 4) & (ticks >= cut_s * 1e18 / KWIAT_TICK_AS)
    bent = ticks + np.rint(ticks * rate).astype(np.int64) + round(offset_s * 1e18 / KWIAT_TICK_AS)
    return (
        merge([(c, ticks[a & (channel == c)]) for c in ALICE], KWIAT_TICK_AS),
        merge([(c, bent[b & (channel == c)]) for c in BOB], KWIAT_TICK_AS),
    )


def converse(
    a: TimeTags, b: TimeTags, known: Expected | None = None, **params: float
) -> tuple[Matched, Matched, list[tuple[str, Message]]]:
    """Both parties against each other."""
    keyword = {k: int(v) if k in ("max_segments", "calibration_tags") else v for k, v in params.items()}
    left: Matched
    right: Matched
    left, right, said = run_pair(
        alice(a, PairParams(detector_of_channel=ALICE, **keyword), OsEntropy()),  # type: ignore[arg-type]
        bob(b, PairParams(detector_of_channel=BOB, **keyword), OsEntropy(), known),  # type: ignore[arg-type]
    )
    return left, right, said


def sifted(a: Matched, b: Matched) -> tuple[int, float]:
    """Sifted bits of both bases and their error rate."""
    same = a.detector >> 1 == b.detector >> 1
    return int(same.sum()), float((a.detector[same] != b.detector[same]).mean())


def announced(said: list[tuple[str, Message]]) -> NDArray[np.int64]:
    """All slots that Alice announced."""
    chunks = [m for _, m in said if isinstance(m, AnnouncedSlots)]
    return np.concatenate([decode_chunk(m, -MAX_TICK, 0) for m in chunks])


def mutual_information(x: NDArray[np.integer], y: NDArray[np.integer]) -> tuple[float, float]:
    """Plug-in estimate of the mutual information in bits, and what it would be by chance (Miller-Madow bias)."""
    table = np.zeros((int(x.max()) + 1, int(y.max()) + 1))
    np.add.at(table, (x, y), 1)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    p = table / table.sum()
    product = p.sum(axis=1, keepdims=True) * p.sum(axis=0, keepdims=True)
    seen = p > 0
    information = float((p[seen] * np.log2(p[seen] / product[seen])).sum())
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    return information, freedom / (2 * table.sum() * float(np.log(2)))
