"""The compiled engine and the fallback send the same bits and reach the same result."""

import numpy as np
import pytest
from pairs import Coins, bernoulli

from qkdpp.core.bits import Bits
from qkdpp.kernels import available, backend, compiled, isa, use_backend
from qkdpp.reconciliation import cascade_batch, cascade_compiled

if "c" not in available():
    pytest.skip("the compiled kernels are not built here", allow_module_level=True)

CASES = [
    (n, n, qber, hint)
    for n in (1, 2, 7, 63, 64, 65, 127, 128, 129, 1000, 1023, 1024, 65535, 65536, 65537, 131_071)
    for qber, hint in ((0.0, 0.01), (0.005, 0.005), (0.11, 0.11))
] + [
    (65536, 65536, 0.25, 0.05),
    (65536, 150_000, 0.02, 0.06),
    (65536, 150_000, 0.05, 0.005),
    (64, 1_100 * 64, 0.05, 0.05),
    (1000, 70_007, 0.02, 0.02),
    (4096, 40 * 4096, 0.03, 0.03),
    (12_288, 20_480, 0.03, 0.03),
    (300_001, 300_001, 0.0001, 0.0001),
    (300_001, 600_130, 0.00003, 0.002),
]


@pytest.fixture(params=compiled.isas())
def every_isa(request):
    before = backend(), isa()
    use_backend("c")
    compiled.use_isa(request.param)
    yield
    compiled.use_isa(before[1] or compiled.isas()[-1])
    use_backend(before[0])


def transcript(tier, key, errors, frame_bits, hint):
    """Parities and flags of every round, the pattern and the suspect frames."""
    n, seed = errors.size, Coins(3).bytes(32)
    sides = [
        tier.new_batch(bits, 0, n, frame_bits=frame_bits, seed=seed, number=0, hint=hint, corrects=corrects)
        for bits, corrects in ((key, False), (key ^ Bits.from_array(errors), True))
    ]
    rounds = []
    while (asked := sides[0].ask()) is not None:
        flags = asked ^ sides[1].ask()
        rounds.append((asked.to_bytes(), flags.to_bytes()))
        for side in sides:
            side.tell(flags)
    assert sides[1].ask() is None
    patterns = [Bits.zeros(n), Bits.zeros(n)]
    for side, pattern in zip(sides, patterns, strict=True):
        side.add_pattern(pattern.words, 0, frame_bits)
    assert patterns[0].equals(patterns[1])
    assert sides[0].suspects() == sides[1].suspects()
    return rounds, patterns[0].to_bytes(), sides[0].suspects()


@pytest.mark.parametrize(("frame_bits", "n", "qber", "hint"), CASES)
def test_same_bits(every_isa, frame_bits, n, qber, hint):
    errors = bernoulli(n, qber, n)
    key = Bits.from_array(np.random.default_rng(1).integers(0, 2, n, dtype=np.uint8))
    compiled_one = transcript(cascade_compiled, key, errors, frame_bits, hint)
    assert compiled_one == transcript(cascade_batch, key, errors, frame_bits, hint)
