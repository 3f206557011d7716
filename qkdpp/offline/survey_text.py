"""A survey in plain text, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from qkdpp.core.tags import AS_PER_PS
from qkdpp.offline.survey_data import Channel, PeakSurvey, PreparedSurvey, Proposal, RecordingSurvey, Survey

SHOWN_PEAKS = 32


def describe(found: Survey) -> Iterator[str]:
    """Lines without line breaks; names of files and warnings are cleared of control characters."""
    for recording in found.recordings:
        yield from _recording(recording)
    if found.prepared is not None:
        yield from _prepared(found.prepared)
    if found.clock is not None:
        clock = found.clock
        yield (
            f"clock of the second recording: later by {clock.offset_s:.9f} s, faster by {clock.rate_ppm:.4f} ppm "
            f"(significance {clock.significance:.1f})"
        )
    yield from _peaks(found)
    if found.proposal is not None:
        yield from _map(found.proposal)


def clean(text: str) -> str:
    """Printable characters only, on one line."""
    return "".join(c if c.isprintable() else "?" for c in text)


def remark(channel: Channel) -> str:
    """Rate of a channel, and period and jitter if it ticks regularly."""
    text = f"{channel.rate_hz:,.0f} /s"
    if channel.period_ps is None or channel.jitter_ps is None:
        return text
    gaps = f", {channel.missing:,} missing" if channel.missing else ""
    period = f"{channel.period_ps / 1000:,.6f} ns"
    return f"{text}, regular: sync? period {period}, jitter {channel.jitter_ps:,.0f} ps rms{gaps}"


def _recording(recording: RecordingSurvey) -> Iterator[str]:
    part = "" if recording.complete else "the first "
    yield (
        f"{clean(recording.path)}: {recording.format}, tick {recording.tick_as / AS_PER_PS:g} ps, "
        f"{part}{recording.tags:,} tags in {recording.duration_s:.6f} s"
    )
    for channel in recording.channels:
        yield f"  channel {channel.channel:<5} {channel.tags:>11,} tags  {remark(channel)}"
    for warning in recording.warnings:
        yield f"  warning: {clean(warning)}"


def _prepared(record: PreparedSurvey) -> Iterator[str]:
    yield (
        f"{clean(record.path)}: prepared states ({record.mode}), {record.n_pulses:,} pulses, "
        f"period {record.pulse_period_as / AS_PER_PS:g} ps"
    )
    yield f"  intensities {record.intensities}, probabilities {record.p_intensity}, p_Z {record.p_z:g}"
    if record.sync_length is not None:
        yield f"  public string: {record.sync_length:,} of every {record.sync_frame:,} pulses"
    if record.mode in ("pattern", "seed"):
        yield f"  warning: mode {record.mode} is a test mode, keys from it are never secret"


def _peaks(found: Survey) -> Iterator[str]:
    if not found.peaks:
        if found.prepared is None:
            yield "no channels click together: no correlation peak"
        return
    yield "correlation peaks   delay (ps)   width (ps)   coincidences   significance"
    for peak in found.peaks[:SHOWN_PEAKS]:
        yield (
            f"  {_pair(peak):<16}{peak.delay_ps:>12,.0f} {peak.width_ps:>12,.0f} {peak.coincidences:>14,.0f} "
            f"{peak.significance:>14.1f}{'  echo?' if peak.echo else ''}"
        )
    if len(found.peaks) > SHOWN_PEAKS:
        yield f"  and {len(found.peaks) - SHOWN_PEAKS} more"


def _pair(peak: PeakSurvey) -> str:
    if peak.first_recording == peak.second_recording:
        return f"{peak.first} and {peak.second}"
    return f"{peak.first} and {peak.second} (2nd)"


def _map(proposal: Proposal) -> Iterator[str]:
    yield "proposed channel map (check it: which basis is Z and which bit is 0 cannot be seen here)"
    yield "  coincidences        " + "".join(f"{f'Bob {role} = {c}':>16}" for role, c in proposal.bob.items())
    for (role, channel), row in zip(proposal.alice.items(), proposal.coincidences, strict=True):
        yield f"  {f'Alice {role} = {channel}':<20}" + "".join(f"{count:>16,.0f}" for count in row)
    yield f"  unlike bits: {100 * proposal.qber_z:.2f} % in Z, {100 * proposal.qber_x:.2f} % in X"
