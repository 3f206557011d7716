"""A ``run.toml`` from a survey.

What was seen is filled in, what was inferred says CHECK, what cannot be known is a comment that says FILL IN. A draft
with open FILL IN lines is refused by :func:`qkdpp.offline.runfile.load` with the field's name; nothing is guessed
silently. Defaults are shown as comments.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from qkdpp.core.errors import InputError
from qkdpp.core.tags import AS_PER_PS
from qkdpp.offline.runfile import FORMAT
from qkdpp.offline.survey_data import Channel, PreparedSurvey, RecordingSurvey, Survey
from qkdpp.offline.survey_text import clean, remark
from qkdpp.protocols.parameters import Correction, SecuritySection, Timing
from qkdpp.sources.batches import Options

PROTOCOLS = ("bb84", "bbm92")
PAIRS = Timing(method="pairs")
HEAD = """\
# Run file for `qkdpp distill`, drafted by `qkdpp init` from the beginning of the recordings.
# CHECK marks what was inferred; FILL IN marks what a recording cannot show. All keys: docs/formats/run.md."""
BOTH_PARTIES = """\
# One recording holds both parties: both sections name it, and each gives the other's channels the role "ignore".
# For parties that really hold their own data only, record or export one file each."""
METHODS = 'method = "sync" (a sync channel), "string" (a public string in her record) or "pairs" (bbm92)'
MAP_NOTE = """\
# CHECK: from the coincidences. Which basis is Z and which bit is 0 cannot be seen in them; compare with the optics."""


def draft(
    found: Survey,
    folder: Path,
    *,
    protocol: str | None = None,
    tick_as: int | None = None,
    options: Options | None = None,
) -> str:
    """The text of a run file that will lie in ``folder``.

    Args:
        found: the survey.
        folder: relative paths start here.
        protocol: as the user says; None infers it from the files.
        tick_as: as given for the recordings, written down for both parties.
        options: likewise.

    Raises:
        InputError: protocol and files do not fit together, or a name cannot be written.
    """
    chosen = _protocol(found, protocol)
    given = _Given(folder=folder, tick_as=tick_as, options=dict(options or {}))
    known = f'protocol = "{chosen}"' if chosen else '# FILL IN: protocol = "bb84" or "bbm92"'
    parts: list[Iterable[str]] = [[HEAD, f"format = {FORMAT}", known]]
    if chosen == "bb84":
        parts += [_source(found.prepared), *_string(found.prepared), _alice_record(found.prepared, given)]
        parts += [_bob(found, given), _pulsed_timing(found)]
    elif chosen is None:
        parts += [_alice_open(), _bob(found, given), [f"[timing]\n# FILL IN: {METHODS}"]]
    else:
        if len(found.recordings) == 1:
            parts.append([BOTH_PARTIES])
        parts += [_receiver("alice", found, given), _receiver("bob", found, given), _pair_timing(found)]
    parts += [_defaults("security", SecuritySection()), _defaults("correction", Correction())]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


class _Given(msgspec.Struct, frozen=True, kw_only=True):
    """What the user said about the recordings."""

    folder: Path
    tick_as: int | None
    options: dict[str, str | int | bool]


def _protocol(found: Survey, asked: str | None) -> str | None:
    if asked not in (None, *PROTOCOLS):
        raise InputError(f"--protocol {asked!r}: choose {' or '.join(PROTOCOLS)}")
    if found.prepared is not None:
        if asked == "bbm92":
            raise InputError(f"{found.prepared.path}: a record of prepared states is for bb84, not for bbm92")
        return "bb84"
    if asked == "bb84" and len(found.recordings) == 2:
        raise InputError("bb84 takes Alice's record of prepared states and Bob's recording, not two recordings")
    if asked is not None:
        return asked
    return "bbm92" if len(found.recordings) == 2 or found.peaks else None


# --- parties ---------------------------------------------------------------------------------------------------------


def _receiver(party: Literal["alice", "bob"], found: Survey, given: _Given) -> Iterator[str]:
    """The section of a party that detects."""
    side = 0 if party == "alice" or len(found.recordings) == 1 else 1
    recording = found.recordings[side]
    yield from _files(party, recording, given)
    yield ""
    roles: dict[int, str] = {}
    if found.proposal is not None:
        yield MAP_NOTE
        own, other = found.proposal.alice, found.proposal.bob
        delays_ps = found.proposal.alice_delays_ps
        if party == "bob":
            own, other, delays_ps = other, own, found.proposal.bob_delays_ps
        if len(found.recordings) == 1:
            roles |= dict.fromkeys(other.values(), "ignore")
        roles |= {channel: role for role, channel in own.items()}
    yield from _channels(party, recording.channels, roles)
    if found.proposal is not None:
        yield ""
        yield "# Delays are found by the program. To fix them (ps, as seen here):"
        yield f"# [{party}.delays_ps]"
        for role, channel in own.items():
            yield f"# {channel} = {delays_ps[role]:.1f}"


def _bob(found: Survey, given: _Given) -> Iterator[str]:
    if not found.recordings:
        yield "[bob]"
        yield '# FILL IN: files = ["bob.ptu"]'
        return
    yield from _files("bob", found.recordings[0], given)
    yield ""
    yield from _channels("bob", found.recordings[0].channels, {})


def _files(party: str, recording: RecordingSurvey, given: _Given) -> Iterator[str]:
    yield f"[{party}]"
    yield f"files = [{_quoted(glob.escape(_relative(recording.path, given.folder)))}]"
    yield f"format = {_quoted(recording.format)}"
    if given.tick_as is not None:
        yield f"tick_as = {given.tick_as}  # attoseconds per tick"
    if given.options:
        pairs = ", ".join(f"{name} = {json.dumps(value)}" for name, value in given.options.items())
        yield f"options = {{ {pairs} }}"


def _channels(party: str, channels: list[Channel], roles: dict[int, str]) -> Iterator[str]:
    """The channel map; channels without a role are left open unless all detectors have one."""
    yield f"[{party}.channels]"
    complete = {"Z0", "Z1", "X0", "X1"} <= set(roles.values())
    if not complete:
        yield "# FILL IN: a role for each channel: Z0, Z1, X0, X1 (basis and bit), sync, marker or ignore"
    for channel in channels:
        role = roles.get(channel.channel)
        if role is None and channel.period_ps is not None:
            yield f'{channel.channel} = "sync"  # CHECK: {remark(channel)}'
        elif role is None and complete:
            yield f'{channel.channel} = "ignore"  # CHECK: no correlation seen, {remark(channel)}'
        elif role is None:
            yield f'# {channel.channel} = ""  # {remark(channel)}'
        else:
            yield f'{channel.channel} = "{role}"  # {remark(channel)}'


def _alice_record(record: PreparedSurvey | None, given: _Given) -> Iterator[str]:
    yield "[alice]"
    if record is None:
        yield '# FILL IN: record = "alice.h5"  # her record of prepared states (docs/formats/prepared.md)'
    else:
        yield f"record = {_quoted(_relative(record.path, given.folder))}"


def _alice_open() -> Iterator[str]:
    yield "# FILL IN: what Alice has. bb84: her record of prepared states; bbm92: files and channels, as for Bob"
    yield "# [alice]"


# --- public parameters -----------------------------------------------------------------------------------------------


def _source(record: PreparedSurvey | None) -> Iterator[str]:
    if record is None:
        yield "# FILL IN: the source, as in Alice's record"
        yield "# [source]"
        yield "# pulse_period_as = 1600000000         # attoseconds from pulse to pulse"
        yield "# intensities = [0.4, 0.1, 0.0]        # mean photon numbers, signal first"
        yield "# p_intensity = [0.8, 0.1, 0.1]"
        yield "# p_z_alice = 0.5"
    else:
        yield "# From Alice's record; both must agree."
        yield "[source]"
        yield f"pulse_period_as = {record.pulse_period_as}  # {1e18 / record.pulse_period_as:,.0f} pulses per second"
        yield f"intensities = {json.dumps(record.intensities)}"
        yield f"p_intensity = {json.dumps(record.p_intensity)}"
        yield f"p_z_alice = {json.dumps(record.p_z)}"
    yield "# p_z_bob = 0.5              # CHECK: share of the light that goes to Bob's Z detectors"
    yield "# phase_randomised = false   # true only if every pulse has a random phase: without it, no composable claim"
    yield "# intensities_declared = false   # true only if mean photon numbers are calibrated, whatever came before"
    yield '# receiver = "passive"       # or "active" (basis chosen by a modulator)'


def _string(record: PreparedSurvey | None) -> list[list[str]]:
    if record is None or record.sync_seed is None:
        return []
    return [
        [
            "# The public synchronisation string, from Alice's record.",
            "[sync_string]",
            f'seed = "{record.sync_seed}"',
            f"length = {record.sync_length}",
            f"frame = {record.sync_frame}",
        ]
    ]


def _pulsed_timing(found: Survey) -> Iterator[str]:
    record = found.prepared
    sync = found.recordings[0].sync if found.recordings else []
    yield "[timing]"
    if sync and sync[0].period_ps is not None and record is not None:
        pulses = sync[0].period_ps * AS_PER_PS / record.pulse_period_as
        yield 'method = "sync"'
        yield f"sync_period_pulses = {max(round(pulses), 1)}  # CHECK: measured {pulses:.6f} pulse periods"
    elif sync:
        yield 'method = "sync"'
        yield "# FILL IN: sync_period_pulses = 6250  # pulses from one sync tag to the next"
    elif record is not None and record.sync_seed is not None:
        yield 'method = "string"'
        yield "# offset_hint_s = 0.0        # Bob's clock when pulse 0 arrived, as well as it is known"
    else:
        yield f"# FILL IN: {METHODS}"
    if record is not None:
        gate_ps = min(PAIRS.gate_ps, 0.5 * record.pulse_period_as / AS_PER_PS)
        yield f"gate_ps = {gate_ps:.1f}  # CHECK: full width of the gate"
    yield "# dead_time_ns = 0.0         # blanking of all detectors after any click"


def _pair_timing(found: Survey) -> Iterator[str]:
    yield "[timing]"
    yield 'method = "pairs"'
    widths = [peak.width_ps for peak in found.peaks if not peak.echo]
    seen = f", peaks are {min(widths):.0f} to {max(widths):.0f} ps wide" if widths else ""
    yield f"gate_ps = {PAIRS.gate_ps}  # coincidence window, full width{seen}"
    yield "# dead_time_ns = 0.0         # blanking of all detectors after any click: without it, no composable claim"
    if found.clock is not None and abs(found.clock.offset_s) > PAIRS.search_range_s / 10:
        yield f"offset_hint_s = {found.clock.offset_s:.6f}  # Bob's clock less Alice's, as seen here"
    else:
        yield f"# offset_hint_s = 0.0       # Bob's clock less Alice's, to within {PAIRS.search_range_s:g} s"


def _defaults(name: str, section: msgspec.Struct) -> Iterator[str]:
    yield f"[{name}]"
    yield from _keys("", section)


def _keys(prefix: str, section: msgspec.Struct) -> Iterator[str]:
    """Every key with its default as a comment, those of sections within by dotted names."""
    for field in section.__struct_fields__:
        value = getattr(section, field)
        if isinstance(value, msgspec.Struct):
            yield from _keys(f"{prefix}{field}.", value)
        elif value is not None:
            yield f"# {prefix}{field} = {json.dumps(value)}"


def _relative(path: str, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _quoted(text: str) -> str:
    """A TOML string; InputError for a name that is not text."""
    if not clean(text) == text:
        raise InputError(f"{clean(text)}: the name holds characters that do not belong in a text file; rename it")
    return json.dumps(text, ensure_ascii=False)
