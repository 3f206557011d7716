"""Blocks in flight at the same time: each is a generator of its own, so threads change nothing in any of them."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from qkdpp.core.bits import Bits
from qkdpp.core.entropy import expand
from qkdpp.core.stage import encode, run_pair
from qkdpp.estimation import KeyLength
from qkdpp.protocols.block import BlockLog
from qkdpp.protocols.distillation import Party, SiftedKey, distil
from qkdpp.protocols.parameters import Correction, Parameters

N_BITS, BLOCKS = 150_000, 6


class FixedEntropy:
    """Bytes from a public stream, so that a run can be repeated."""

    def __init__(self, label: str) -> None:
        self._label, self._at = label, 0

    def bytes(self, n: int) -> bytes:
        self._at += n
        return expand(bytes(32), self._label, n, self._at - n)


def half(leak: int, verification: int, dropped: int, errors: Any) -> KeyLength:
    del leak, verification, dropped, errors
    return KeyLength(
        secret_bits=N_BITS // 2,
        value=N_BITS / 2,
        single_photon_bits=N_BITS,
        vacuum_bits=0.0,
        phase_error_upper=0.0,
        terms={},
        bounds=(),
        eps_sec=1e-10,
        eps_cor=1e-15,
        formula="half",
        secret_bits_asymptotic=0,
        detections_needed=None,
        profile="none",
        rule="public_errors",
        notes=(),
    )


def block(number: int, method: str) -> tuple[bytes, bytes, bytes]:
    """Both keys and all that was said."""
    rng = np.random.default_rng(number)
    key = rng.integers(0, 2, N_BITS, dtype=np.uint8)
    keys = {"alice": key, "bob": key ^ (rng.random(N_BITS) < 0.02)}
    stages = [
        distil(
            SiftedKey(
                key=Bits.from_array(keys[role]),
                classes=np.zeros(N_BITS, dtype=np.uint8),
                n_classes=1,
                qber_hint=0.02,
            ),
            half,
            Party(
                role=role,
                parameters=Parameters(protocol="bbm92", correction=Correction(method=method)),
                entropy=FixedEntropy(f"{role} {number}"),
                log=BlockLog(now=lambda: 0.0),
            ),
        )
        for role in ("alice", "bob")
    ]
    alice, bob, said = run_pair(*stages)
    return alice.to_bytes(), bob.to_bytes(), b"".join(encode(message) for _, message in said)


@pytest.mark.parametrize("method", ["cascade", "hamming"])
def test_blocks_in_two_threads_are_those_of_one_bit_for_bit(method):
    alone = [block(number, method) for number in range(BLOCKS)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(block, range(BLOCKS), [method] * BLOCKS))
    assert together == alone
    assert all(alice == bob for alice, bob, _ in alone)
    assert len({alice for alice, _, _ in alone}) == BLOCKS
