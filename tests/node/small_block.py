"""A block small enough for faults at every message: a sifted key from memory through the real distillation."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import Bits
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.ledger import Rule, Side
from qkdpp.core.stage import Stage
from qkdpp.estimation import KeyLength
from qkdpp.protocols.block import BlockLog
from qkdpp.protocols.distillation import Party, SiftedKey, distil, hello
from qkdpp.protocols.parameters import Correction, Parameters, SecuritySection

N_BITS, SECRET_BITS = 1500, 700
PARAMETERS = Parameters(
    protocol="bbm92",
    security=SecuritySection(eps_cor=1e-6),
    correction=Correction(method="hamming", qber_hint=0.01),
)


def sifted_bits(role: Side, seed: int) -> NDArray[np.uint8]:
    """Alice's or Bob's sifted key; ten of Bob's bits are wrong."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, N_BITS, dtype=np.uint8)
    if role == "bob":
        bits[rng.choice(N_BITS, 10, replace=False)] ^= 1
    return bits


def length(_leak: int, _verification: int, _dropped: int, _errors: NDArray[np.int64]) -> KeyLength:
    return KeyLength(
        secret_bits=SECRET_BITS,
        value=SECRET_BITS,
        single_photon_bits=N_BITS,
        vacuum_bits=0.0,
        phase_error_upper=math.nan,
        terms={},
        bounds=(),
        eps_sec=1e-9,
        eps_cor=1e-6,
        formula="assumed by the test",
        secret_bits_asymptotic=SECRET_BITS,
        detections_needed=None,
        profile="none",
        rule=Rule.BOTH,
    )


def block(role: Side, seed: int) -> tuple[Stage[Bits], BlockLog]:
    """One party's stage of block ``seed``, and its log."""
    log = BlockLog(now=time.monotonic)
    party = Party(role=role, parameters=PARAMETERS, entropy=OsEntropy(), log=log)

    def stage() -> Stage[Bits]:
        log.start()
        yield from hello(party)
        sifted = SiftedKey(
            key=Bits.from_array(sifted_bits(role, seed)),
            classes=np.zeros(N_BITS, dtype=np.uint8),
            n_classes=1,
            qber_hint=0.01,
        )
        return (yield from distil(sifted, length, party))

    return stage(), log


class MemorySink:
    """A key store in memory that holds its caller to the rules."""

    def __init__(self) -> None:
        self.keys: dict[int, Bits] = {}
        self.state: dict[int, str] = {}
        self.history: list[tuple[str, int]] = []

    def stage(self, block: int, key: Bits) -> None:
        assert block not in self.state, "a block is stored once"
        self.keys[block], self.state[block] = key, "pending"
        self.history.append(("stage", block))

    def ready(self, block: int) -> None:
        assert self.state[block] in ("pending", "ready"), "what was burned never comes back"
        self.state[block] = "ready"
        self.history.append(("ready", block))

    def burn(self, block: int, reason: str) -> None:
        assert reason
        assert self.state[block] in ("pending", "burned"), "what may have been used is not burned"
        self.state[block] = "burned"
        self.history.append(("burn", block))

    def pending(self) -> Mapping[int, int]:
        return {block: len(self.keys[block]) for block, state in self.state.items() if state == "pending"}

    def held(self, block: int) -> int | None:
        return len(self.keys[block]) if self.state.get(block) in ("pending", "ready") else None

    @property
    def usable(self) -> dict[int, bytes]:
        return {block: key.to_bytes() for block, key in self.keys.items() if self.state[block] == "ready"}
