"""The end that all key lengths share: costs are charged, counts that no channel gives refused, the answer put together.

Assumes terms that rest on registered statements. Guarantees that the length is the sum of the terms, rounded down,
and never negative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.errors import InputError
from qkdpp.estimation.scaling import detections_needed
from qkdpp.estimation.security import Bound, KeyLength, Profile, Security


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What is charged whatever the statistics say, in bits.

    Attributes:
        leak_bits: error correction, under the accounting rule.
        verification_bits: all verification tags and outcomes.
        dropped_bits: key bits of frames that were given up.
        keyed: detections in the key basis.

    Raises:
        InputError: negative numbers, or more dropped than keyed.
    """

    leak_bits: int
    verification_bits: int
    dropped_bits: int
    keyed: int

    def __post_init__(self) -> None:
        if min(self.leak_bits, self.verification_bits, self.dropped_bits) < 0:
            raise InputError("leak, verification and dropped bits are counts: none may be negative")
        if self.dropped_bits > self.keyed:
            raise InputError("counts: more bits dropped than were detected in the key basis")

    def terms(self) -> dict[str, float]:
        """As they enter the length."""
        return {
            "error correction": -float(self.leak_bits),
            "verification": -float(self.verification_bits),
            "dropped frames": -float(self.dropped_bits),
        }

    @property
    def growing(self) -> int:
        """Those that grow with the block: a tag stays as it is."""
        return self.leak_bits + self.dropped_bits


def assembled(
    statistics: Mapping[str, float],
    costs: Costs,
    *,
    unlimited: float,
    at_scale: Callable[[float], float],
    detections: int,
    phase_error_upper: float,
    bounds: tuple[Bound, ...],
    security: Security,
    profile: Profile,
    formula: str,
    notes: tuple[str, ...],
    foresee: bool = True,
) -> KeyLength:
    """The length from its statistical terms, of which the first is the number of keyed bits that count.

    Args:
        statistics: terms that do not depend on the costs.
        costs: what is charged besides.
        unlimited: sum of the terms with every count taken for its mean.
        at_scale: sum of the terms with all counts multiplied by a factor.
        detections: those with equal bases of the block at hand.
        phase_error_upper: of the keyed single photons.
        bounds: every statement used.
        security: parameters fixed before the block.
        profile: length formula used.
        formula: its name and source.
        notes: what a reader of the figure must know.
        foresee: without a key, also find ``detections_needed``.
    """
    terms = {**statistics, **costs.terms()}
    value = sum(terms.values())
    left, needed = unlimited - costs.growing, None
    if foresee and value < 1:
        needed = detections_needed(
            lambda factor: at_scale(factor) - costs.growing * factor - costs.verification_bits, detections, left
        )
    return KeyLength(
        secret_bits=max(0, math.floor(value)),
        value=value,
        single_photon_bits=int(next(iter(statistics.values()))),
        vacuum_bits=statistics.get("vacuum", 0.0),
        phase_error_upper=phase_error_upper,
        terms=terms,
        bounds=bounds,
        eps_sec=security.eps_sec,
        eps_cor=security.eps_cor,
        formula=formula,
        secret_bits_asymptotic=max(0, math.floor(left)),
        detections_needed=needed,
        profile=profile,
        rule=security.rule,
        notes=notes,
    )


def refuse(
    found: tuple[str, ...], intensities: tuple[float, ...], n: NDArray[np.int64], m: NDArray[np.int64] | None = None
) -> None:
    """Abort(IMPLAUSIBLE_COUNTS) with what was found, and the detections and errors, unless nothing was."""
    if found:
        errors = {} if m is None else {"errors": m.tolist()}
        raise Abort(
            AbortReason.IMPLAUSIBLE_COUNTS,
            contradictions=list(found),
            intensities=list(intensities),
            detections=n.tolist(),
            **errors,
        )
