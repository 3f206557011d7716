"""What may be chosen about a link: its free parameters by name, and coordinates in which no choice is impossible.

Decoy BB84 with one or two decoys: the two brighter intensities (the weakest stays as the scenario has it), the
probabilities of the intensities, and the share of basis Z at Alice and at Bob (passive receiver: the splitting ratio).
Pairs: pair rate, share of basis Z at both receivers, gate. A search moves in ``Space`` coordinates, any real numbers:
``mu1 > mu2 + mu3``, ``mu2 > mu3``, probabilities above zero that add up to one and shares between 0 and 1 hold by
construction.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import ConfigError
from qkdpp.scenarios.scenario import Party, Scenario

Floats = NDArray[np.float64]
Values = dict[str, float]

LEAST_SHARE = 1e-3
"""No probability is searched below this: a source has to make what the proof counts on."""
LEAST_MU = 1e-3
"""Least distance of an intensity from the next weaker one."""
MOST = {"mu_signal": 100.0, "pair_rate_hz": 1e12, "gate_ps": 1e6}
"""No search goes beyond, nor may a scenario."""
_STEEPEST = 12.0
"""Logit beyond which a share no longer moves."""

UNITS = {"mu_signal": "photons", "mu_decoy": "photons", "pair_rate_hz": "Hz", "gate_ps": "ps"}
"""Units of the parameters; all others are probabilities."""
_NAMES = ("signal", "decoy", "weakest")


def _order(plan: Scenario) -> dict[str, int]:
    """Positions of the intensities in the source's list by name, brightest first."""
    assert plan.source is not None
    mu = plan.source.intensities
    if len(mu) > 3:
        raise ConfigError(f"source.intensities: {len(mu)} of them; the search takes two or three (one or two decoys)")
    return dict(zip(_NAMES, sorted(range(len(mu)), key=lambda k: -mu[k]), strict=False))


def values_of(plan: Scenario) -> Values:
    """All parameters of a scenario by name, in the order in which they are reported.

    Raises:
        ConfigError: more than three intensities.
    """
    if plan.protocol == "bbm92":
        assert plan.pairs is not None
        assert plan.alice is not None
        return {
            "pair_rate_hz": plan.pairs.pair_rate_hz,
            "p_z_alice": plan.alice.receiver.p_z,
            "p_z_bob": plan.bob.receiver.p_z,
            "gate_ps": plan.timing.gate_ps,
        }
    assert plan.source is not None
    order = _order(plan)
    result = {f"mu_{name}": plan.source.intensities[order[name]] for name in _NAMES[:2]}
    result |= {f"p_{name}": plan.source.p_intensity[k] for name, k in order.items()}
    return result | {"p_z_alice": plan.source.p_z, "p_z_bob": plan.bob.receiver.p_z}


def with_values(plan: Scenario, values: Mapping[str, float]) -> Scenario:
    """The scenario with these parameters; every other value as it was."""
    swap = msgspec.structs.replace
    bob = _with_p_z(plan.bob, values["p_z_bob"])
    if plan.protocol == "bbm92":
        assert plan.pairs is not None
        assert plan.alice is not None
        return swap(
            plan,
            pairs=swap(plan.pairs, pair_rate_hz=values["pair_rate_hz"]),
            timing=swap(plan.timing, gate_ps=values["gate_ps"]),
            alice=_with_p_z(plan.alice, values["p_z_alice"]),
            bob=bob,
        )
    assert plan.source is not None
    mu, p = list(plan.source.intensities), list(plan.source.p_intensity)
    for name, k in _order(plan).items():
        mu[k] = values.get(f"mu_{name}", mu[k])
        p[k] = values[f"p_{name}"]
    source = swap(plan.source, intensities=tuple(mu), p_intensity=tuple(p), p_z=values["p_z_alice"])
    return swap(plan, source=source, bob=bob)


def _with_p_z(party: Party, p_z: float) -> Party:
    return msgspec.structs.replace(party, receiver=msgspec.structs.replace(party.receiver, p_z=p_z))


def probabilities(values: Mapping[str, float]) -> tuple[str, ...]:
    """Names of the probabilities that add up to one (none for pairs)."""
    return tuple(name for name in values if name.startswith("p_") and not name.startswith("p_z_"))


def weakest_mu(plan: Scenario) -> float:
    """Intensity that is never moved: the third; 0 where there is none."""
    mu = () if plan.source is None else plan.source.intensities
    return min(mu) if len(mu) == 3 else 0.0


def rounded(values: Mapping[str, float]) -> Values:
    """As one would set them: four digits, and probabilities that still add up to one."""
    result = {name: float(f"{v:.4g}") if name in UNITS else round(v, 4) for name, v in values.items()}
    shares = probabilities(values)
    if shares:
        largest = max(shares, key=lambda name: values[name])
        result[largest] = round(1.0 - sum(result[name] for name in shares if name != largest), 4)
    return result


def fixed_names(plan: Scenario, words: Collection[str]) -> frozenset[str]:
    """Parameters that ``words`` hold: names, or ``mu``, ``p_intensity``, ``p_z`` for several at once.

    Raises:
        ConfigError: a word that names nothing here, or nothing is left to choose.
    """
    values = values_of(plan)
    groups: dict[str, tuple[str, ...]] = {name: (name,) for name in values if name not in probabilities(values)}
    groups["p_z"] = ("p_z_alice", "p_z_bob")
    if plan.protocol == "bb84":
        groups |= {"mu": ("mu_signal", "mu_decoy"), "p_intensity": probabilities(values)}
    unknown = [word for word in words if word not in groups]
    if unknown:
        raise ConfigError(f"--fix {unknown[0]}: no such parameter here; there are {', '.join(sorted(groups))}")
    fixed = frozenset(name for word in words for name in groups[word])
    if not values.keys() - fixed:
        raise ConfigError("--fix: every parameter is held, nothing is left to choose")
    return fixed


class Space:
    """Coordinates for the free parameters of a scenario.

    Args:
        plan: what the fixed parameters and everything else are taken from.
        fixed: names from :func:`fixed_names`.

    Attributes:
        base: all parameters as the scenario has them.
        weakest: intensity that is never moved (0: vacuum, or there is none).
    """

    def __init__(self, plan: Scenario, fixed: frozenset[str]) -> None:
        self.base = values_of(plan)
        self.fixed = fixed
        self.weakest = weakest_mu(plan)
        self._shares = () if fixed.intersection(probabilities(self.base)) else probabilities(self.base)

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the parameters that are searched."""
        return tuple(name for name in self.base if name not in self.fixed)

    def coordinates(self, values: Mapping[str, float]) -> Floats:
        """Where ``values`` lie; what is out of reach is moved to the edge."""
        x = []
        for name in self.free:
            if name in self._shares:
                continue
            if name in ("mu_signal", "pair_rate_hz", "gate_ps"):
                x.append(math.log(max(values[name] - self._least(name), 1e-6)))
            elif name == "mu_decoy":
                low, high = self._decoy_range(values["mu_signal"])
                x.append(_logit((values[name] - low) / (high - low)))
            else:
                x.append(_logit((values[name] - LEAST_SHARE) / (1 - 2 * LEAST_SHARE)))
        if self._shares:
            room = np.maximum([values[name] - LEAST_SHARE for name in self._shares], 1e-6)
            x += np.log(room[1:] / room[0]).tolist()
        return np.array(x)

    def values(self, x: Floats) -> Values:
        """All parameters at these coordinates, the fixed ones included."""
        result, rest = dict(self.base), iter(x.tolist())
        for name in self.free:
            if name in self._shares:
                continue
            if name in ("mu_signal", "pair_rate_hz", "gate_ps"):
                result[name] = min(self._least(name) + math.exp(min(next(rest), 60.0)), MOST[name])
            elif name == "mu_decoy":
                low, high = self._decoy_range(result["mu_signal"])
                result[name] = low + (high - low) * _logistic(next(rest))
            else:
                result[name] = LEAST_SHARE + (1 - 2 * LEAST_SHARE) * _logistic(next(rest))
        if self._shares:
            result |= self._simplex(list(rest))
        return result

    def _simplex(self, x: list[float]) -> Values:
        weights = np.exp(np.clip([0.0, *x], -30.0, 30.0))
        shares = LEAST_SHARE + (1 - len(weights) * LEAST_SHARE) * weights / weights.sum()
        return dict(zip(self._shares, shares.tolist(), strict=True))

    def _least(self, name: str) -> float:
        if name != "mu_signal":
            return 0.0
        weaker = self.base["mu_decoy"] if "mu_decoy" in self.fixed else self.weakest + 2 * LEAST_MU
        return weaker + self.weakest + LEAST_MU

    def _decoy_range(self, mu_signal: float) -> tuple[float, float]:
        return self.weakest + LEAST_MU, mu_signal - self.weakest - LEAST_MU / 2


def at_limit(space: Space, values: Mapping[str, float]) -> tuple[str, ...]:
    """Free parameters that the search pushed to the edge of what it may choose."""
    edge = 1.5 * LEAST_SHARE
    dim = "mu_decoy" in space.free and values["mu_decoy"] < space.weakest + 1.5 * LEAST_MU
    shares = (name for name in space.free if name not in UNITS and not edge < values[name] < 1 - edge)
    return (*(("mu_decoy",) if dim else ()), *shares)


def _logit(share: float) -> float:
    inside = min(max(share, 1e-5), 1 - 1e-5)
    return math.log(inside / (1 - inside))


def _logistic(t: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(t, -_STEEPEST), _STEEPEST)))
