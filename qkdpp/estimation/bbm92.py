"""Key length of BBM92: entangled pairs from an untrusted source, two receivers.

Assumes random bases, single-click detections squashed to qubits and detection
probabilities that do not depend on the basis (``assess`` checks what data can
show). Two forms: ``printed`` is Tomamichel, Lim, Gisin and Renner 2012 (Nat.
Commun. 3, 634), Eqs. (1) and (2), made for fixed lengths; ``tight`` replaces its
deviation by the exact hypergeometric bound within the variable-length budget.
"""

from __future__ import annotations

import math
from typing import Literal

from qkdpp.core.errors import ConfigError, InputError
from qkdpp.estimation.assemble import Costs, assembled
from qkdpp.estimation.concentration import binomial_lower
from qkdpp.estimation.mismatch import Efficiencies, untagged_share
from qkdpp.estimation.phase_error import phase_error_upper
from qkdpp.estimation.registry import Registry
from qkdpp.estimation.security import Bound, KeyLength, Security, error_penalty

Form = Literal["tight", "printed"]
_UNTAGGED = ("untagged pairs Z", "untagged pairs X")
_SOURCE = "Tomamichel, Lim, Gisin and Renner 2012"


def key_length_bbm92(
    n_key: int,
    n_test: int,
    test_errors: int,
    *,
    leak_bits: int,
    verification_bits: int,
    dropped_bits: int,
    security: Security,
    form: Form = "tight",
    receivers: tuple[Efficiencies, ...] = (),
    foresee: bool = True,
) -> KeyLength:
    """Length of the key from ``n_key`` key-basis bits, given ``test_errors`` among ``n_test`` disclosed pairs.

    Args:
        n_key: bits in the key basis, dropped frames included.
        n_test: pairs detected in the test basis, all disclosed.
        test_errors: pairs of the test basis whose bits differ.
        leak_bits: charge for error correction under ``security.rule``.
        verification_bits: bits of all verification tags and outcomes.
        dropped_bits: bits of frames that were given up.
        security: parameters fixed before the block.
        form: ``tight`` (profile V) or ``printed`` (profile L, fixed length).
        receivers: declared detector efficiencies of both parties (or one), if the length shall be corrected for them
            (form ``tight`` only).
        foresee: without a key, also find ``detections_needed``.

    Raises:
        InputError: negative or inconsistent numbers.
    """
    if min(n_key, n_test, test_errors) < 0 or test_errors > n_test:
        raise InputError("BBM92 counts must not be negative, nor the errors more than the pairs")
    costs = Costs(leak_bits=leak_bits, verification_bits=verification_bits, dropped_bits=dropped_bits, keyed=n_key)
    if receivers and form == "printed":
        raise ConfigError("detectors: the printed BBM92 formula has no correction for unequal detectors; use profile V")
    terms, phi, bounds = _terms((n_key, n_test, test_errors), security, form, receivers)
    share = [untagged_share(receivers, basis) for basis in (0, 1)]
    rate = min(1.0, test_errors / (n_test * share[1])) if n_test else 1.0
    unlimited = n_key * share[0] * (1 - error_penalty(rate))

    def at_scale(factor: float) -> float:
        n, k = round(n_key * factor), round(n_test * factor)
        return sum(_terms((n, k, min(k, round(test_errors * factor))), security, form, receivers)[0].values())

    return assembled(
        terms,
        costs,
        unlimited=unlimited,
        at_scale=at_scale,
        detections=n_key + n_test,
        foresee=foresee,
        phase_error_upper=phi,
        bounds=bounds,
        security=security,
        profile="V" if form == "tight" else "L",
        formula=_formula(form),
        notes=_notes(form, share),
    )


def statements_bbm92(security: Security, *, receivers: tuple[Efficiencies, ...] = ()) -> dict[str, str]:
    """Name and inequality of every statement of the tight form; ConfigError if a weight of the split names none."""
    statements = {
        name: "relative entropy, binomial"
        for basis, name in enumerate(_UNTAGGED)
        if untagged_share(receivers, basis) < 1
    }
    statements["phase errors"] = "hypergeometric, exact"
    security.split.shares(statements, security.eps_sec)
    return statements


def length_value_bbm92(
    n_key: int, n_test: int, test_errors: int, security: Security, *, receivers: tuple[Efficiencies, ...] = ()
) -> float:
    """Bits (may be negative) before correction and verification are charged: for predictions and searches."""
    terms, _, _ = _terms((n_key, n_test, test_errors), security, "tight", receivers)
    return sum(terms.values())


def _notes(form: Form, share: list[float]) -> tuple[str, ...]:
    if form == "printed":
        return ("a fixed-length formula: the length must be fixed before the block",)
    if min(share) < 1:
        z, x = share
        return (f"corrected for unequal detectors: at least {z:.4f} of the keyed, {x:.4f} of the tested untagged",)
    return ()


def _terms(
    pairs: tuple[int, int, int], security: Security, form: Form, receivers: tuple[Efficiencies, ...]
) -> tuple[dict[str, float], float, tuple[Bound, ...]]:
    """Terms without the costs of correction and verification, the phase error bound, and the statements used.

    ``pairs``: those of the key basis and of the test basis, and the wrong ones among the latter.
    """
    n, k, errors = pairs
    if form == "printed":
        bounds: tuple[Bound, ...] = (
            Bound(name="phase errors", inequality="Serfling, as printed", eps=(security.eps_sec / 4) ** 2),
        )
        deviation = math.sqrt((n + k) / (n * k) * (k + 1) / k * math.log(4 / security.eps_sec)) if n and k else 1.0
        phi = min(1.0, errors / k + deviation) if k else 1.0
        amplification = 2 * math.log2(1 / security.eps_sec)
    else:
        share = [untagged_share(receivers, basis) for basis in (0, 1)]
        statements = statements_bbm92(security, receivers=receivers)
        registry = Registry.split(statements, security)
        if share[0] < 1:
            n = binomial_lower(n, share[0], registry.eps(_UNTAGGED[0]))
        if share[1] < 1:
            k = binomial_lower(k, share[1], registry.eps(_UNTAGGED[1]))
        phi = phase_error_upper(errors, k, n, registry.eps("phase errors"))
        bounds = registry.bounds()
        amplification = security.split.amplification_bits(security.eps_sec)
    terms = {
        "key-basis bits": float(n),
        "phase errors": -n * error_penalty(phi),
        "privacy amplification": -amplification,
    }
    return terms, phi, bounds


def _formula(form: Form) -> str:
    if form == "printed":
        return f"BBM92, {_SOURCE}, Eqs. (1)-(2)"
    return f"BBM92, {_SOURCE}, with the exact hypergeometric bound; variable length after Tupkary et al. 2024"
