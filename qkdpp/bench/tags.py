"""Time tags: reading T2 records, merging, gating, matching of pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.bench import arrivals
from qkdpp.bench.data import generator, sorted_ticks
from qkdpp.bench.tag_data import AREA, DELAY_TICKS, MEAN_GAP_PS, PERIOD_PS, Pulsed, Recorded, pulsed, recorded
from qkdpp.bench.workload import Effort, Figures, Job, Peer, Workload, power
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.tags import TimeTags
from qkdpp.kernels.backend import backend
from qkdpp.kernels.tags import match, merge
from qkdpp.sources import open_recording, read_all
from qkdpp.sources.picoquant import read_ptu
from qkdpp.sources.picoquant_records import Decoder, Layout
from qkdpp.timing import detect as gating
from qkdpp.timing.gate_rules import GateRules

COUNT = {Effort.TINY: 1000, Effort.QUICK: 1 << 20, Effort.FULL: 1 << 22}
T2_GOAL, GATE_GOAL, MATCH_GOAL = 150e6, 150e6, 250e6
OVER_PTUFILE, OVER_TOMTAG = 3.0, 1.2

GATE_PS = 800.0
DEAD_TIME_NS = 20.0
DETECTOR_OF_CHANNEL = {0: 0, 1: 1, 2: 2, 3: 3}
HALF_WINDOW = 500

Ints = NDArray[np.int64]


def workloads(effort: Effort) -> list[Workload]:
    """The rows of this area."""
    n = COUNT[effort]
    return [_t2(n), _t2_records(n), _merge(n), _gate(n), _detect(n), _match(n), *arrivals.workloads(effort, n)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Records:
    """The records of such a file in memory, and room for their tags."""

    recorded: Recorded
    layout: Layout
    words: NDArray[np.uint32]
    time: Ints
    ids: NDArray[np.uint8]


def _t2(n: int) -> Workload:
    """From a file in the page cache to all tags in memory."""
    return Workload(
        area=AREA,
        kernel="read T2",
        size=f"{power(n)} tags",
        amount=n,
        unit="tag",
        tier="kernels",
        prepare=lambda: recorded(n),
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
        file = recorded(n)
        header = read_ptu(file.path)
        words = np.fromfile(file.path, dtype="<u4", offset=header.data_offset)
        time, ids = np.zeros(words.size, dtype=np.int64), np.zeros(words.size, dtype=np.uint8)
        return Records(recorded=file, layout=header.layout, words=words, time=time, ids=ids)

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


def _gate(n: int) -> Workload:
    """The pass alone: clock, gate, slot, detector, blanking."""

    def prepare() -> tuple[TimeTags, GateRules]:
        data = pulsed(n)
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
        prepare=lambda: pulsed(n),
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
