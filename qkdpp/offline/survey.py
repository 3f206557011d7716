"""What recordings show on their own: kinds, rates, sync channels, correlations, and a channel map to check.

Reads the beginning of each recording only (:data:`MAX_S`, :data:`MAX_TAGS`), so the figures are those of the first
seconds. Nothing here knows the optics: what it says about bases and bits is a proposal. The survey is what
``qkdpp init`` prints with ``--json``; ``docs/formats/run.md`` explains its fields.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import FormatError, InputError
from qkdpp.core.tags import AS_PER_PS, AS_PER_S, TimeTags, concatenate
from qkdpp.offline import survey_clock, survey_map, survey_peaks
from qkdpp.offline.survey_data import (
    Channel,
    ClockSurvey,
    PeakSurvey,
    PreparedSurvey,
    Proposal,
    RecordingSurvey,
    Survey,
)
from qkdpp.sources import Recording, open_recording
from qkdpp.sources.batches import Options
from qkdpp.sources.prepared_file import FORMAT_NAME, Fields, open_record, read_header

MAX_S = 5.0
MAX_TAGS = 1_000_000
MIN_SYNC_TAGS = 20
MIN_SYNC_SHARE = 0.9
MAX_SYNC_JITTER = 0.01
"""Of the period; and a channel counts as periodic if this share of its intervals are whole periods."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stream:
    """Tags of all recordings on one clock: which recording and channel each dense index stands for."""

    ticks: NDArray[np.int64]
    channel: NDArray[np.int64]
    names: list[tuple[int, int]]
    tick_as: int


def survey(
    files: Sequence[Path],
    *,
    format: str | None = None,
    tick_as: int | None = None,
    options: Options | None = None,
    progress: Callable[[str], None] = lambda what: None,
) -> Survey:
    """Looks at one or two recordings, or at a record of prepared states and one recording of Bob's.

    Args:
        files: recordings (Alice's first) and at most one record of prepared states, in any order.
        format: format of the recordings where it has to be declared.
        tick_as: attoseconds per tick where the files do not state it.
        options: options of the format.
        progress: told what is being done.

    Raises:
        InputError: too many files, or a recording that has to be declared.
        FormatError: a file is not what it claims to be.
    """
    records = [f for f in files if is_prepared(f)]
    recordings = [f for f in files if f not in records]
    if len(records) > 1 or len(recordings) > 2 or (records and len(recordings) > 1) or not files:
        raise InputError(
            f"{len(recordings)} recordings and {len(records)} records of prepared states: give one recording that "
            "holds both parties, or one of each (Alice's first), or Alice's record and one recording of Bob's; "
            "further parts are added to `files` in run.toml by hand"
        )
    surveyed, tags = [], []
    for path in recordings:
        progress(f"reading {path.name}")
        found, stream = _recording(open_recording(path, format=format, tick_as=tick_as, options=options))
        surveyed.append(found)
        tags.append(stream)
    progress("looking for correlations")
    prepared = _prepared(records[0]) if records else None
    clock, peaks, proposal = (None, [], None) if prepared else _correlations(surveyed, tags)
    return Survey(recordings=surveyed, prepared=prepared, clock=clock, peaks=peaks, proposal=proposal)


def is_prepared(path: Path) -> bool:
    """Whether a file is a record of prepared states."""
    try:
        with path.open("rb") as file:
            if file.read(8) != b"\x89HDF\r\n\x1a\n":
                return False
        with open_record(path) as record:
            fields = Fields(path, record)
            return fields.has("format") and fields.text("format") == FORMAT_NAME
    except FormatError:
        return False
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _prepared(path: Path) -> PreparedSurvey:
    with open_record(path) as record:
        header, mode = read_header(Fields(path, record))
    string = header.sync_string
    return PreparedSurvey(
        path=str(path),
        mode=mode,
        n_pulses=header.n_pulses,
        pulse_period_as=header.pulse_period_as,
        intensities=list(header.intensities),
        p_intensity=list(header.p_intensity),
        p_z=header.p_z,
        sync_seed=None if string is None else string.seed.hex(),
        sync_length=None if string is None else string.length,
        sync_frame=None if string is None else string.frame,
    )


def _recording(recording: Recording) -> tuple[RecordingSurvey, TimeTags]:
    chunks: list[TimeTags] = []
    complete = True
    reader = recording.chunks(to_s=MAX_S)
    for chunk in reader:
        chunks.append(chunk)
        if sum(map(len, chunks)) >= MAX_TAGS:
            complete = next(reader, None) is None
            break
    reader.close()
    if not sum(map(len, chunks)):
        raise InputError(f"{recording.paths[0]}: the recording holds no tag")
    tags = concatenate(chunks)
    complete = complete and tags.duration_s < 0.99 * MAX_S
    return RecordingSurvey(
        path=str(recording.paths[0]),
        format=recording.format,
        tick_as=recording.tick_as,
        tags=len(tags),
        duration_s=tags.duration_s,
        complete=complete,
        channels=sorted((_channel(tags, c) for c in tags.channel_ids), key=lambda c: c.channel),
        warnings=list(recording.stats.warnings),
    ), tags


def _channel(tags: TimeTags, channel: int) -> Channel:
    ticks = tags.of_channel(channel)
    rate = ticks.size / tags.duration_s if tags.duration_s > 0 else 0.0
    found = period(ticks)
    if found is None:
        return Channel(channel=channel, tags=int(ticks.size), rate_hz=rate)
    ps = tags.tick_as / AS_PER_PS
    return Channel(
        channel=channel,
        tags=int(ticks.size),
        rate_hz=rate,
        period_ps=found[0] * ps,
        jitter_ps=found[1] * ps,
        missing=found[2],
    )


def period(ticks: NDArray[np.int64]) -> tuple[float, float, int] | None:
    """(period, single-shot jitter rms, periods without a tag) in ticks of a regular channel, None for any other.

    Regular: nearly all intervals are whole multiples of the median interval and scatter by less than a hundredth of
    it. A detector that saturates after its dead time scatters more.
    """
    if ticks.size < MIN_SYNC_TAGS:
        return None
    steps = np.diff(ticks).astype(np.float64)
    guess = float(np.median(steps))
    if guess <= 0:
        return None
    whole = np.maximum(np.rint(steps / guess), 1.0)
    rest = steps - whole * guess
    regular = np.abs(rest) < 0.05 * guess
    if regular.mean() < MIN_SYNC_SHARE or np.mean(whole[regular] == 1) < 0.5:
        return None
    result = float(steps[regular].sum() / whole[regular].sum())
    jitter = float(np.sqrt(np.mean((steps[regular] - whole[regular] * result) ** 2) / 2))
    if jitter > MAX_SYNC_JITTER * result:
        return None
    return result, jitter, int((whole[regular] - 1).sum())


def _correlations(
    surveyed: list[RecordingSurvey], tags: list[TimeTags]
) -> tuple[ClockSurvey | None, list[PeakSurvey], Proposal | None]:
    """Peaks between the channels that do not tick regularly, and the map that they propose."""
    busy = [_detectors(found) for found in surveyed]
    clock = None
    if len(tags) == 2:
        clock = survey_clock.compare(*(survey_clock.of_channels(t, b) for t, b in zip(tags, busy, strict=True)))
        if clock is None:
            return None, [], None
    stream = _joined(tags, busy, clock)
    found = survey_peaks.delays(stream.ticks, stream.channel, len(stream.names), stream.tick_as)
    peaks = survey_peaks.peaks(found, stream.tick_as)
    parties = None
    if clock is not None:
        sides = [{i for i, (r, _) in enumerate(stream.names) if r == side} for side in (0, 1)]
        parties = (sides[0], sides[1])
        peaks = [p for p in peaks if stream.names[p.first][0] != stream.names[p.second][0]]
    chosen = survey_map.propose(found, peaks, parties)
    echoes = () if chosen is None else chosen.rivals
    seen = [_peak(stream, p, p in echoes) for p in peaks]
    return _clock(clock, tags), seen, None if chosen is None else _proposal(stream, chosen)


def _clock(clock: survey_clock.Comparison | None, tags: list[TimeTags]) -> ClockSurvey | None:
    if clock is None:
        return None
    start_as = [int(t.ticks[0]) * t.tick_as for t in tags]
    return ClockSurvey(
        offset_s=(start_as[1] - start_as[0]) / AS_PER_S + clock.offset_ns * 1e-9,
        rate_ppm=clock.rate * 1e6,
        significance=clock.significance,
    )


def _detectors(found: RecordingSurvey) -> list[int]:
    """The busiest channels that do not tick regularly."""
    others = sorted((c for c in found.channels if c.period_ps is None), key=lambda c: -c.tags)
    return sorted(c.channel for c in others[: survey_peaks.MAX_CHANNELS])


def _joined(tags: list[TimeTags], busy: list[list[int]], clock: survey_clock.Comparison | None) -> _Stream:
    """One sorted stream in ticks of the first recording, from its first tag on."""
    names = [(r, c) for r, channels in enumerate(busy) for c in channels]
    ticks, channel = [], []
    for r, one in enumerate(tags):
        own = one.ticks - one.ticks[0] if r == 0 or clock is None else clock.on_first(one, tags[0].tick_as)
        index = np.array([names.index((r, c)) if c in busy[r] else -1 for c in one.channel_ids], dtype=np.int64)
        dense = index[one.channel]
        ticks.append(own[dense >= 0])
        channel.append(dense[dense >= 0])
    together, which = np.concatenate(ticks), np.concatenate(channel)
    order = np.argsort(together, kind="stable")
    return _Stream(ticks=together[order], channel=which[order], names=names, tick_as=tags[0].tick_as)


def _peak(stream: _Stream, peak: survey_peaks.Peak, echo: bool) -> PeakSurvey:
    ps = stream.tick_as / AS_PER_PS
    first, second = stream.names[peak.first], stream.names[peak.second]
    return PeakSurvey(
        first_recording=first[0],
        first=first[1],
        second_recording=second[0],
        second=second[1],
        delay_ps=peak.delay * ps,
        width_ps=peak.width * ps,
        significance=peak.significance,
        coincidences=peak.coincidences,
        echo=echo,
    )


def _proposal(stream: _Stream, chosen: survey_map.ChannelMap) -> Proposal:
    ps = stream.tick_as / AS_PER_PS
    roles = ("Z0", "Z1", "X0", "X1")

    def channels(side: tuple[int, ...]) -> dict[str, int]:
        return {role: stream.names[i][1] for role, i in zip(roles, side, strict=True)}

    def delays(side: tuple[int, ...]) -> dict[str, float]:
        return {role: float(chosen.delay[i]) * ps for role, i in zip(roles, side, strict=True)}

    return Proposal(
        alice=channels(chosen.alice),
        bob=channels(chosen.bob),
        alice_delays_ps=delays(chosen.alice),
        bob_delays_ps=delays(chosen.bob),
        coincidences=[[float(v) for v in row] for row in chosen.coincidences],
        qber_z=chosen.qber(0),
        qber_x=chosen.qber(1),
    )
