"""Scenarios: what is simulated, as frozen structs (read and checked by ``scenario_file.py``).

Widths are standard deviations unless the name says otherwise; lists per detector have two entries (bit 0,
bit 1) for an active receiver and four (Z0, Z1, X0, X1) for a passive one.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

ROLES = ("Z0", "Z1", "X0", "X1")
Role: TypeAlias = Literal["Z0", "Z1", "X0", "X1"]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all parts of a scenario."""


class PulseSource(_Part, frozen=True, kw_only=True):
    """Alice's weak pulses."""

    pulse_period_as: int
    intensities: tuple[float, ...]
    p_intensity: tuple[float, ...]
    p_z: float = 0.5
    phase_randomised: bool = True


class PairSource(_Part, frozen=True, kw_only=True):
    """A continuously pumped source of polarisation-entangled pairs; equal bits are correct in both bases."""

    pair_rate_hz: float
    visibility_z: float = 1.0
    visibility_x: float = 1.0


class SyncString(_Part, frozen=True, kw_only=True):
    """The public string; its seed is drawn anew for each run."""

    length: int
    frame: int


class SyncChannel(_Part, frozen=True, kw_only=True):
    """A classical sync pulse for every ``period_pulses`` signal pulses, on a tagger channel of its own."""

    period_pulses: int
    jitter_ps: float = 0.0
    missing: float = 0.0


class SatellitePass(_Part, frozen=True, kw_only=True):
    """A circular orbit over a fixed ground station; the middle of the run is the closest approach.

    ``loss_db`` of the channel is the loss at the closest approach; it grows with the square of the range and with
    the air mass (``zenith_transmission`` per unit).
    """

    altitude_km: float
    closest_km: float
    zenith_transmission: float = 1.0


class Channel(_Part, frozen=True, kw_only=True):
    """From source to receiver. Misalignment is the error probability at no rotation of the polarisation."""

    loss_db: float = 0.0
    length_km: float = 0.0
    attenuation_db_per_km: float = 0.2
    misalignment: float = 0.0
    rotation_rad: float = 0.0
    rotation_rad_per_s: float = 0.0
    satellite: SatellitePass | None = None


class Echo(_Part, frozen=True, kw_only=True):
    """Electrical reflections: a second tag on the channel ``role`` after some of its tags."""

    role: Role
    probability: float
    delay_ns: float
    spread_ps: float = 0.0


class Receiver(_Part, frozen=True, kw_only=True):
    """Optics and detectors of one party.

    With ``gate_rate_hz`` the detectors are gated: dark counts and after-pulses fall into gates of full width
    ``gate_width_ps`` only, one of them centred on the arrival of each pulse. ``dark_rate_hz`` is per second of time
    either way; ``after_pulse`` is the mean number of after-pulses that each click causes directly. ``jitter_ps`` holds
    all that blurs arrival times, the length of the light pulse included.
    """

    kind: Literal["active", "passive"]
    p_z: float = 0.5
    loss_db: float = 0.0
    efficiency: tuple[float, ...]
    dark_rate_hz: tuple[float, ...]
    gate_rate_hz: float = 0.0
    gate_width_ps: float = 0.0
    dead_time_ns: float = 0.0
    after_pulse: float = 0.0
    after_pulse_decay_ns: float = 1000.0
    jitter_ps: float = 0.0
    delays_ps: tuple[float, ...] = ()
    echoes: tuple[Echo, ...] = ()

    @property
    def n_detectors(self) -> int:
        """Physical detectors."""
        return 2 if self.kind == "active" else 4


class Tagger(_Part, frozen=True, kw_only=True):
    """Time tagger and file format. ``channels`` are the ids of Z0, Z1, X0, X1; gaps are lost intervals."""

    format: str = "ptu"
    tick_as: int = 1_000_000
    dead_time_ns: float = 0.0
    channels: tuple[int, ...] = (1, 2, 3, 4)
    sync_channel: int = 5
    gaps_per_s: float = 0.0
    gap_ms: float = 1.0


class Clock(_Part, frozen=True, kw_only=True):
    """What a party's clock shows at true time t: ``offset + t (1 + rate) + drift t^2 / 2`` and a random walk.

    The offset is the reading when the recording's true time is 0; recording starts ``lead_ms`` before the first
    pulse arrives and ends as long after the last.
    """

    offset_s: float = 0.01
    rate_ppm: float = 0.0
    drift_ppm_per_s: float = 0.0
    walk_ps_per_sqrt_s: float = 0.0
    lead_ms: float = 1.0


class Party(_Part, frozen=True, kw_only=True):
    """One recording party."""

    receiver: Receiver
    tagger: Tagger = Tagger()
    clock: Clock = Clock()
    loss_db: float = 0.0
    length_km: float = 0.0


class Timing(_Part, frozen=True, kw_only=True):
    """Section ``timing`` of the run; the hint given there is off by ``hint_error_s``."""

    method: Literal["sync", "string", "pairs"]
    gate_ps: float
    dead_time_ns: float = 0.0
    offset_range_s: float = 0.01
    hint_error_s: float = 0.0


class Security(_Part, frozen=True, kw_only=True):
    """Section ``security`` of the run."""

    eps_sec: float = 1e-10
    eps_cor: float = 1e-15
    eps_auth: float = 1e-12
    profile: Literal["V", "L"] = "V"
    rule: Literal["public_errors", "both"] = "public_errors"
    key_from: Literal["all", "signal"] = "all"
    disclose_signal: float = 0.0


class Published(_Part, frozen=True, kw_only=True):
    """A figure from a publication, drawn as a point; ``source`` says where it stands."""

    loss_db: float
    secret_bps: float
    source: str


class Rate(_Part, frozen=True, kw_only=True):
    """What ``qkdpp rate`` needs beyond the link itself.

    ``f_ec`` is the leak of error correction over its Shannon limit, one party's parities; ``block_s`` the duration of
    a block (0: ``duration_s``); ``both_bases`` keys each basis and tests it with the other; ``loss_db`` the range to
    draw; ``hops`` the links of a relay chain, whose failure probabilities add.
    """

    f_ec: float = 1.16
    block_s: float = 0.0
    both_bases: bool = False
    loss_db: tuple[float, float] = (0.0, 40.0)
    hops: int = 1
    published: tuple[Published, ...] = ()


class Scenario(_Part, frozen=True, kw_only=True):
    """Everything about a simulated run except its seed."""

    title: str
    protocol: Literal["bb84", "bbm92"]
    duration_s: float
    source: PulseSource | None = None
    pairs: PairSource | None = None
    sync_string: SyncString | None = None
    sync: SyncChannel | None = None
    channel: Channel = Channel()
    alice: Party | None = None
    bob: Party
    timing: Timing
    security: Security = Security()
    correction: Literal["cascade", "hamming"] = "cascade"
    rate: Rate = Rate()
