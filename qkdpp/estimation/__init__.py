"""Parameter estimation: from counts to the length of the secret key, and how far the claim reaches.

``Counts`` are tallied before error correction; the length is computed after
verification, on all frames of the block (``docs/security.md``). Nothing here
talks to the peer, sees a key bit or imports SciPy, but for the linear programmes when they run.
"""

from qkdpp.estimation.asymptotic import Yields, asymptotic_rate, decoy_yields
from qkdpp.estimation.bb84 import VacuumCredit, key_length_bb84
from qkdpp.estimation.bbm92 import key_length_bbm92
from qkdpp.estimation.both_bases import key_lengths_bb84_both, key_lengths_bbm92_both
from qkdpp.estimation.claims import Claim, Declared, Evidence, Precondition, assess
from qkdpp.estimation.counts import UNKNOWN, Counts
from qkdpp.estimation.kato import KatoPlan, kato_lower, kato_upper
from qkdpp.estimation.linear import decoy_yields_linear
from qkdpp.estimation.linear_key import key_length_linear
from qkdpp.estimation.mismatch import Efficiencies, mismatched_rate, untagged_average
from qkdpp.estimation.security import Bound, KeyLength, Security, Split, accumulated, binary_entropy
from qkdpp.estimation.split import optimised_split, optimised_split_bbm92
from qkdpp.estimation.three_state import key_length_three_state
from qkdpp.estimation.three_state_asymptotic import ThreeStateYields, three_state_rate, three_state_yields
from qkdpp.estimation.three_state_counts import ThreeStateCounts
from qkdpp.estimation.virtual_states import ThreeStates, phase_error_rate

__all__ = [
    "UNKNOWN",
    "Bound",
    "Claim",
    "Counts",
    "Declared",
    "Efficiencies",
    "Evidence",
    "KatoPlan",
    "KeyLength",
    "Precondition",
    "Security",
    "Split",
    "ThreeStateCounts",
    "ThreeStateYields",
    "ThreeStates",
    "VacuumCredit",
    "Yields",
    "accumulated",
    "assess",
    "asymptotic_rate",
    "binary_entropy",
    "decoy_yields",
    "decoy_yields_linear",
    "kato_lower",
    "kato_upper",
    "key_length_bb84",
    "key_length_bbm92",
    "key_length_linear",
    "key_length_three_state",
    "key_lengths_bb84_both",
    "key_lengths_bbm92_both",
    "mismatched_rate",
    "optimised_split",
    "optimised_split_bbm92",
    "phase_error_rate",
    "three_state_rate",
    "three_state_yields",
    "untagged_average",
]
