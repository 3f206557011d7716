"""The register of statistical statements: counted first, evaluated second.

Every bound that a length rests on is declared from the parameters alone. Only
then is the failure probability divided and only declared bounds can be
evaluated, so a forgotten one is an error and not a hole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from qkdpp.core.errors import LocalProtocolError
from qkdpp.estimation import concentration
from qkdpp.estimation.kato import kato_lower, kato_upper
from qkdpp.estimation.security import Bound, Concentration, Security


class Registry:
    """Declared statements of one length, each with its failure probability.

    Args:
        statements: name and inequality of every statement; names are unique.
        each: failure probability of one statement, given how many there are.
    """

    def __init__(self, statements: Mapping[str, str], each: Callable[[int], float]) -> None:
        self._eps = dict.fromkeys(statements, each(len(statements)))
        self._statements = dict(statements)
        self._used: set[str] = set()

    @classmethod
    def divided(cls, statements: Mapping[str, str], eps: Mapping[str, float]) -> Registry:
        """Statements with a failure probability of their own each, from the parameters alone."""
        if statements.keys() != eps.keys():
            raise LocalProtocolError("every declared statement needs a failure probability, and nothing else does")
        registry = cls(statements, lambda _: 0.0)
        registry._eps = dict(eps)
        return registry

    @classmethod
    def split(cls, statements: Mapping[str, str], security: Security) -> Registry:
        """Profile V: all together fail with probability at most kappa^2, divided as ``security.split`` says.

        Raises:
            ConfigError: the split names a statement that does not exist.
        """
        return cls.divided(statements, security.split.shares(statements, security.eps_sec))

    def eps(self, name: str) -> float:
        """Failure probability of a declared statement; marks it as used."""
        if name not in self._statements:
            raise LocalProtocolError(f"bound {name!r} was never registered: its failure would not be counted")
        self._used.add(name)
        return self._eps[name]

    def bounds(self) -> tuple[Bound, ...]:
        """All statements; LocalProtocolError if one was declared in vain."""
        idle = self._statements.keys() - self._used
        if idle:
            raise LocalProtocolError(f"registered but never used: {sorted(idle)}")
        return tuple(Bound(name=n, inequality=i, eps=self._eps[n]) for n, i in self._statements.items())


class Observed:
    """Counts taken for their means: the limit of unlimited data."""

    def lower(self, name: str, x: float, n: float) -> float:
        """The count itself."""
        return float(x)

    def upper(self, name: str, x: float, n: float) -> float:
        """The count itself."""
        return float(x)

    def log_eps(self, name: str) -> float:
        """``ln 1/eps`` per statement: none is made."""
        return 0.0


class Foreseen(Observed):
    """Takes predicted counts for their means and keeps the share of every name: what Kato's bound is tuned to."""

    def __init__(self) -> None:
        self.share: dict[str, float] = {}

    def lower(self, name: str, x: float, n: float) -> float:
        """The count itself."""
        self.share[name] = x / n if n else 0.0
        return float(x)

    def upper(self, name: str, x: float, n: float) -> float:
        """The count itself."""
        return self.lower(name, x, n)


class Bounded(Observed):
    """Counts turned into bounds on their means, one registered statement per call."""

    def __init__(self, registry: Registry, kind: Concentration, foreseen: Foreseen | None = None) -> None:
        self._registry = registry
        self._kind: Concentration = kind
        self._share = {} if foreseen is None else foreseen.share

    def lower(self, name: str, x: float, n: float) -> float:
        """Lower bound on the mean of ``x`` out of ``n``."""
        eps = self._registry.eps(f"{name} lower")
        if self._kind == "kato":
            return kato_lower(x, int(n), eps, self._share[name] * n) if n else 0.0
        return concentration.mean_lower(self._kind, x, n, eps)

    def upper(self, name: str, x: float, n: float) -> float:
        """Upper bound on the mean of ``x`` out of ``n``."""
        eps = self._registry.eps(f"{name} upper")
        if self._kind == "kato":
            return kato_upper(x, int(n), eps, self._share[name] * n) if n else 0.0
        return concentration.mean_upper(self._kind, x, n, eps)

    def log_eps(self, name: str) -> float:
        """``ln 1/eps`` of the named statement."""
        return -math.log(self._registry.eps(name))
