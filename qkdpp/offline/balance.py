"""The figures of a block that every report shows: leak, verification, authentication, recount, versions."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Mapping
from enum import StrEnum
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np

from qkdpp import __version__, kernels
from qkdpp.core.abort import Aborted
from qkdpp.core.ledger import Disclosure, Ledger, Rule
from qkdpp.estimation.security import binary_entropy
from qkdpp.offline.drive import booked
from qkdpp.offline.recount import Recount
from qkdpp.protocols.block import BlockLog
from qkdpp.sifting.health import Health


def leak_fields(ledger: Ledger, rule: Rule, n: int, errors: int | None) -> dict[str, Any]:
    """Leak under both rules and the efficiencies ``f = leak / (n h(E))`` at the observed error rate."""
    charged = ledger.leak_ec_bits(rule)
    limit = n * binary_entropy(errors / n) if errors and n else None
    return {
        "rule": rule.value,
        "leak_ec_bits": charged,
        "leak_by_rule": {r.value: ledger.leak_ec_bits(r) for r in Rule},
        "leak_alice_bits": side_total(ledger, "alice"),
        "leak_bob_bits": side_total(ledger, "bob"),
        "f_ec": ledger.leak_ec_bits(Rule.PUBLIC_ERRORS) / limit if limit else None,
        "f_total": (charged + ledger.verification_bits) / limit if limit else None,
        "verification_bits": ledger.verification_bits,
    }


def side_total(ledger: Ledger, side: str) -> int:
    """Key-dependent bits of correction that one side sent."""
    return sum(e.bits for e in ledger.entries if e.side == side and e.what is not Disclosure.VERIFICATION)


def recount_fields(found: Recount, log: BlockLog) -> dict[str, Any]:
    """The recount beside the ledger; ``agrees`` must be true before a key is written."""
    return {
        "agrees": booked(log) == found,
        "leak_alice_bits": found.parity_alice + found.pattern_alice,
        "leak_bob_bits": found.parity_bob + found.pattern_bob,
        "verification_bits": found.verification,
    }


def abort_fields(aborted: Aborted | None) -> dict[str, Any] | None:
    """Reason and evidence as plain values, or None."""
    if aborted is None:
        return None
    return {"reason": aborted.reason.value, "evidence": {k: plain(v) for k, v in aborted.evidence.items()}}


def health_fields(log: BlockLog) -> dict[str, Any] | None:
    """Findings of the health check of one party's raw key."""
    health = log.facts.get("health")
    if not isinstance(health, Health):
        return None
    fields: dict[str, Any] = plain(health)
    return fields


def stage_fields(log: BlockLog) -> list[dict[str, Any]]:
    """Seconds, counts and losses by stage."""
    return [{"name": s.name, "seconds": s.seconds, "count": s.count, "lost": s.lost} for s in log.stages]


def versions() -> dict[str, str]:
    """What computed the result."""
    found = {name: version(name) for name in ("numpy", "scipy", "msgspec", "cryptography")}
    return {"qkdpp": __version__, "python": platform.python_version(), "kernels": kernels.backend(), **found}


def plain(value: object) -> Any:  # noqa: ANN401 - JSON values
    """A value as JSON can hold it: no NaN, no NumPy types."""
    if isinstance(value, msgspec.Struct):
        return plain(msgspec.structs.asdict(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value if isinstance(value, str | int | bool) or value is None else str(value)
