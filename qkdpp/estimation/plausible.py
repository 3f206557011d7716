"""Whether counts fit the pulses that were sent: no yield may be above one.

These checks only ever end a block; they are not part of a secrecy proof, and
so are not registered. A block of an honest source fails one with probability
below :data:`FALSE_ALARM` each.
"""

from __future__ import annotations

import math

from qkdpp.estimation.assemble import refuse
from qkdpp.estimation.counts import Counts
from qkdpp.estimation.decoy import Levels, Photons

FALSE_ALARM = 1e-10


def sent_contradictions(counts: Counts, levels: Levels, basis: int, photons: Photons) -> tuple[str, ...]:
    """What in one basis exceeds the pulses sent; nothing if ``counts.sent`` is not known."""
    if counts.sent is None:
        return ()
    name, found = "ZX"[basis], []
    sent = counts.sent[:, basis].sum(axis=1)
    if bool((counts.n[basis] > sent).any()):
        found.append(f"more detections than pulses sent in basis {name}")
    lower = (photons.vacuum_lower, photons.single_lower)
    for label, tau, detected in zip(("vacuum", "single-photon"), levels.tau, lower, strict=True):
        if detected > _at_most(float(sent.sum()) * tau):
            found.append(f"{label} yield above one in basis {name}")
    return tuple(found)


def refuse_contradictions(counts: Counts, levels: Levels, found: tuple[str, ...], key: Photons, test: Photons) -> None:
    """Abort(IMPLAUSIBLE_COUNTS) if the bounds ``found`` contradictions, or the pulses sent show one in either basis."""
    for basis, photons in enumerate((key, test)):
        found += sent_contradictions(counts, levels, basis, photons)
    refuse(found, counts.intensities, counts.n, counts.m)


def _at_most(mean: float) -> float:
    """A count of this mean exceeds the result with probability below :data:`FALSE_ALARM` (Yin et al. 2020 form)."""
    b = -math.log(FALSE_ALARM)
    return mean + b / 2 + math.sqrt(2 * b * mean + b * b / 4)
