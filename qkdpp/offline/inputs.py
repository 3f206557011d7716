"""What each party of a run is given: its own files and nothing of the other's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from qkdpp.core.errors import ConfigError
from qkdpp.core.tags import TimeTags, concatenate, ticks_from_ps
from qkdpp.offline.runfile import PartySection, RunFile
from qkdpp.sources import ReadStats, open_recording
from qkdpp.sources.prepared import PreparedRecord, read_prepared

Progress = Callable[[str, int], None]
"""Called with what is being done and how many tags were read so far."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recorded:
    """Tags of one party and what reading them met."""

    tags: TimeTags
    stats: ReadStats
    format: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """Alice's record (bb84) or recording (bbm92), and Bob's recording, of which detections count from ``from_s``.

    ``whole`` is false where only a part of the recording is used: then the pulses sent do not belong to it.
    """

    prepared: PreparedRecord | None
    alice: Recorded | None
    bob: Recorded
    from_s: float = 0.0
    whole: bool = True


def load_inputs(run: RunFile, *, from_s: float | None, to_s: float | None, progress: Progress) -> Inputs:
    """Reads the files of both parties; ``from_s`` and ``to_s`` cut the recordings, in seconds after their first tag.

    A pulsed recording is read from its start, because pulses are counted from there; what lies before ``from_s``
    falls away after gating.
    """
    for name, value in (("--from", from_s), ("--to", to_s)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"{name} {value}: seconds after the first tag, 0 or more")
    prepared = None
    alice = None
    span: tuple[float | None, float | None]
    if run.parameters.protocol == "bb84":
        prepared = read_prepared(run.folder / (run.alice.record or ""))
        _check_record(prepared, run)
        span = (None, to_s)
    else:
        span = (from_s, to_s)
        alice = _read(run, "alice", run.alice, span, progress)
    return Inputs(
        prepared=prepared,
        alice=alice,
        bob=_read(run, "bob", run.bob, span, progress),
        from_s=from_s or 0.0,
        whole=from_s is None and to_s is None,
    )


def _read(
    run: RunFile,
    party: Literal["alice", "bob"],
    section: PartySection,
    span: tuple[float | None, float | None],
    progress: Progress,
) -> Recorded:
    recording = open_recording(
        run.recordings(party), format=section.format, tick_as=section.tick_as, options=section.options
    )
    chunks: list[TimeTags] = []
    n = 0
    for chunk in recording.chunks(from_s=span[0], to_s=span[1]):
        chunks.append(chunk)
        n += len(chunk)
        progress(f"reading {party}'s tags", n)
    if not n:
        raise ConfigError(f"{run.path}: {party}.files hold no tags in the chosen time span")
    tags = concatenate(chunks)
    if run.parameters.protocol == "bbm92":
        tags = without_delays(tags, section.delays(party))
    return Recorded(tags=tags, stats=recording.stats, format=recording.format)


def without_delays(tags: TimeTags, delays_ps: dict[int, float] | None) -> TimeTags:
    """The tags with known delays of their channels subtracted (whole ticks), in time order again."""
    if not delays_ps:
        return tags
    shift = np.zeros(len(tags.channel_ids), dtype=np.int64)
    for index, channel in enumerate(tags.channel_ids):
        shift[index] = ticks_from_ps(delays_ps.get(channel, 0.0), tags.tick_as)
    ticks = tags.ticks - shift[tags.channel]
    order = np.argsort(ticks, kind="stable")
    return replace(tags, ticks=ticks[order], channel=tags.channel[order])


def _check_record(record: PreparedRecord, run: RunFile) -> None:
    source = run.parameters.source
    if source is None:
        raise ConfigError(f'{run.path}: protocol "bb84" needs a [source] section')
    pairs = {
        "pulse_period_as": (record.pulse_period_as, source.pulse_period_as),
        "intensities": (tuple(record.intensities), tuple(source.intensities)),
        "p_intensity": (tuple(record.p_intensity), tuple(source.p_intensity)),
        "p_z_alice": (record.p_z, source.p_z_alice),
    }
    for name, (held, stated) in pairs.items():
        if held != stated:
            raise ConfigError(f"{run.path}: source.{name} = {stated}, but Alice's record says {held}")
    string = run.parameters.sync_string
    if record.sync_string != (None if string is None else string.build()):
        raise ConfigError(f"{run.path}: [sync_string] differs from the string in Alice's record")
