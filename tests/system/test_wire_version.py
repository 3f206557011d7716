"""What the wire version stands for: whoever changes one of these counts it up (docs/formats/wire.md)."""

import msgspec
import numpy as np
import pytest

from qkdpp import amplification
from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.bits import Bits
from qkdpp.core.entropy import OsEntropy
from qkdpp.estimation import claims, mismatch
from qkdpp.protocols import distillation
from qkdpp.protocols.block import BlockLog
from qkdpp.protocols.conditions import ReceiverClicks
from qkdpp.protocols.parameters import Parameters


def test_version_four_has_these_thresholds_of_the_accounting_rule():
    """Two parties with other thresholds might charge by different rules: they must not even begin."""
    assert distillation.VERSION == 4
    assert (claims.SIGMAS, claims.EFFICIENCY_TOLERANCE, mismatch.SMALLEST_RATIO) == (4.892, 0.02, 0.5)
    assert claims.SQUASHING == ("double_click_rule", "cross_basis_clicks", "equal_bits", "efficiency_mismatch")
    assert ReceiverClicks.__struct_fields__ == ("cross_basis",)


def test_version_four_has_this_matrix_of_the_amplification():
    """Key 1 0 1 1, two bits out, seed 0 1 1: (1 0 | 1 0; 0 1 | 1 1) times the key."""
    assert distillation.VERSION == 4
    key, seed = Bits.from_array(np.array([1, 0, 1, 1])), Bits.from_array(np.array([0, 1, 1]))
    assert amplification.amplify(key, 2, seed).to_array().tolist() == [0, 0]


def test_a_peer_of_another_version_ends_the_block():
    party = distillation.Party(
        role="alice", parameters=Parameters(protocol="bbm92"), entropy=OsEntropy(), log=BlockLog(now=lambda: 0.0)
    )
    conversation = distillation.hello(party)
    own = next(conversation).message
    conversation.send(None)
    with pytest.raises(Abort) as caught:
        conversation.send(msgspec.structs.replace(own, version=1))
    assert caught.value.aborted.reason is AbortReason.PARAMETERS_DIFFER
    assert caught.value.aborted.evidence["fields"] == ["version"]
