"""Monitors: figures of instruments and blocks in, alarms out; no clock, no I/O.

A *security* alarm says that somebody may be in the line: key output stops at
once and the blocks of its look-back are discarded (Chen et al. 2021, Extended
Data Table 1: blinding, time shift). A *critical* one says that no key can be
made, a *warning* that it soon may be so. Each says what a person must do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkdpp.core.abort import AbortReason

DETECTORS = ("Z0", "Z1", "X0", "X1")
SIGMA = 6.0
"""A figure of counts must also stand out of its statistical noise by so many standard deviations."""


class Level(StrEnum):
    """How grave an alarm is."""

    WARNING = "warning"
    CRITICAL = "critical"
    SECURITY = "security"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One finding.

    Attributes:
        name: short and fixed, for metrics and logs.
        level: how grave it is.
        message: what was found.
        remedy: what a person must do.
    """

    name: str
    level: Level
    message: str
    remedy: str


class AlarmSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Thresholds.

    Attributes:
        current_a: detector current that means bright light (Chen et al. 2021: 20 uA).
        delay_ps: largest move of an optimal delay (ibid.: 30 ps).
        imbalance: largest ``|n0 - n1| / (n0 + n1)`` of the two detectors of a basis, efficiencies taken off.
        qber_warning: error rate of a basis and intensity from which the polarisation should be looked at.
        double_clicks: largest double clicks over those that independent clicks would give.
        rate_low_hz: fewest detections per second.
        rate_high_hz: most detections per second; 0: no limit.
        dark_hz: most dark counts per second of a detector, in calibrations and between pulses; 0: no limit.
        lost_share: share of the time in which tags were lost.
        lost_locks: blocks in a row without a lock.
        pool_tags: fewest tags left in the authentication pool.
        look_back_s: blocks that ended so long before a security alarm are discarded, and rest as long before release.
    """

    current_a: float = 20e-6
    delay_ps: float = 30.0
    imbalance: float = 0.1
    qber_warning: float = 0.04
    double_clicks: float = 5.0
    rate_low_hz: float = 1.0
    rate_high_hz: float = 0.0
    dark_hz: float = 0.0
    lost_share: float = 0.1
    lost_locks: int = 2
    pool_tags: int = 100
    look_back_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockFigures:
    """What one block shows.

    Attributes:
        seconds: length of the block.
        detections: int64[4] by detector (pairs: clicks).
        efficiency: float64[4], relative efficiencies of the detectors.
        double_clicks: slots with several clicks; ``doubles_due``: how many independent clicks give.
        lost_share: share of the time without tags because they were lost.
        tested: int64[K, 2], detections of equal bases whose errors are known, by intensity and basis.
        wrong: int64[K, 2], errors among them.
        noise: float64[K, 2], how many of ``tested`` are due to dark counts and stray light.
        dark_hz: clicks per second of every detector in the half of a slot that is farthest from the pulses, for the
            whole slot; empty where nothing tells them apart (pairs).
    """

    seconds: float
    detections: NDArray[np.int64]
    efficiency: NDArray[np.float64]
    double_clicks: int
    doubles_due: float
    lost_share: float
    tested: NDArray[np.int64]
    wrong: NDArray[np.int64]
    noise: NDArray[np.float64]
    dark_hz: tuple[float, ...] = ()


def judge_block(block: BlockFigures, settings: AlarmSettings) -> list[Alarm]:
    """Alarms of one block."""
    found = [
        *_imbalance(block, settings),
        *_rates(block, settings),
        *_doubles(block, settings),
        *_errors(block, settings),
        *judge_darks(block.dark_hz, settings),
    ]
    if block.lost_share > settings.lost_share:
        found.append(data_loss(f"tags were lost during {block.lost_share:.1%} of a block"))
    return found


def judge_abort(reason: AbortReason) -> list[Alarm]:
    """Alarms of a block that ended without a key."""
    if reason is AbortReason.AUTHENTICATION_FAILED:
        return [authentication("check that both sides hold the same pool")]
    if reason is AbortReason.QBER_TOO_HIGH:
        return [
            Alarm(
                name="qber_high",
                level=Level.CRITICAL,
                message="the error rate of a block is above the limit",
                remedy="let the polarisation feedback run; if it succeeds and errors stay, treat it as an attack",
            )
        ]
    return []


def shown_over(*, key: bool, judged: bool) -> tuple[str, ...]:
    """Alarms that a block shows to be over: by its ``key``, at both nodes, and where it was ``judged``."""
    by_key = ("qber_high",) if key else ()
    return (*by_key, *_BLOCK_ALARMS) if judged else by_key


_BLOCK_ALARMS = ("rate_low", "rate_high", "double_clicks", "qber_warning", "data_loss", "dark_counts")


def _imbalance(block: BlockFigures, settings: AlarmSettings) -> list[Alarm]:
    found = []
    for basis in (0, 1):
        pair = block.detections[2 * basis : 2 * basis + 2] / block.efficiency[2 * basis : 2 * basis + 2]
        total = float(pair.sum())
        if total <= 0.0:
            continue
        off = abs(float(pair[0] - pair[1])) / total
        noise = SIGMA / max(np.sqrt(float(block.detections[2 * basis : 2 * basis + 2].sum())), 1.0)
        if off > settings.imbalance + noise:
            found.append(
                Alarm(
                    name="unequal_detectors",
                    level=Level.SECURITY,
                    message=f"detectors of basis {'ZX'[basis]} differ by {off:.1%} (limit {settings.imbalance:.1%})",
                    remedy="scan the delays again; if detectors and source are sound, suspect a time-shift attack",
                )
            )
    return found


def _rates(block: BlockFigures, settings: AlarmSettings) -> list[Alarm]:
    rate = float(block.detections.sum()) / block.seconds
    if rate < settings.rate_low_hz:
        return [
            Alarm(
                name="rate_low",
                level=Level.CRITICAL,
                message=f"{rate:.3g} detections per second (at least {settings.rate_low_hz:g})",
                remedy="check the fibre, the attenuator and the bias of the detectors",
            )
        ]
    if settings.rate_high_hz and rate > settings.rate_high_hz:
        return [
            Alarm(
                name="rate_high",
                level=Level.WARNING,
                message=f"{rate:.3g} detections per second (at most {settings.rate_high_hz:g})",
                remedy="look for stray light; check the attenuator and the thresholds of the tagger",
            )
        ]
    return []


def _doubles(block: BlockFigures, settings: AlarmSettings) -> list[Alarm]:
    """Double clicks beyond what independent detectors give."""
    expected = block.doubles_due
    if block.double_clicks <= settings.double_clicks * expected + SIGMA * np.sqrt(expected + 1) + SIGMA**2:
        return []
    return [
        Alarm(
            name="double_clicks",
            level=Level.WARNING,
            message=f"{block.double_clicks} double clicks where {expected:.0f} are due",
            remedy="look for crosstalk and echoes of the electronics; if there are none, suspect bright pulses",
        )
    ]


def _errors(block: BlockFigures, settings: AlarmSettings) -> list[Alarm]:
    """Early warning: the first cell (intensity, basis) whose error rate is above the warning beyond doubt.

    Light may err at the rate of the warning, noise errs in half of its clicks: dim intensities consist of noise.
    """
    limit = settings.qber_warning
    for intensity, basis in np.ndindex(*block.tested.shape):
        n, m = int(block.tested[intensity, basis]), int(block.wrong[intensity, basis])
        noise = min(float(block.noise[intensity, basis]), n)
        due = limit * (n - noise) + noise / 2
        if m > due + SIGMA * np.sqrt(due) + SIGMA:
            states = f"states of intensity {intensity}" if intensity else "signal states"
            return [
                Alarm(
                    name="qber_warning",
                    level=Level.WARNING,
                    message=f"{states} err in {m / n:.2%} in basis {'ZX'[basis]} (warning at {due / n:.2%})",
                    remedy="the polarisation has drifted: the feedback will run; if it fails, look at the source",
                )
            ]
    return []


def data_loss(message: str) -> Alarm:
    """Tags or whole blocks were lost."""
    return Alarm(
        name="data_loss",
        level=Level.WARNING,
        message=message,
        remedy="lower the rate, or give the tagger's computer more room; what was lost is not used",
    )


def authentication(remedy: str) -> Alarm:
    """A message of the peer was not authentic; ``remedy`` where everything is sound."""
    return Alarm(
        name="authentication_failed",
        level=Level.SECURITY,
        message="a message of the peer carried a wrong tag",
        remedy=f"{remedy}; if they do, somebody changes messages on the line",
    )


def judge_currents(current_a: Mapping[str, float], settings: AlarmSettings) -> list[Alarm]:
    """Alarms of detector currents, by name of the detector (blinding)."""
    return [
        Alarm(
            name="detector_current",
            level=Level.SECURITY,
            message=f"{name} draws {value * 1e6:.3g} uA (limit {settings.current_a * 1e6:g} uA): bright light",
            remedy="disconnect the fibre and look for a light source in the line; the blocks before are discarded",
        )
        for name, value in current_a.items()
        if not abs(value) <= settings.current_a
    ]


def judge_delays(before_ps: Sequence[float], now_ps: Sequence[float], settings: AlarmSettings) -> list[Alarm]:
    """Alarms of optimal delays that moved between two scans, by detector code."""
    moved = [
        f"{name} by {now - before:+.0f} ps"
        for name, before, now in zip(DETECTORS, before_ps, now_ps, strict=True)
        if abs(now - before) > settings.delay_ps
    ]
    if not moved:
        return []
    return [
        Alarm(
            name="delay_moved",
            level=Level.SECURITY,
            message=f"the optimal delay moved: {', '.join(moved)} (limit {settings.delay_ps:g} ps)",
            remedy="if nothing was changed at source or receiver, suspect a time-shift attack",
        )
    ]


def judge_darks(dark_hz: Iterable[float], settings: AlarmSettings) -> list[Alarm]:
    """Alarms of dark counts by detector code, measured while the sender was dark, or between its pulses."""
    high = [
        f"{name} {hz:.0f}"
        for name, hz in zip(DETECTORS, dark_hz, strict=False)
        if settings.dark_hz and hz > settings.dark_hz
    ]
    if not high:
        return []
    return [
        Alarm(
            name="dark_counts",
            level=Level.WARNING,
            message=f"dark counts per second: {', '.join(high)} (limit {settings.dark_hz:g})",
            remedy="look for stray light; check temperature and bias of the detectors",
        )
    ]


def no_current(error: str) -> Alarm:
    """A current meter does not answer."""
    return Alarm(
        name="no_current",
        level=Level.CRITICAL,
        message=f"detector currents are unknown: {error}",
        remedy="bring the meter back, it is connected again by itself; until then no block begins, no key is released",
    )


def pool_from_discarded(blocks: Sequence[int]) -> Alarm:
    """Key of these blocks, since discarded, has refilled the authentication pool."""
    return Alarm(
        name="pool_from_discarded",
        level=Level.CRITICAL,
        message=f"the authentication pool holds key of discarded blocks ({', '.join(map(str, blocks))})",
        remedy="make new pools for both parties before the nodes are started again",
    )


def judge_state(*, lost_locks: int, pool_tags: int, settings: AlarmSettings) -> list[Alarm]:
    """Alarms of the node itself."""
    found = []
    if lost_locks >= settings.lost_locks:
        found.append(
            Alarm(
                name="no_lock",
                level=Level.CRITICAL,
                message=f"{lost_locks} blocks in a row without a clock",
                remedy="the synchronisation calibration will run; check the sync channel",
            )
        )
    if pool_tags < settings.pool_tags:
        found.append(
            Alarm(
                name="pool_low",
                level=Level.CRITICAL,
                message=f"{pool_tags} tags are left in the authentication pool (warning at {settings.pool_tags})",
                remedy="let the link refill it, or bring fresh pools to both sides; an empty pool ends the link",
            )
        )
    return found


@dataclass(slots=True, kw_only=True)
class Board:
    """Alarms that stand: those of security until a person has confirmed them, others until they are not seen again."""

    standing: dict[str, Alarm] = field(default_factory=dict)

    def see(self, found: Iterable[Alarm], *, cleared: Iterable[str] = ()) -> list[Alarm]:
        """Takes findings; ``cleared`` names what was looked at and is fine. Returns alarms that are new."""
        for name in cleared:
            if name in self.standing and self.standing[name].level is not Level.SECURITY:
                del self.standing[name]
        new = []
        for alarm in found:
            if alarm.name not in self.standing:
                new.append(alarm)
            self.standing[alarm.name] = alarm
        return new

    def confirm(self, name: str) -> None:
        """A person has dealt with it."""
        self.standing.pop(name, None)

    @property
    def key_stopped(self) -> bool:
        """Whether a security alarm stands: no key leaves."""
        return any(alarm.level is Level.SECURITY for alarm in self.standing.values())
