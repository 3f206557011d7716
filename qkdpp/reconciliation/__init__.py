"""Error correction between two keys of equal length, behind one interface.

``cascade`` (parities, Bob corrects) and ``hamming`` (block sums and syndromes,
Alice corrects). Every key-dependent bit is booked; what remains different is
found by verification. Importing this package compiles nothing.
"""

from qkdpp.reconciliation.cascade import Cascade
from qkdpp.reconciliation.odd_blocks import efficiency
from qkdpp.reconciliation.result import Reconciled, Reconciler

__all__ = ["Cascade", "Reconciled", "Reconciler", "efficiency"]
