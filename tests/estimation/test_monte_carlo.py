"""Statistical bounds against known truth: labels drawn for detections an adversary chose by photon number.

A bound evaluated at failure probability eps may fail in no more than a share
eps of 10,000 blocks (one-sided binomial test). The same function is shown to
catch planted wrong formulas, so that a pass means something.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from estimation_oracles import PHOTONS, draw_labels, log_binomial_cdf, log_hypergeometric_cdf, share_of_labels, too_many
from scipy import stats

from qkdpp.estimation.concentration import binomial_lower, mean_lower, mean_upper
from qkdpp.estimation.decoy import choose_levels, errors_upper, photons_one_decoy, photons_two_decoys
from qkdpp.estimation.phase_error import gamma_as_printed, phase_error_upper

BLOCKS = 10_000
KINDS = ("kl", "chernoff", "hoeffding")
EPS = [0.1, 0.01]
MU, P = (0.6, 0.2, 0.0), (0.5, 0.3, 0.2)
MU_WEAK, P_WEAK = (0.6, 0.25, 0.01), (0.7, 0.25, 0.05)
ONE_MU, ONE_P = (0.5, 0.15), (0.7, 0.3)


def numbers(*first: int) -> np.ndarray:
    """Detections by photon number, the rest zero."""
    return np.array([*first, *[0] * (PHOTONS - len(first))])


CHANNELS = {
    "passive loss": (numbers(200, 3_000, 700, 110, 10, 1), numbers(100, 60, 14, 2)),
    "single photons blocked": (numbers(0, 0, 3_000, 800, 150, 20, 3), numbers(0, 0, 40, 10)),
    "errors on single photons only": (numbers(60, 3_000, 2_500), numbers(30, 150, 0)),
    "vacuum and pairs": (numbers(900, 0, 2_000), numbers(450, 0, 0)),
    "few detections": (numbers(3, 30, 12), numbers(1, 2, 0)),
}
"""What an adversary who sees photon numbers lets through, and which of it is wrong."""


@cache
def drawn(channel: str, mu: tuple[float, ...] = MU, p: tuple[float, ...] = P) -> tuple[np.ndarray, np.ndarray]:
    """Detections and errors by label, int64[BLOCKS, K]."""
    detected, wrong = CHANNELS[channel]
    rng = np.random.default_rng(17)
    errors = draw_labels(rng, wrong, mu, p, BLOCKS)
    return draw_labels(rng, detected - wrong, mu, p, BLOCKS) + errors, errors


# --- every inequality, every side, every label ------------------------------------------------------------------------

Bound = Callable[[float, float, float], float]


def failures(observed: np.ndarray, total: int, mean: float, bound: Bound, eps: float, *, upper: bool) -> int:
    """Blocks in which the true mean lies on the wrong side of the bound computed from the count."""
    values, times = np.unique(observed, return_counts=True)
    limits = np.array([bound(float(x), float(total), eps) for x in values])
    wrong = limits < mean if upper else limits > mean
    return int(times[wrong].sum())


def worst(bound: Bound, eps: float, *, upper: bool) -> int:
    """Most failures over all channels, labels, detections and errors."""
    found = 0
    for channel, (detected, wrong) in CHANNELS.items():
        for mu, p in ((MU, P), (MU_WEAK, P_WEAK)):
            shares = share_of_labels(mu, p)
            for true, observed in zip((detected, wrong), drawn(channel, mu, p), strict=True):
                for k, mean in enumerate(true @ shares):
                    found = max(found, failures(observed[:, k], int(true.sum()), mean, bound, eps, upper=upper))
    return found


@pytest.mark.parametrize("eps", EPS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_side_of_every_inequality(kind, eps):
    assert not too_many(worst(lambda x, n, e: mean_upper(kind, x, n, e), eps, upper=True), BLOCKS, eps)
    assert not too_many(worst(lambda x, n, e: mean_lower(kind, x, n, e), eps, upper=False), BLOCKS, eps)


WRONG_UPPER: dict[str, Bound] = {
    "Hoeffding from the label's own count": lambda x, n, e: x + math.sqrt(x * -math.log(e) / 2),
    "Chernoff without its factor 2": lambda x, n, e: x + math.sqrt(x * -math.log(e)),
    "relative entropy with half the exponent": lambda x, n, e: mean_upper("kl", x, n, math.sqrt(e)),
    "decimal for natural logarithm": lambda x, n, e: x + math.sqrt(n * -math.log10(e) / 2),
    "three sigma of the count": lambda x, n, e: x + 3 * math.sqrt(x),
    "no deviation": lambda x, n, e: x,
}
WRONG_LOWER: dict[str, Bound] = {
    "Hoeffding from the label's own count": lambda x, n, e: x - math.sqrt(x * -math.log(e) / 2),
    "relative entropy with half the exponent": lambda x, n, e: mean_lower("kl", x, n, math.sqrt(e)),
    "decimal for natural logarithm": lambda x, n, e: x - math.sqrt(n * -math.log10(e) / 2),
    "no deviation": lambda x, n, e: x,
}


@pytest.mark.parametrize("name", WRONG_UPPER)
def test_planted_upper_bounds_are_caught(name):
    assert any(too_many(worst(WRONG_UPPER[name], eps, upper=True), BLOCKS, eps) for eps in EPS)


@pytest.mark.parametrize("name", WRONG_LOWER)
def test_planted_lower_bounds_are_caught(name):
    assert any(too_many(worst(WRONG_LOWER[name], eps, upper=False), BLOCKS, eps) for eps in EPS)


@pytest.mark.parametrize("eps", EPS)
def test_binomial_shortfall(eps):
    """Keyed single photons: how many of n carry the signal label and stay undisclosed; a power of eps is caught."""
    sound = planted = 0
    for seed, (n, p) in enumerate([(3_000, 0.94), (3_000, 0.5), (400, 0.05), (40, 0.9), (3, 0.5)]):
        kept = np.random.default_rng(seed).binomial(n, p, size=BLOCKS)
        sound = max(sound, int((kept < binomial_lower(n, p, eps)).sum()))
        planted = max(planted, int((kept < binomial_lower(n, p, eps**0.4)).sum()))
    assert not too_many(sound, BLOCKS, eps)
    assert eps == 0.1 or too_many(planted, BLOCKS, eps)


# --- bounds by photon number ------------------------------------------------------------------------------------------


class At:
    """Every statement at one failure probability; bounds of equal counts are computed once."""

    def __init__(self, eps: float, kind: str, *, minus: float = 1.0) -> None:
        self._eps, self._kind, self._scale = eps, kind, minus
        self._lower: dict[tuple[float, float], float] = {}
        self._upper: dict[tuple[float, float], float] = {}

    def lower(self, name: str, x: float, n: float) -> float:
        if (x, n) not in self._lower:
            self._lower[x, n] = x - self._scale * (x - mean_lower(self._kind, x, n, self._eps))
        return self._lower[x, n]

    def upper(self, name: str, x: float, n: float) -> float:
        if (x, n) not in self._upper:
            self._upper[x, n] = x + self._scale * (mean_upper(self._kind, x, n, self._eps) - x)
        return self._upper[x, n]

    def log_eps(self, name: str) -> float:
        return -math.log(self._eps) * self._scale


def two_decoy_failures(channel: str, by: Callable[[int], At]) -> dict[str, int]:
    """Blocks in which s_0, s_1 or v_1 is bounded on the wrong side; ``by`` takes the number of statements."""
    levels, (detected, wrong) = choose_levels(MU, P), CHANNELS[channel]
    vacuum, single, errors = by(2), by(5), by(2)
    found = {"s_0": 0, "s_1": 0, "v_1": 0}
    for n, m in zip(*drawn(channel), strict=True):
        found["s_0"] += photons_two_decoys(levels, "Z", n, vacuum).vacuum_lower > detected[0] + 1e-6
        found["s_1"] += photons_two_decoys(levels, "Z", n, single).single_lower > detected[1] + 1e-6
        found["v_1"] += errors_upper(levels, "X", m, errors)[0] < wrong[1] - 1e-6
    return found


@pytest.mark.parametrize("eps", EPS)
@pytest.mark.parametrize("channel", CHANNELS)
def test_photon_numbers_from_two_decoys(channel, eps):
    """The failure probability of each bound is shared by the statements it uses (two, five, two)."""
    found = two_decoy_failures(channel, lambda statements: At(eps / statements, "kl"))
    assert not any(too_many(v, BLOCKS, eps) for v in found.values()), found


@pytest.mark.parametrize("kind", ["chernoff", "hoeffding"])
def test_photon_numbers_from_the_other_inequalities(kind):
    found = two_decoy_failures("errors on single photons only", lambda statements: At(0.1 / statements, kind))
    assert not any(too_many(v, BLOCKS, 0.1) for v in found.values()), found


@pytest.mark.parametrize("scale", [0.0, 0.3])
def test_too_small_deviations_are_caught_by_photon_number(scale):
    """No deviation at all, or a third of it; each of s_0, s_1 and v_1 is shown to be able to fail."""
    channel = "errors on single photons only"
    found = two_decoy_failures(channel, lambda statements: At(0.01 / statements, "kl", minus=scale))
    assert all(too_many(v, BLOCKS, 0.01) for v in found.values()), found


USES = (("n", 0, "u"), ("n", 1, "l"), ("n", 1, "u"), ("n", 2, "l"), ("n", 2, "u"), ("m", 1, "u"), ("m", 2, "l"))
"""Statements of one basis: detections by label and side, errors by label and side (Lim et al. 2014)."""
STATEMENTS = len(USES) * len(CHANNELS)


def statement_failures(eps: float) -> int:
    """Rounds in which any statement about any of the five channels is wrong, each evaluated at ``eps``."""
    bad, shares = np.zeros(BLOCKS, dtype=bool), share_of_labels(MU, P)
    for channel, truth in CHANNELS.items():
        for what, k, side in USES:
            which = "nm".index(what)
            observed, total = drawn(channel)[which][:, k], float(truth[which].sum())
            mean, bound = float(truth[which] @ shares[:, k]), mean_upper if side == "u" else mean_lower
            values, place = np.unique(observed, return_inverse=True)
            limits = np.array([bound("kl", float(x), total, eps) for x in values])[place]
            bad |= limits < mean if side == "u" else limits > mean
    return int(bad.sum())


@pytest.mark.parametrize("eps", EPS)
def test_all_statements_together(eps):
    """Divided by their number, they fail together no more often than promised; undivided, at 0.1, they are caught."""
    assert not too_many(statement_failures(eps / STATEMENTS), BLOCKS, eps)
    assert too_many(statement_failures(0.1), BLOCKS, 0.1)


ONE_CHANNELS = {
    "vacuum at random": (4_000, numbers(0, 4_000, 2_500), numbers(0, 120, 40)),
    "no single photons": (3_000, numbers(0, 0, 3_000), numbers(0, 0, 0)),
    "few detections": (20, numbers(0, 60, 15), numbers(0, 2, 1)),
}
"""Vacuum detections (wrong with probability 1/2, which no adversary can change), other detections, errors of these."""


def one_decoy_failures(channel: str, by: Callable[[int], At], *, as_printed: bool) -> dict[str, int]:
    """Blocks in which s_1 or v_1 is bounded on the wrong side with a single decoy."""
    vacuum, detected, wrong = ONE_CHANNELS[channel]
    rng, shares = np.random.default_rng(23), share_of_labels(ONE_MU, ONE_P)
    wrong_vacuum = rng.binomial(vacuum, 0.5, size=BLOCKS)
    empty_wrong = rng.multinomial(wrong_vacuum, shares[0])
    errors = draw_labels(rng, wrong, ONE_MU, ONE_P, BLOCKS) if wrong.any() else np.zeros((BLOCKS, 2), dtype=np.int64)
    m_all = (empty_wrong + errors).astype(np.int64)
    right = draw_labels(rng, detected - wrong, ONE_MU, ONE_P, BLOCKS)
    n_all = right + rng.multinomial(vacuum - wrong_vacuum, shares[0]) + m_all
    levels, found = choose_levels(ONE_MU, ONE_P), {"s_1": 0, "v_1": 0}
    single, upper = by(5), by(2)
    for n, m in zip(n_all.astype(np.int64), m_all, strict=True):
        bound = photons_one_decoy(levels, "Z", n, m, single, as_printed=as_printed).single_lower
        found["s_1"] += bound > detected[1] + 1e-6
        found["v_1"] += errors_upper(levels, "X", m, upper)[0] < wrong[1] - 1e-6
    return found


@pytest.mark.parametrize("as_printed", [True, False])
@pytest.mark.parametrize("channel", ONE_CHANNELS)
def test_photon_numbers_from_one_decoy(channel, as_printed):
    for eps in EPS:
        found = one_decoy_failures(channel, lambda statements, e=eps: At(e / statements, "kl"), as_printed=as_printed)
        assert not any(too_many(v, BLOCKS, eps) for v in found.values()), found


def test_one_decoy_without_deviations_is_caught():
    found = one_decoy_failures("no single photons", lambda _: At(0.1, "kl", minus=0.0), as_printed=False)
    assert too_many(found["s_1"], BLOCKS, 0.1)


# --- phase errors: sampling without replacement -----------------------------------------------------------------------

POPULATIONS = [(300, 2_000, 92), (200, 2_000, 20), (1_000, 300, 40), (40, 60, 5), (500, 500, 1), (100, 3_000, 1_200)]
"""Tested, not tested, and wrong ones among all: the adversary chooses the last, chance chooses the test."""


def phase_failures(bound: Callable[[int, int, int, float], float], eps: float) -> int:
    """Most blocks, over the populations, whose untested part is worse than the bound."""
    found = 0
    for tested, rest, marked in POPULATIONS:
        seen = np.random.default_rng(5).hypergeometric(marked, tested + rest - marked, tested, size=BLOCKS)
        values, times = np.unique(seen, return_counts=True)
        worse = [(marked - int(k)) / rest > bound(int(k), tested, rest, eps) + 1e-12 for k in values]
        found = max(found, int(times[worse].sum()))
    return found


@pytest.mark.parametrize("eps", EPS)
def test_phase_errors_of_every_population(eps):
    found = phase_failures(phase_error_upper, eps)
    assert not too_many(found, BLOCKS, eps)
    assert found > 0.3 * eps * BLOCKS, "an exact bound comes near what it is allowed"


WRONG_PHASE = {
    "the rate itself": lambda k, n, u, e: k / n,
    "printed gamma at few errors": lambda k, n, u, e: gamma_as_printed(k, n, u, math.sqrt(e)),
    "tested and untested exchanged": lambda k, n, u, e: phase_error_upper(round(k * u / n), u, n, e),
    "three binomial sigma": lambda k, n, u, e: k / n + 3 * math.sqrt(k / n * (1 - k / n) / n),
    "smoothing for its square": lambda k, n, u, e: phase_error_upper(k, n, u, math.sqrt(e)),
}


@pytest.mark.parametrize("name", WRONG_PHASE)
def test_planted_phase_errors_are_caught(name):
    assert any(too_many(phase_failures(WRONG_PHASE[name], eps), BLOCKS, eps) for eps in EPS)


# --- far tails: exact sums --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("x", "n"), [(0, 400), (3, 5_000), (40, 900), (2_000, 10_000), (900, 10**6)])
@pytest.mark.parametrize("eps", [1e-10, 1e-21])
def test_far_binomial_tails_by_exact_sums(kind, x, n, eps):
    """At the bound, so few (so many) events have a probability of at most eps, summed term by term."""
    upper, lower = mean_upper(kind, x, n, eps), mean_lower(kind, x, n, eps)
    assert upper >= n or log_binomial_cdf(x, n, upper / n) <= math.log(eps)
    assert lower == 0 or log_binomial_cdf(n - x, n, 1 - lower / n) <= math.log(eps)


@pytest.mark.parametrize(
    ("errors", "tested", "rest"), [(0, 500, 4_000), (7, 2_000, 9_000), (100, 10_000, 90_000), (1_000, 20_000, 10**6)]
)
@pytest.mark.parametrize("tail", [1e-10, 1e-21])
def test_far_hypergeometric_tails_by_exact_sums(errors, tested, rest, tail):
    """One error more than the bound is incompatible with the sample, one fewer compatible, summed term by term."""
    marked = errors + phase_error_upper(errors, tested, rest, tail) * rest
    above, below = math.ceil(marked) + 1, math.floor(marked) - 1
    assert log_hypergeometric_cdf(errors, tested + rest, above, tested) <= math.log(tail)
    assert log_hypergeometric_cdf(errors, tested + rest, below, tested) > math.log(tail)


@pytest.mark.parametrize(("x", "n", "worse"), [(10, 10**6, 1e4), (40, 10**6, 1e2)])
def test_sigma_rules_are_no_bounds_in_the_far_tail(x, n, worse):
    """A2.2: six sigma of a small count promise 1e-9; the exact tail is larger by orders of magnitude."""
    log_true = log_binomial_cdf(x, n, (x + 6 * math.sqrt(x)) / n)
    assert log_true > stats.norm.logsf(6) + math.log(worse)
    assert log_binomial_cdf(x, n, mean_upper("kl", x, n, 1e-9) / n) < math.log(1e-9)
