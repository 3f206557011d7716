"""What each party of a run is given: its own files and nothing of the other's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from qkdpp.core.errors import ConfigError, InputError
from qkdpp.core.tags import TimeTags, concatenate, ticks_from_ps
from qkdpp.kernels.tags import count_labels
from qkdpp.offline.runfile import PartySection, RunFile
from qkdpp.sources import ReadStats, open_recording
from qkdpp.sources.prepared import PreparedRecord, read_prepared

Progress = Callable[[str, int], None]
"""Called with what is being done and how many tags were read so far."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recorded:
    """Tags of one party, what reading them met, and what a person should be warned of."""

    tags: TimeTags
    stats: ReadStats
    format: str
    warnings: tuple[str, ...]


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


def load_inputs(
    run: RunFile, *, from_s: float | None, to_s: float | None, progress: Progress, strict: bool = False
) -> Inputs:
    """Reads the files of both parties; ``from_s`` and ``to_s`` cut the recordings, in seconds after their first tag.

    A pulsed recording is read from its start, because pulses are counted from there; what lies before ``from_s``
    falls away after gating. With ``strict`` an incomplete file is an error.
    """
    for name, value in (("--from", from_s), ("--to", to_s)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"{name} {value}: seconds after the first tag, 0 or more")
    if from_s is not None and to_s is not None and from_s >= to_s:
        raise ConfigError(f"--from {from_s:g} is not before --to {to_s:g}")
    prepared = None
    alice = None
    span: tuple[float | None, float | None]
    if run.parameters.protocol == "bb84":
        prepared = read_record(run)
        span = (None, to_s)
    else:
        span = (from_s, to_s)
        alice = read_tags(run, "alice", span, progress, strict=strict)
    bob = read_tags(run, "bob", span, progress, strict=strict)
    start_s = from_s or 0.0
    if prepared is not None and start_s >= bob.tags.duration_s > 0:
        raise ConfigError(f"--from {start_s:g}: the recording ends {bob.tags.duration_s:g} s after its first tag")
    whole = from_s is None and to_s is None
    return Inputs(prepared=prepared, alice=alice, bob=bob, from_s=start_s, whole=whole)


def read_tags(
    run: RunFile,
    party: Literal["alice", "bob"],
    span: tuple[float | None, float | None],
    progress: Progress,
    *,
    strict: bool,
) -> Recorded:
    """The recording of one party, from its first tag to ``span`` seconds after it."""
    section = run.alice if party == "alice" else run.bob
    files = run.recordings(party)
    try:
        recording = open_recording(
            files, format=section.format, tick_as=section.tick_as, options=section.options, strict=strict
        )
    except InputError as error:
        raise ConfigError(f"{run.path}: [{party}]: {error}") from error
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
    warnings = (*recording.stats.warnings, *oddities(tags, section, party))
    return Recorded(tags=tags, stats=recording.stats, format=recording.format, warnings=warnings)


MAX_PLAUSIBLE_HZ = 1e9


def oddities(tags: TimeTags, section: PartySection, party: str) -> list[str]:
    """What in the tags does not fit the channel map or any instrument, in words."""
    found = []
    counts = dict(zip(tags.channel_ids, count_labels(tags.channel).tolist(), strict=False))
    roles = section.channel_roles(party)
    present = {channel for channel, n in counts.items() if n}
    missing = [f"{channel} ({role})" for channel, role in roles.items() if channel not in present and role != "ignore"]
    if missing:
        held = ", ".join(map(str, sorted(present)))
        found.append(f"{party}.channels: no tags on channel {', '.join(missing)}; the recording has {held}")
    unmapped = sorted(present - set(roles))
    if unmapped:
        listed = ", ".join(f"{channel} ({counts[channel]} tags)" for channel in unmapped)
        found.append(f"{party}.channels: not mapped and ignored: {listed}")
    rate = len(tags) / tags.duration_s if tags.duration_s > 0 else 0.0
    if rate > MAX_PLAUSIBLE_HZ:
        found.append(f"{rate:.3g} tags per second: is the tick length ({tags.tick_as} as) right?")
    return found


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


def read_record(run: RunFile) -> PreparedRecord:
    """Alice's record, checked against the run file."""
    record = read_prepared(run.folder / (run.alice.record or ""))
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
    return record
