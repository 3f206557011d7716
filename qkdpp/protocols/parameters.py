"""Public parameters of a link: what both parties must agree on before the first message.

They are the sections ``source``, ``sync_string``, ``timing``, ``detectors``,
``security`` and ``correction`` of ``run.toml``. Each party sends the digest of its own in the
first message of a block; unequal digests end the block.
"""

from __future__ import annotations

import hashlib
import math
from typing import Literal

import msgspec

from qkdpp.core.errors import ConfigError
from qkdpp.core.ledger import Rule
from qkdpp.core.sync_string import SyncString
from qkdpp.estimation import Efficiencies, Security, Split
from qkdpp.estimation.bb84 import statements_bb84
from qkdpp.estimation.bbm92 import statements_bbm92
from qkdpp.estimation.claims import correction
from qkdpp.estimation.decoy import choose_levels


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: frozen, by name, no unknown keys."""


MAX_HOPS = 10_000


def _finite(section: _Section, name: str) -> None:
    """Raises ConfigError where a number is NaN or infinite."""
    for field in section.__struct_fields__:
        value = getattr(section, field)
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise ConfigError(f"{name}.{field} must be a finite number")


class Source(_Section, frozen=True, kw_only=True):
    """Alice's source and Bob's receiver (prepare-and-measure).

    ``phase_randomised`` and ``intensities_declared`` are the operator's word that pulses carry independent random
    phases and that mean photon numbers are calibrated and do not depend on earlier pulses; without it the claim is
    lower.
    """

    pulse_period_as: int
    intensities: list[float]
    p_intensity: list[float]
    p_z_alice: float = 0.5
    p_z_bob: float = 0.5
    phase_randomised: bool = False
    intensities_declared: bool = False
    receiver: Literal["active", "passive"] = "passive"

    def check(self) -> None:
        """Raises ConfigError unless the values describe a decoy-state source."""
        _finite(self, "source")
        if self.pulse_period_as <= 0:
            raise ConfigError("source.pulse_period_as must be a positive number of attoseconds")
        if len(self.intensities) != len(self.p_intensity) or not 2 <= len(self.intensities) <= 8:
            raise ConfigError("source.intensities and source.p_intensity need the same 2 to 8 entries, signal first")
        if (
            any(b >= a for a, b in zip(self.intensities, self.intensities[1:], strict=False))
            or self.intensities[-1] < 0
        ):
            raise ConfigError("source.intensities must fall strictly, signal first, and not be negative")
        if min(self.p_intensity) <= 0 or not math.isclose(sum(self.p_intensity), 1.0, abs_tol=1e-9):
            raise ConfigError("source.p_intensity must be positive and add up to 1")
        choose_levels(tuple(self.intensities), tuple(self.p_intensity))
        for name in ("p_z_alice", "p_z_bob"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ConfigError(f"source.{name} must lie between 0 and 1")


class SyncStringSection(_Section, frozen=True, kw_only=True):
    """The public synchronisation string (``docs/formats/prepared.md``)."""

    seed: str
    length: int
    frame: int

    def build(self) -> SyncString:
        """The string itself."""
        try:
            seed = bytes.fromhex(self.seed)
            if len(seed) != 32:
                raise ValueError("it must be 64 hexadecimal digits")
            return SyncString(seed=seed, length=self.length, frame=self.frame)
        except ValueError as error:
            raise ConfigError(f"sync_string: {error}") from error


class Timing(_Section, frozen=True, kw_only=True):
    """Clock recovery and gating; without ``offset_range_s`` it is 1 s for pairs, 10 ms for pulsed links.

    ``squashing_map`` cites the treatment of clicks in both bases of a passive receiver; without one they lower the
    claim.
    """

    method: Literal["sync", "string", "pairs"] = "pairs"
    sync_period_pulses: int = 0
    offset_hint_s: float = 0.0
    offset_range_s: float | None = None
    gate_ps: float = 1000.0
    dead_time_ns: float = 0.0
    double_click: Literal["random", "first"] = "random"
    squashing_map: str = ""

    @property
    def search_range_s(self) -> float:
        """How far the offset hint may be wrong, either way."""
        if self.offset_range_s is not None:
            return self.offset_range_s
        return 1.0 if self.method == "pairs" else 0.01

    def check(self) -> None:
        """Raises ConfigError on values that cannot work."""
        _finite(self, "timing")
        if self.gate_ps <= 0:
            raise ConfigError("timing.gate_ps must be positive")
        if self.dead_time_ns < 0 or self.search_range_s <= 0:
            raise ConfigError("timing.dead_time_ns must not be negative, timing.offset_range_s must be positive")
        if self.method == "sync" and self.sync_period_pulses <= 0:
            raise ConfigError('timing.method = "sync" needs timing.sync_period_pulses (pulses between sync tags)')


class Detectors(_Section, frozen=True, kw_only=True):
    """Calibrated efficiencies of the detectors Z0, Z1, X0, X1 of each party; the key length is corrected for them.

    The operator's word that they hold within ``tolerance`` (relative) for all light that reaches them.
    """

    alice: list[float] | None = None
    bob: list[float] | None = None
    tolerance: float = 0.02

    def efficiencies(self) -> dict[str, Efficiencies]:
        """What is declared, by party; ConfigError on values that are no efficiencies."""
        found: dict[str, Efficiencies] = {}
        for party, values in (("alice", self.alice), ("bob", self.bob)):
            if values is None:
                continue
            if len(values) != 4:
                raise ConfigError(f"detectors.{party} needs four efficiencies: Z0, Z1, X0, X1")
            found[party] = Efficiencies(values=(values[0], values[1], values[2], values[3]), tolerance=self.tolerance)
        return found


class SplitSection(_Section, frozen=True, kw_only=True):
    """How ``eps_sec`` is divided (profile V); chosen before the block, never from its counts."""

    smoothing: float = 0.25
    weights: dict[str, float] = {}


class SecuritySection(_Section, frozen=True, kw_only=True):
    """Security parameters of a block.

    ``hops`` is for the report alone: a relay chain of so many links like this one.
    """

    eps_sec: float = 1e-10
    eps_cor: float = 1e-15
    eps_auth: float = 1e-12
    profile: Literal["V", "L", "T"] = "V"
    rule: Rule = Rule.PUBLIC_ERRORS
    key_from: Literal["all", "signal"] = "all"
    disclose_signal: float = 0.0
    max_qber: float = 0.11
    drift: Literal["merge", "refuse"] = "merge"
    hops: int = 1
    split: SplitSection = SplitSection()

    def check(self) -> None:
        """Raises ConfigError on values outside their range."""
        _finite(self, "security")
        for name in ("eps_sec", "eps_cor", "eps_auth"):
            if not 1e-30 < getattr(self, name) < 1e-2:
                raise ConfigError(f"security.{name} must lie between 1e-30 and 1e-2")
        if not 0.0 <= self.disclose_signal < 1.0:
            raise ConfigError("security.disclose_signal is a fraction from 0 up to, not including, 1")
        if not 0.0 < self.max_qber <= 0.5:
            raise ConfigError("security.max_qber must lie between 0 and 0.5")
        if not 1 <= self.hops <= MAX_HOPS:
            raise ConfigError(f"security.hops is the number of links of a relay chain, 1 to {MAX_HOPS}")
        self.estimation()

    def estimation(self) -> Security:
        """This section in the words of ``qkdpp.estimation``; ConfigError on a split that is none."""
        return Security(
            eps_sec=self.eps_sec,
            eps_cor=self.eps_cor,
            eps_auth=self.eps_auth,
            profile=self.profile,
            rule=self.rule,
            key_from=self.key_from,
            disclosed_signal=self.disclose_signal,
            split=Split(smoothing=self.split.smoothing, weights=self.split.weights),
        )


class Correction(_Section, frozen=True, kw_only=True):
    """Error correction."""

    method: Literal["cascade", "hamming"] = "cascade"
    qber_hint: float | None = None

    def check(self) -> None:
        """Raises ConfigError on values outside their range."""
        if self.qber_hint is not None and not 0.0 < self.qber_hint < 0.5:
            raise ConfigError("correction.qber_hint must lie between 0 and 0.5")


class Parameters(_Section, frozen=True, kw_only=True):
    """Everything public that both parties must agree on."""

    protocol: Literal["bb84", "bbm92"]
    source: Source | None = None
    sync_string: SyncStringSection | None = None
    timing: Timing = Timing()
    detectors: Detectors = Detectors()
    security: SecuritySection = SecuritySection()
    correction: Correction = Correction()

    def check(self) -> None:
        """Raises ConfigError unless the sections fit the protocol and each other."""
        for section in (self.timing, self.security, self.correction):
            section.check()
        if self.protocol == "bb84":
            if self.source is None:
                raise ConfigError('protocol "bb84" needs a [source] section (pulse period, intensities)')
            self.source.check()
            if self.timing.method == "pairs":
                raise ConfigError('timing.method must be "sync" or "string" for bb84')
            if self.timing.method == "string" and self.sync_string is None:
                raise ConfigError('timing.method = "string" needs a [sync_string] section')
            if self.sync_string is not None:
                self.sync_string.build()
            if self.detectors.alice is not None:
                raise ConfigError("detectors.alice: in bb84 only Bob has detectors")
            intensities, p_intensity = tuple(self.source.intensities), tuple(self.source.p_intensity)
            statements_bb84(intensities, p_intensity, self.security.estimation(), receivers=self.receivers())
            return
        self._check_pairs()

    def _check_pairs(self) -> None:
        if self.timing.method != "pairs":
            raise ConfigError('timing.method must be "pairs" for bbm92')
        if self.timing.double_click != "random":
            raise ConfigError('timing.double_click must be "random" for bbm92')
        if self.security.profile == "T":
            raise ConfigError('security.profile = "T" is a formula of bb84; bbm92 has "V" and "L"')
        if self.security.profile == "L" and self.receivers():
            raise ConfigError('detectors: the bbm92 formula of security.profile = "L" has no correction; use "V"')
        statements_bbm92(self.security.estimation(), receivers=self.receivers())

    def receivers(self) -> tuple[Efficiencies, ...]:
        """The receivers whose declared efficiencies the key length is corrected for."""
        return correction(tuple(self.detectors.efficiencies().values()))

    def digest(self) -> bytes:
        """SHA-256 of the parameters as canonical JSON."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).digest()
