"""A small decoy-state BB84 block with known truth, run through the real protocol over the real link."""

from types import SimpleNamespace

import numpy as np
import pytest

from qkdpp.core.entropy import OsEntropy
from qkdpp.core.tags import TimeTags
from qkdpp.link.endpoint import Endpoint
from qkdpp.link.memory import connect
from qkdpp.link.pool import EphemeralPool
from qkdpp.protocols import bb84, bbm92
from qkdpp.protocols.block import BlockLog
from qkdpp.protocols.distillation import Party
from qkdpp.protocols.parameters import Correction, Parameters, SecuritySection, Source, Timing

INTENSITIES = [0.4, 0.1, 0.0]
P_INTENSITY = [0.6, 0.3, 0.1]
P_Z = 0.8
ETA, ERROR, DARK = 0.3, 0.005, 1e-6


class Record:
    """Alice's states of the detected pulses."""

    test_mode = False
    sync_string = None

    def __init__(self, codes: np.ndarray, n_pulses: int) -> None:
        self.codes, self.n_pulses = codes, n_pulses

    def lookup(self, slots):
        return self.codes[slots]

    def totals(self):
        states = np.outer([P_Z / 2, P_Z / 2, (1 - P_Z) / 2, (1 - P_Z) / 2], P_INTENSITY).T
        return np.rint(states * self.n_pulses).astype(np.int64).reshape(3, 2, 2)


def make_block(n_pulses: int, seed: int = 1) -> SimpleNamespace:
    """Prepared codes and Bob's detections, by the gains of weak coherent pulses."""
    rng = np.random.default_rng(seed)
    intensity = rng.choice(3, n_pulses, p=P_INTENSITY).astype(np.uint8)
    a_basis = (rng.random(n_pulses) > P_Z).astype(np.uint8)
    a_bit = rng.integers(0, 2, n_pulses, dtype=np.uint8)
    gain = 1 - (1 - 2 * DARK) * np.exp(-ETA * np.array(INTENSITIES)[intensity])
    slots = np.flatnonzero(rng.random(n_pulses) < gain)
    b_basis = (rng.random(slots.size) > P_Z).astype(np.uint8)
    dark = rng.random(slots.size) < 2 * DARK / gain[slots]
    wrong = np.where(dark | (b_basis != a_basis[slots]), rng.random(slots.size) < 0.5, rng.random(slots.size) < ERROR)
    b_bit = a_bit[slots] ^ wrong.astype(np.uint8)
    codes = (intensity << 2 | a_basis << 1 | a_bit).astype(np.uint8)
    return SimpleNamespace(record=Record(codes, n_pulses), slots=slots.astype(np.int64), basis=b_basis, bit=b_bit)


def make_pairs(n: int, seed: int = 1) -> SimpleNamespace:
    """Tags of ``n`` entangled pairs (equal bits in equal bases, 1 % errors) on two taggers, 10 ps ticks, 50 ms."""
    rng = np.random.default_rng(seed)
    emission = np.sort(rng.choice(5 * 10**9, n, replace=False)).astype(np.int64)
    basis, bit = rng.integers(0, 2, (2, n)), rng.integers(0, 2, (2, n))
    same = basis[0] == basis[1]
    bit[1, same] = bit[0, same] ^ (rng.random(int(same.sum())) < 0.01)
    sides = []
    for side in range(2):
        ticks = emission + np.rint(rng.normal(0, 8, n)).astype(np.int64)
        order = np.argsort(ticks, kind="stable")
        channel = (basis[side] << 1 | bit[side]).astype(np.uint8)[order]
        sides.append(TimeTags(ticks=ticks[order], channel=channel, channel_ids=(0, 1, 2, 3), tick_as=10**7))
    return SimpleNamespace(alice=sides[0], bob=sides[1])


DETECTORS = {i: i for i in range(4)}


def parameters(protocol: str, method: str) -> Parameters:
    source = Source(
        pulse_period_as=10**9,
        intensities=INTENSITIES,
        p_intensity=P_INTENSITY,
        p_z_alice=P_Z,
        p_z_bob=P_Z,
        phase_randomised=True,
        intensities_declared=True,
        receiver="active",
    )
    return Parameters(
        protocol=protocol,
        source=source if protocol == "bb84" else None,
        timing=Timing(method="pairs", offset_range_s=0.001) if protocol == "bbm92" else Timing(method="sync"),
        security=SecuritySection(eps_sec=1e-4, eps_cor=1e-9),
        correction=Correction(method=method),
    )


def endpoints(
    block: SimpleNamespace, method: str = "cascade", pools=None, change=lambda p: p, cross_basis: int = 0
) -> SimpleNamespace:
    """Both endpoints for a block of weak pulses or of pairs; ``change`` of the public parameters."""
    protocol = "bb84" if hasattr(block, "record") else "bbm92"
    pools = pools or EphemeralPool.pair(20, OsEntropy())
    logs = [BlockLog(now=lambda: 0.0) for _ in range(2)]
    params = change(parameters(protocol, method))
    alice = Party(role="alice", parameters=params, entropy=OsEntropy(), log=logs[0])
    bob = Party(role="bob", parameters=params, entropy=OsEntropy(), log=logs[1])
    if protocol == "bb84":
        counters = SimpleNamespace(double_cross_basis=cross_basis)
        found = SimpleNamespace(slots=block.slots, basis=block.basis, bit=block.bit, counters=counters)
        stages = bb84.alice(block.record, alice), bb84.bob(lambda: found, bob)
    else:
        stages = bbm92.alice(block.alice, DETECTORS, alice), bbm92.bob(block.bob, DETECTORS, bob)
    return SimpleNamespace(
        alice=Endpoint(stages[0], "alice", 7, pools[0]), bob=Endpoint(stages[1], "bob", 7, pools[1]), logs=logs
    )


@pytest.fixture(scope="session")
def pairs():
    return make_pairs(12_000)


@pytest.fixture(scope="session")
def other_pairs():
    return make_pairs(12_000, seed=2)


@pytest.fixture(scope="session")
def other_block():
    return make_block(1_500_000, seed=2)


@pytest.fixture(scope="session")
def block():
    return make_block(1_500_000)


@pytest.fixture(scope="session")
def run_block():
    """Runs a block; returns both endpoints and logs."""

    def run(block, method="cascade", tamper=None, pools=None, **options):
        ends = endpoints(block, method, pools, **options)
        connect(ends.alice, ends.bob, tamper)
        return ends

    return run
