"""Errors by class: those in frames that verification kept, and every bit of the frames that it dropped."""

import numpy as np
import pytest

from qkdpp.core.bits import Bits
from qkdpp.core.errors import RemoteProtocolError
from qkdpp.protocols import distillation
from qkdpp.protocols.distillation import SiftedKey
from qkdpp.reconciliation import Reconciled
from qkdpp.verification import Verified

FRAME, CLASSES = 100, 3


def case(n: int, dropped: list[int]) -> tuple[SiftedKey, Reconciled, Verified, np.ndarray]:
    rng = np.random.default_rng(n)
    wrong, classes = rng.random(n) < 0.1, rng.integers(0, CLASSES, n, dtype=np.uint8)
    key = Bits.zeros(n)
    n_frames = -(-n // FRAME)
    kept = np.ones(n_frames, dtype=np.bool_)
    kept[dropped] = False
    counted = wrong | np.array([i // FRAME in dropped for i in range(n)])
    reconciled = Reconciled(
        key=key,
        pattern=Bits.from_array(wrong),
        frame_bits=FRAME,
        n_frames=n_frames,
        corrected=int(wrong.sum()),
        rounds=1,
        suspect_frames=(),
    )
    verified = Verified(key=key, kept=kept, dropped_bits=0, tags=1, verification_bits=1, eps_cor=1e-9)
    sifted = SiftedKey(key=key, classes=classes, n_classes=CLASSES, qber_hint=0.1)
    return sifted, reconciled, verified, np.array([int(counted[classes == c].sum()) for c in range(CLASSES)])


@pytest.mark.parametrize(("n", "dropped"), [(1, []), (99, []), (1000, [0]), (1003, [3, 4, 10]), (2560, [25])])
@pytest.mark.parametrize("at_once", [64, 1 << 20])
def test_errors_by_class(n, dropped, at_once, monkeypatch):
    monkeypatch.setattr(distillation, "AT_ONCE", at_once)
    *given, expected = case(n, dropped)
    assert distillation._errors_by_class(*given).tolist() == expected.tolist()


def test_a_corrector_without_a_pattern_is_refused():
    sifted, reconciled, verified, _ = case(10, [])
    lost = Reconciled(
        key=reconciled.key, pattern=None, frame_bits=FRAME, n_frames=1, corrected=0, rounds=1, suspect_frames=()
    )
    with pytest.raises(RemoteProtocolError, match="pattern"):
        distillation._errors_by_class(sifted, lost, verified)
