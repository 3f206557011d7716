"""What asks for calibration: a basis that errs beyond doubt, and keys that no longer come."""

import numpy as np
import pytest
from test_monitors import figures

from qkdpp.core.abort import Aborted, AbortReason
from qkdpp.core.bits import Bits
from qkdpp.node.sink import BlockEnd
from qkdpp.node.triggers import Triggers
from qkdpp.protocols.block import BlockLog

KEY = Bits.from_bytes(bytes(8), 64)


def ended(result: Bits | AbortReason, epoch: int = 1, **evidence: object) -> BlockEnd:
    log = BlockLog(now=lambda: 0.0)
    log.facts["epoch"] = epoch
    if isinstance(result, AbortReason):
        result = Aborted(reason=result, evidence=evidence)
    return BlockEnd(block=1, result=result, log=log, pool_bits=0, traffic={}, eps_auth=0.0, transcript=[])


@pytest.mark.parametrize(
    ("tested", "wrong", "asks"),
    [
        ((4000, 40_000), (40, 400), ""),
        ((4000, 40_000), (560, 400), "basis Z"),
        ((4000, 40_000), (40, 2500), "both bases"),
        ((4000, 40_000), (0, 2150), "basis X"),
        ((4000, 40_000), (230, 400), ""),  # 5.75 %: within three times 14.1 of 200
        ((40, 0), (3, 0), ""),
        ((0, 0), (0, 0), ""),
    ],
)
def test_a_basis_that_errs_beyond_doubt(tested: tuple[int, int], wrong: tuple[int, int], asks: str) -> None:
    seen = figures(tested=np.array([tested, (900, 5000)]), wrong=np.array([wrong, (450, 2500)]))
    why = Triggers(0.05, 0).see(ended(KEY), seen)
    assert asks in why
    assert bool(why) == bool(asks)


def test_five_blocks_in_a_row_without_a_key_after_one_with() -> None:
    def asked(*blocks: BlockEnd) -> list[int]:
        triggers = Triggers(0.05, 5)
        return [n for n, block in enumerate(blocks) if triggers.see(block, None)]

    good, bad = ended(KEY), ended(AbortReason.NO_KEY_LEFT)
    assert asked(good, *[bad] * 4, good, *[bad] * 4) == []
    assert asked(*[bad] * 9) == [], "a link that never gave a key is not mended by calibrating again"
    assert asked(good, *[bad] * 20) == [5]
    told = ended(AbortReason.PEER_ABORTED, peer_reason="qber_too_high")
    assert asked(good, told, ended(AbortReason.NOT_VERIFIED), bad, told, bad) == [5]
    assert asked(good, *[ended(AbortReason.PEER_ABORTED, peer_reason="deadline")] * 9) == []
    assert asked(good, *[ended(AbortReason.NO_KEY_LEFT, 2)] * 9) == [], "another calibration"
    never = Triggers(0.05, 0)
    assert not any(never.see(block, None) for block in (good, *[bad] * 9))
