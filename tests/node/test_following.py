"""Which detections tell of the setting that stands: those behind the last move, of blocks of this epoch."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from qkdpp.core.bits import Bits
from qkdpp.node.figures import errors_since
from qkdpp.node.following import SETTLE_S, Following
from qkdpp.protocols.parameters import Detectors, Parameters, SecuritySection, Source, Timing
from qkdpp.sifting.bb84 import Sifted, tally
from qkdpp.timing.detect import Detections

PULSES = 10_000_000
PARAMETERS = Parameters(
    protocol="bb84",
    source=Source(
        pulse_period_as=10**12,
        intensities=[0.6, 0.2, 0.0],
        p_intensity=[0.75, 0.125, 0.125],
        p_z_alice=0.5,
        phase_randomised=True,
        intensities_declared=True,
    ),
    timing=Timing(method="sync"),
    detectors=Detectors(),
    security=SecuritySection(),
)


def cell(intensity: int, sent: int, detector: int) -> int:
    return intensity << 4 | sent << 2 | detector


def block(number: int, cells: dict[int, int], *, epoch: int = 1, undisclosed: tuple[int, ...] = ()) -> SimpleNamespace:
    """A block that ended: disclosed cells by slot."""
    slots = np.array(sorted([*cells, *undisclosed]), dtype=np.int64)
    disclosed = np.array([cells[s] for s in slots.tolist() if s in cells], dtype=np.uint8)
    n = slots.size
    found = object.__new__(Detections)
    for name, value in {"slots": slots, "basis": np.zeros(n, np.uint8), "bit": np.zeros(n, np.uint8)}.items():
        object.__setattr__(found, name, value)
    empty = np.zeros(3, dtype=np.int64)
    sifted = Sifted(
        key=Bits.zeros(0),
        key_intensity=np.empty(0, dtype=np.uint8),
        key_index=np.empty(0, dtype=np.int64),
        disclosed=tally(disclosed, 3),
        key_counts=empty,
        n_announced=n,
        not_held=0,
        sent=np.zeros((3, 2, 2), dtype=np.int64),
        n_pulses=PULSES,
        announcement_bits=0,
        disclosed_index=np.flatnonzero(np.isin(slots, list(cells))),
        disclosed_cell=disclosed,
    )
    facts = {"epoch": epoch, "number": number, "detections": found, "sifted": sifted}
    return SimpleNamespace(log=SimpleNamespace(facts=facts))


def test_errors_behind_a_slot_by_basis_without_vacuum_and_unequal_bases() -> None:
    cells = {
        10: cell(0, 0, 1),  # wrong in Z, but before
        20: cell(0, 0, 1),  # wrong in Z
        30: cell(1, 1, 1),  # right in Z, a decoy
        40: cell(2, 0, 1),  # vacuum
        50: cell(0, 2, 2),  # right in X
        60: cell(0, 3, 2),  # wrong in X
        70: cell(0, 0, 3),  # unequal bases
    }
    facts = block(0, cells, undisclosed=(15, 45)).log.facts
    n, wrong = errors_since(facts["detections"], facts["sifted"], PARAMETERS, 20)
    assert (n.tolist(), wrong.tolist()) == ([2, 2], [1, 1])


@dataclass
class Noted:
    """A tracking that moves at every step."""

    steps: list[tuple[list[int], float]] = field(default_factory=list)

    def step(self, n: np.ndarray, wrong: np.ndarray, seconds: float) -> bool:
        self.steps.append((n.tolist(), seconds))
        return True


def test_only_what_lies_behind_the_last_move_is_used() -> None:
    """Blocks last ten seconds, 10^6 pulses a second; each of these has one detection in Z a second."""
    noted = Noted()
    following = Following(noted, PARAMETERS, epoch=1, block_pulses=PULSES)  # type: ignore[arg-type]
    blocks = SimpleNamespace(tick_as=10**6, pulse_of=lambda tick: tick // 10**6)
    cells = {second * 1_000_000: cell(0, 0, 0) for second in range(10)}

    def end(number: int, now_s: float, epoch: int = 1) -> None:
        following.ended(block(number, cells, epoch=epoch))  # type: ignore[arg-type]
        following.go_on(blocks, lambda: round(now_s * 10**12))  # type: ignore[arg-type]

    end(0, 12.0)
    end(0, 13.0, epoch=2)
    assert noted.steps == [([10, 0], pytest.approx(10.0))], "another epoch is not this one's"
    end(1, 23.2)
    assert noted.steps[1] == ([7, 0], pytest.approx(10.0)), f"moved at 12 s, settled {SETTLE_S} s later"
    end(1, 23.3)
    assert len(noted.steps) == 2, "it lies before the move at 23.2 s"
    end(3, 42.0)
    assert noted.steps[2] == ([10, 0], pytest.approx(20.0)), "block 2 was dropped"
