"""Error correction between two keys of equal length, behind one interface.

``cascade`` (parities, Bob corrects) and ``hamming`` (block sums and syndromes,
Alice corrects). Every key-dependent bit is booked; what remains different is
found by verification. Importing this package compiles nothing.
"""

from qkdpp.core.errors import ConfigError
from qkdpp.reconciliation.cascade import Cascade
from qkdpp.reconciliation.hamming import Hamming
from qkdpp.reconciliation.odd_blocks import efficiency
from qkdpp.reconciliation.result import Reconciled, Reconciler

__all__ = ["Cascade", "Hamming", "Reconciled", "Reconciler", "by_name", "efficiency"]


def by_name(name: str) -> Reconciler:
    """The corrector of that name with its usual frames; ConfigError if there is none."""
    for corrector in (Cascade(), Hamming()):
        if corrector.name == name:
            return corrector
    raise ConfigError(f"no error correction named {name!r}; there are cascade and hamming")
