"""The whole way: the shipped recording to key, and error correction by itself."""

from pathlib import Path

import numpy as np
import pytest

from qkdpp.core.bits import Bits
from qkdpp.offline import inputs, runfile
from qkdpp.offline.distill import distill
from qkdpp.offline.reconcile import Request, reconcile
from qkdpp.offline.steady import now

EXAMPLE = Path(__file__).parents[1] / "examples" / "fibre"


def test_example_from_files_to_key(rated):
    run = runfile.load(EXAMPLE)

    def job():
        data = inputs.load_inputs(run, from_s=None, to_s=None, progress=lambda what, n: None)
        return data, distill(run, data, now=now)

    data, outcome = job()
    assert outcome.keys is not None
    rated("tag", len(data.bob.tags), job)


@pytest.mark.parametrize("method", ["cascade", "hamming"])
@pytest.mark.parametrize("qber", [0.01, 0.05])
def test_correct_and_verify(rated, method, qber):
    n = 1 << 20
    rng = np.random.default_rng(1)
    alice = rng.integers(0, 2, n, dtype=np.uint8)
    bob = alice ^ (rng.random(n) < qber)
    request = Request(method=method, qber_hint=qber, phase_error=None, secret_bits=None, eps_sec=1e-10, eps_cor=1e-15)
    rated("bit", n, lambda: reconcile(Bits.from_array(alice), Bits.from_array(bob), request, now))
