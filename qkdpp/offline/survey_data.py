"""What ``qkdpp init`` found in recordings; as JSON with ``--json`` (``docs/formats/run.md``). No key bit is in it."""

from __future__ import annotations

import msgspec


class _Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all parts of a survey."""


class Channel(_Item, frozen=True, kw_only=True):
    """One channel: its rate and, if it ticks regularly, period, single-shot jitter (rms) and periods without a tag."""

    channel: int
    tags: int
    rate_hz: float
    period_ps: float | None = None
    jitter_ps: float | None = None
    missing: int | None = None


class RecordingSurvey(_Item, frozen=True, kw_only=True):
    """One recording; ``complete`` says that it was read to its end."""

    path: str
    format: str
    tick_as: int
    tags: int
    duration_s: float
    complete: bool
    channels: list[Channel]
    warnings: list[str]

    @property
    def sync(self) -> list[Channel]:
        """Channels that tick regularly."""
        return [c for c in self.channels if c.period_ps is not None]


class PreparedSurvey(_Item, frozen=True, kw_only=True):
    """Alice's record of prepared states, its header only. The string is public."""

    path: str
    mode: str
    n_pulses: int
    pulse_period_as: int
    intensities: list[float]
    p_intensity: list[float]
    p_z: float
    sync_seed: str | None = None
    sync_length: int | None = None
    sync_frame: int | None = None


class PeakSurvey(_Item, frozen=True, kw_only=True):
    """A correlation peak: ``delay_ps`` is second channel minus first, ``width_ps`` full at half maximum.

    ``first_recording`` and ``second_recording`` count the recordings from 0. ``echo`` marks a peak beside the one that
    fits all channels.
    """

    first_recording: int
    first: int
    second_recording: int
    second: int
    delay_ps: float
    width_ps: float
    significance: float
    coincidences: float
    echo: bool = False


class ClockSurvey(_Item, frozen=True, kw_only=True):
    """Clock of the second recording against the first.

    Its times are later by ``offset_s`` at the first tag of the first recording, and run faster by ``rate_ppm``. The
    delays of the peaks are what is left.
    """

    offset_s: float
    rate_ppm: float
    significance: float


class Proposal(_Item, frozen=True, kw_only=True):
    """Instrument channels of Z0, Z1, X0, X1 by party, their delays, and what the coincidences then look like."""

    alice: dict[str, int]
    bob: dict[str, int]
    alice_delays_ps: dict[str, float]
    bob_delays_ps: dict[str, float]
    coincidences: list[list[float]]
    qber_z: float
    qber_x: float


class Survey(_Item, frozen=True, kw_only=True):
    """All findings; null where there is none."""

    recordings: list[RecordingSurvey]
    prepared: PreparedSurvey | None
    clock: ClockSurvey | None
    peaks: list[PeakSurvey]
    proposal: Proposal | None
