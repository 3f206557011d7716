"""Polarisation tracking on true retarders and a wandering fibre: error rates with it, and without it from one seed."""

import numpy as np
import pytest
from laboratory import Squeezers

from qkdpp.node.calibrate.polarisation import PolarisationSettings, descend
from qkdpp.node.calibrate.sensitivity import REACH, Sensitivity, sense
from qkdpp.node.tracking import Tracker, Tracking, TrackingSettings
from qkdpp_drivers.sim.world.polarisation import STATES, Controller, Fibre

MISALIGNMENT = 0.004
BLOCK_S, SLICES = 10.0, 5


class Link:
    """One basis behind a fibre and a controller; states H and V are sent alike often."""

    def __init__(self, seed: int, wander: float) -> None:
        self.rng = np.random.default_rng([seed, 1])
        self.fibre = Fibre(wander, np.random.default_rng([seed, 2]))
        self.squeezers = Squeezers(Controller())

    def error(self) -> float:
        """By the Poincare sphere: (1 - cos) / 2 of the angle between what arrives and the analyser, on top of e0."""
        turned = STATES[:2] @ (self.squeezers.controller.rotation() @ self.fibre.rotation).T
        cosine = float(np.mean(np.einsum("ij,ij->i", turned, STATES[:2])))
        return 0.5 - 0.5 * (1 - 2 * MISALIGNMENT) * cosine

    def counted(self) -> float:
        return float(self.rng.binomial(8000, self.error())) / 8000

    def calibrate(self) -> Sensitivity:
        for _ in range(5):
            descend(self.squeezers, self.counted, PolarisationSettings())
            if self.error() < 0.01:
                break
        return sense(self.squeezers, self.counted)


def followed(seed: int, wander: float, *, minutes: float, detections: int, tracked: bool = True) -> np.ndarray:
    """Error rate of every block; moves come half-way through the next one, and what lies before is not used."""
    link = Link(seed, wander)
    tracker = Tracker(link.calibrate(), link.squeezers.retarders, TrackingSettings())
    move, rates = None, []
    for _ in range(round(minutes * 60 / BLOCK_S)):
        errors = []
        for part in range(SLICES):
            link.fibre.advance(BLOCK_S / SLICES)
            if part == 2 and move:
                for number, value in move.items():
                    link.squeezers.set_retarder(number, value)
            errors.append(link.error())
        rates.append(np.mean(errors))
        used = errors[2:] if move else errors
        n = detections * len(used) // SLICES
        move = tracker.step(n, link.rng.binomial(n, np.mean(used)), BLOCK_S) if tracked else None
    return np.array(rates)


@pytest.mark.parametrize(("wander", "detections"), [(0.005, 13_000), (0.005, 2_000), (0.01, 13_000)])
def test_a_wandering_fibre_is_followed(wander: float, detections: int) -> None:
    """A walk of w rad per root second adds w^2 t / 2 to the error rate if nobody follows."""
    seeds = range(4)
    free = np.array([followed(s, wander, minutes=15, detections=detections, tracked=False) for s in seeds])
    kept = np.array([followed(s, wander, minutes=15, detections=detections) for s in seeds])
    last = slice(-30, None)
    assert np.mean(free[:, last]) - MISALIGNMENT > wander**2 * 600 / 2 * 0.5
    assert np.mean(kept[:, last]) - MISALIGNMENT < (np.mean(free[:, last]) - MISALIGNMENT) / 4
    assert np.max(kept) < 0.05, "nothing asks for a calibration"


def test_a_fibre_that_rests_is_not_made_worse_by_the_dither() -> None:
    free = np.mean([followed(s, 0.0, minutes=10, detections=13_000, tracked=False) for s in range(4)])
    kept = np.mean([followed(s, 0.0, minutes=10, detections=13_000) for s in range(4)])
    assert kept < free + 0.0005


def test_the_sensitivity_foretells_the_error_of_any_small_move() -> None:
    link = Link(3, 0.0)
    descend(link.squeezers, link.error, PolarisationSettings(extinction=200.0))
    found = sense(link.squeezers, link.error)
    assert [link.squeezers.retarder(n) for n in found.retarders] == list(found.values)
    before, curvature = link.error(), np.array(found.curvature)
    assert np.linalg.matrix_rank(curvature, tol=0.02 * np.linalg.norm(curvature)) == 2, "two angles, four retarders"
    for move in np.random.default_rng(4).uniform(-REACH / 4, REACH / 4, (10, 4)):
        more = []
        for sign in (1.0, -1.0):
            for n, value, share in zip(found.retarders, found.values, move, strict=True):
                link.squeezers.set_retarder(n, value + sign * 10_000.0 * share)
            more.append(link.error() - before)
        assert np.mean(more) == pytest.approx(move @ curvature @ move, rel=0.05, abs=1e-4)


def test_a_retarder_at_its_limit_is_left_out() -> None:
    link = Link(3, 0.0)
    link.squeezers.set_retarder(2, 4990.0)
    assert sense(link.squeezers, link.error).retarders == (1, 3, 4)


def bowl(reach: float = 0.0) -> Tracker:
    sensitivity = Sensitivity(retarders=(1, 2), values=(reach, 0.0), curvature=((25.0, 0.0), (0.0, 25.0)))
    return Tracker(sensitivity, {1: (-1.0, 1.0), 2: (-1.0, 1.0)}, TrackingSettings())


def test_few_counts_move_nothing_and_are_kept_for_the_next_step() -> None:
    tracker = bowl()
    steps = [tracker.step(300, 3, 10.0) for _ in range(8)]
    first = next(i for i, step in enumerate(steps) if step)
    assert np.sqrt(3 * (first + 1)) / (300 * (first + 1)) <= 0.003 < np.sqrt(3 * first) / (300 * first)


def test_no_retarder_is_sent_beyond_its_range() -> None:
    tracker = bowl(reach=0.9999)
    moves = [tracker.step(20_000, 200, 10.0) for _ in range(12)]
    assert any(move is None for move in moves)
    assert all(abs(value) <= 1.0 for move in moves if move for value in move.values())


class Watched(Squeezers):
    """Says what is done to it."""

    def __init__(self, said: list[str]) -> None:
        super().__init__(Controller())
        self.said = said

    def set_retarder(self, retarder: int, value: float) -> float:
        self.said.append("set")
        return super().set_retarder(retarder, value)


def test_moves_are_told_before_the_first_and_after_the_last() -> None:
    said: list[str] = []
    flat = ((25.0, 0.0), (0.0, 25.0))
    sensitivity = Sensitivity(retarders=(1, 2), values=(0.0, 0.0), curvature=flat)
    tracking = Tracking(
        (Watched(said), Watched(said)),
        (sensitivity, sensitivity),
        TrackingSettings(),
        moving=lambda which: said.append(f"moving {which}"),
        moved=lambda best: said.append(f"moved, best {best}"),
    )
    assert not tracking.step(np.array([10, 10]), np.array([0, 0]), 1.0)
    assert said == []
    assert tracking.step(np.array([20_000, 10]), np.array([200, 0]), 10.0)
    assert said == ["moving [(0, 1), (0, 2)]", "set", "set", said[-1]]
    assert said[-1].startswith("moved, best {(0, 1): ")
