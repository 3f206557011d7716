"""Time tags: reading T2 records, merging, gating, matching of pairs."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qkdpp.bench.data import generator, sorted_ticks
from qkdpp.bench.workload import Effort, Figures, Job, Peer, Workload, power
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.tags import TimeTags
from qkdpp.kernels.backend import backend
from qkdpp.kernels.tags import match, merge
from qkdpp.sources import open_recording, read_all, write_recording
from qkdpp.sources.picoquant import read_ptu
from qkdpp.sources.picoquant_records import Decoder, Layout
from qkdpp.timing import detect as gating
from qkdpp.timing.clock import Clock
from qkdpp.timing.gate_rules import GateRules

AREA = "tags"
COUNT = {Effort.TINY: 1000, Effort.QUICK: 1 << 20, Effort.FULL: 1 << 22}
T2_GOAL, GATE_GOAL, MATCH_GOAL = 150e6, 150e6, 250e6
OVER_PTUFILE, OVER_TOMTAG = 3.0, 1.2

MEAN_GAP_PS = 1_000_000
"""A million tags a second: an overflow record comes every 33 tags."""
PERIOD_PS = 1600
JITTER_PS = 50.0
GATE_PS = 800.0
DEAD_TIME_NS = 20.0
DELAY_TICKS = {0: 0.0, 1: 25.5, 2: -40.25, 3: 10.0}
DETECTOR_OF_CHANNEL = {0: 0, 1: 1, 2: 2, 3: 3}
NOISE = 0.1
"""Share of clicks that lie anywhere in the period."""
HALF_WINDOW = 500

Ints = NDArray[np.int64]


def workloads(effort: Effort) -> list[Workload]:
    """The rows of this area."""
    n = COUNT[effort]
    return [_t2(n), _t2_records(n), _merge(n), _gate(n), _detect(n), _match(n)]


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Recorded:
    """A T2 file in a folder that goes away with this value."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Records:
    """The records of such a file in memory, and room for their tags."""

    recorded: Recorded
    layout: Layout
    words: NDArray[np.uint32]
    time: Ints
    ids: NDArray[np.uint8]


def _recorded(n: int) -> Recorded:
    rng = generator(n)
    tags = TimeTags(
        ticks=sorted_ticks(n, MEAN_GAP_PS, rng),
        channel=rng.integers(0, 4, n, dtype=np.uint8),
        channel_ids=(1, 2, 3, 4),
        tick_as=1_000_000,
    )
    folder = tempfile.mkdtemp()
    recorded = Recorded(path=Path(folder) / "tags.ptu")
    weakref.finalize(recorded, shutil.rmtree, folder)
    write_recording(recorded.path, [tags], format="ptu")
    return recorded


def _t2(n: int) -> Workload:
    """From a file in the page cache to all tags in memory."""
    return Workload(
        area=AREA,
        kernel="read T2",
        size=f"{power(n)} tags",
        amount=n,
        unit="tag",
        tier="kernels",
        prepare=lambda: _recorded(n),
        run=lambda d: read_all(open_recording(d.path)),
        goal=T2_GOAL,
        peers=(Peer(name="ptufile", install="pip install ptufile", prepare=ptufile_t2, asked=OVER_PTUFILE),),
    )


def ptufile_t2(data: Recorded) -> Job:
    """Records of the same file as a structured array of times and channels."""
    import ptufile  # noqa: PLC0415 - optional

    def job() -> object:
        with ptufile.PtuFile(data.path) as file:
            return file.decode_records()

    return job


def _t2_records(n: int) -> Workload:
    """Decoding alone, of records in memory to arrays that are there."""

    def prepare() -> Records:
        recorded = _recorded(n)
        header = read_ptu(recorded.path)
        words = np.fromfile(recorded.path, dtype="<u4", offset=header.data_offset)
        time, ids = np.zeros(words.size, dtype=np.int64), np.zeros(words.size, dtype=np.uint8)
        return Records(recorded=recorded, layout=header.layout, words=words, time=time, ids=ids)

    return Workload(
        area=AREA,
        kernel="decode T2",
        size=f"{power(n)} tags",
        amount=n,
        unit="tag",
        tier="kernels",
        prepare=prepare,
        run=_decoded,
        goal=T2_GOAL,
        peers=(Peer(name="ptufile", install="pip install ptufile", prepare=ptufile_records, asked=OVER_PTUFILE),),
    )


def _decoded(data: Records) -> object:
    """Tags of the records; the tiers without C make new arrays."""
    decoder = Decoder(data.layout, "records", tier=backend())
    return decoder.decode_into(data.words, data.time, data.ids) if backend() == "c" else decoder.decode(data.words)


def ptufile_records(data: Records) -> Job:
    """The same records by the loop itself: the public method clears the array first, field by field."""
    import ptufile  # noqa: PLC0415 - optional
    from ptufile._ptufile import decode_t2_records  # noqa: PLC0415

    with ptufile.PtuFile(data.recorded.path) as file:
        out, kind = np.zeros_like(file.decode_records(data.words)), file.tags["TTResultFormat_TTTRRecType"]
    return lambda: decode_t2_records(out, data.words, kind)


def _merge(n: int) -> Workload:
    """Two streams of the same rate."""

    def prepare() -> list[tuple[Ints, NDArray[np.uint8]]]:
        rng = generator(n)
        return [(sorted_ticks(n // 2, MEAN_GAP_PS, rng), rng.integers(0, 4, n // 2, dtype=np.uint8)) for _ in range(2)]

    return Workload(
        area=AREA,
        kernel="merge",
        size=f"{power(n)} tags of 2 streams",
        amount=n,
        unit="tag",
        tier="kernels",
        prepare=prepare,
        run=merge,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pulsed:
    """Tags of four detectors behind a pulsed source, and the clock."""

    tags: TimeTags
    clock: Clock


def _pulsed(n: int) -> Pulsed:
    rng = generator(n)
    slots = sorted_ticks(n, MEAN_GAP_PS // PERIOD_PS, rng)
    within = np.where(rng.random(n) < NOISE, rng.uniform(0, PERIOD_PS, n), rng.normal(0, JITTER_PS, n))
    ticks = np.sort(slots * PERIOD_PS + within.astype(np.int64))
    tags = TimeTags(
        ticks=ticks, channel=rng.integers(0, 4, n, dtype=np.uint8), channel_ids=(0, 1, 2, 3), tick_as=1_000_000
    )
    knots = np.arange(0, int(ticks[-1]) + 1, 10**10, dtype=np.int64)
    clock = Clock(
        knot_ticks=knots,
        knot_slot=knots // PERIOD_PS,
        knot_fraction=np.zeros(knots.size),
        slots_per_tick=np.full(knots.size, 1 / PERIOD_PS),
        locked=np.ones(knots.size, dtype=np.bool_),
        stop_tick=int(ticks[-1]) + 1,
    )
    return Pulsed(tags=tags, clock=clock)


def _gate(n: int) -> Workload:
    """The pass alone: clock, gate, slot, detector, blanking."""

    def prepare() -> tuple[TimeTags, GateRules]:
        data = _pulsed(n)
        rules = gating.gate_rules(
            data.tags,
            data.clock,
            DELAY_TICKS,
            DETECTOR_OF_CHANNEL,
            pulse_period_as=PERIOD_PS * 1_000_000,
            gate_ps=GATE_PS,
            dead_time_ns=DEAD_TIME_NS,
        )
        return data.tags, rules

    return Workload(
        area=AREA,
        kernel="fused gate",
        size=f"{power(n)} tags",
        amount=n,
        unit="tag",
        tier="kernels",
        prepare=prepare,
        run=lambda d: gating.fastest_gate()(d[0].ticks, d[0].channel, d[1]),
        goal=GATE_GOAL,
    )


def _detect(n: int) -> Workload:
    """The same with double clicks assigned, counters and times: the stage."""
    return Workload(
        area=AREA,
        kernel="tags to detections",
        size=f"{power(n)} tags",
        amount=n,
        unit="tag",
        tier="kernels",
        prepare=lambda: _pulsed(n),
        run=_detected,
        figures=lambda data, found: {"detections per tag": len(found) / len(data.tags)},
    )


def _detected(data: Pulsed) -> gating.Detections:
    return gating.detect(
        data.tags,
        data.clock,
        DELAY_TICKS,
        DETECTOR_OF_CHANNEL,
        pulse_period_as=PERIOD_PS * 1_000_000,
        gate_ps=GATE_PS,
        dead_time_ns=DEAD_TIME_NS,
        entropy=OsEntropy(),
    )


def _match(n: int) -> Workload:
    """A third of the events is seen by both sides, a third by either alone."""

    def prepare() -> tuple[Ints, Ints]:
        rng, part = generator(n), n // 4
        ticks = sorted_ticks(3 * part, MEAN_GAP_PS, rng)
        seen_by = rng.permutation(np.arange(3 * part) % 3)
        alice, bob = ticks[seen_by != 1], ticks[seen_by != 2]
        return alice, np.sort(bob + rng.integers(-HALF_WINDOW // 2, HALF_WINDOW // 2, bob.size))

    return Workload(
        area=AREA,
        kernel="match pairs",
        size=f"{power(n)} tags of both sides",
        amount=n,
        unit="tag",
        tier="kernels",
        prepare=prepare,
        run=lambda d: match(d[0], d[1], HALF_WINDOW),
        goal=MATCH_GOAL,
        peers=(
            Peer(name="tomtag, count", install="pip install tomtag", prepare=tomtag_count, asked=OVER_TOMTAG),
            Peer(name="tomtag, with tags", install="pip install tomtag", prepare=tomtag_tags),
        ),
        figures=_pairs,
    )


def _pairs(data: tuple[Ints, Ints], found: tuple[Ints, Ints]) -> Figures:
    return {"pairs per tag": found[0].size / (data[0].size + data[1].size)}


def tomtag_count(data: tuple[Ints, Ints]) -> Job:
    """Number of coincidences, one-to-one."""
    import tomtag  # noqa: PLC0415 - optional

    a, b = data
    return lambda: tomtag.count_twofolds(a, b, a.size, b.size, HALF_WINDOW)


def tomtag_tags(data: tuple[Ints, Ints]) -> Job:
    """The times of both clicks of every coincidence."""
    import tomtag  # noqa: PLC0415 - optional

    a, b = data
    return lambda: tomtag.get_twofold_tags(a, b, a.size, b.size, HALF_WINDOW)
