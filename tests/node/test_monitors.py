"""Alarms at their thresholds: just below nothing, just above the right one."""

from typing import SupportsIndex

import numpy as np
import pytest

from qkdpp.core.abort import AbortReason
from qkdpp.node.monitors import (
    Alarm,
    AlarmSettings,
    BlockFigures,
    Board,
    Level,
    judge_abort,
    judge_block,
    judge_currents,
    judge_darks,
    judge_delays,
    judge_state,
    shown_over,
)
from qkdpp.node.node import taken

SETTINGS = AlarmSettings()


def figures(**changes: object) -> BlockFigures:
    usual: dict[str, object] = {
        "seconds": 10.0,
        "detections": np.array([50_000, 50_100, 49_900, 50_050]),
        "efficiency": np.ones(4),
        "double_clicks": 3,
        "doubles_due": 2.4,
        "lost_share": 0.0,
        "tested": np.array([[5000, 40_000], [900, 5000], [20, 100]]),
        "wrong": np.array([[60, 480], [12, 70], [10, 50]]),
        "noise": np.array([[40.0, 40.0], [20.0, 20.0], [20.0, 100.0]]),
        "dark_hz": (300.0, 310.0, 290.0, 5000.0),
    }
    return BlockFigures(**(usual | changes))  # type: ignore[arg-type]


def names(**changes: object) -> list[str]:
    return [alarm.name for alarm in judge_block(figures(**changes), SETTINGS)]


def test_an_ordinary_block_is_quiet() -> None:
    assert names() == []


@pytest.mark.parametrize(
    ("current_a", "alarmed"), [(19.9e-6, False), (20.1e-6, True), (-30e-6, True), (float("nan"), True)]
)
def test_the_current_of_a_blinded_detector(current_a: float, alarmed: bool) -> None:
    found = judge_currents({"Z0": 1e-7, "Z1": current_a}, SETTINGS)
    assert [alarm.level for alarm in found] == [Level.SECURITY] * alarmed
    assert all("Z1" in alarm.message for alarm in found)


def test_a_delay_that_moved_by_more_than_thirty_picoseconds() -> None:
    assert judge_delays([0, 10, 20, 30], [29, -19, 20, 59], SETTINGS) == []
    (alarm,) = judge_delays([0, 10, 20, 30], [0, 10, 51, 30], SETTINGS)
    assert alarm.level is Level.SECURITY
    assert "X0 by +31 ps" in alarm.message


def test_unequal_detectors_unless_their_efficiencies_explain_it_or_counts_are_few() -> None:
    unequal = np.array([60_000, 40_000, 50_000, 50_000])
    assert names(detections=unequal) == ["unequal_detectors"]
    assert names(detections=unequal, efficiency=np.array([0.6, 0.4, 0.5, 0.5])) == []
    assert names(detections=np.array([60, 40, 50, 50])) == []


def test_rates_doubles_errors_and_losses() -> None:
    assert names(detections=np.zeros(4, dtype=np.int64)) == ["rate_low"]
    assert names(double_clicks=500) == ["double_clicks"]
    assert names(wrong=np.array([[60, 2000], [12, 70], [10, 50]])) == ["qber_warning"]
    assert names(lost_share=0.11) == ["data_loss"]
    assert [a.name for a in judge_abort(AbortReason.AUTHENTICATION_FAILED)] == ["authentication_failed"]
    assert [a.name for a in judge_abort(AbortReason.QBER_TOO_HIGH)] == ["qber_high"]
    assert judge_abort(AbortReason.NO_KEY_LEFT) == []
    high = AlarmSettings(rate_high_hz=1000.0)
    assert [a.name for a in judge_block(figures(), high)] == ["rate_high"]


@pytest.mark.parametrize(
    ("intensity", "basis", "wrong", "warned"),
    [(1, 1, 240, False), (1, 1, 360, True), (1, 0, 150, True), (2, 1, 90, False)],
)
def test_an_early_warning_looks_at_every_basis_and_intensity(
    intensity: int, basis: int, wrong: int, *, warned: bool
) -> None:
    """5000 clicks of a decoy: 40 of every thousand of its light and half of its 20 noise clicks may err."""
    cells = figures().wrong.copy()
    cells[intensity, basis] = wrong
    found = judge_block(figures(wrong=cells), SETTINGS)
    assert [a.name for a in found] == ["qber_warning"] * warned
    assert all(f"intensity {intensity}" in a.message and f"basis {'ZX'[basis]}" in a.message for a in found)


def test_darks_locks_and_pool() -> None:
    assert judge_darks([300, 5000], SETTINGS) == []
    (alarm,) = judge_block(figures(), AlarmSettings(dark_hz=1000))
    assert (alarm.name, "X1 5000" in alarm.message, "Z0" in alarm.message) == ("dark_counts", True, False)
    assert judge_state(lost_locks=1, pool_tags=100, settings=SETTINGS) == []
    assert [a.name for a in judge_state(lost_locks=2, pool_tags=99, settings=SETTINGS)] == ["no_lock", "pool_low"]


def test_an_alarm_that_comes_while_others_are_taken_is_not_lost() -> None:
    def alarm(name: str) -> Alarm:
        return Alarm(name=name, level=Level.SECURITY, message="", remedy="")

    class Busy(list[Alarm]):
        """Another thread appends whenever something is taken."""

        def pop(self, at: SupportsIndex = -1) -> Alarm:
            self.append(alarm("late"))
            return super().pop(at)

    pending = Busy([alarm("one"), alarm("two")])
    assert [found.name for found in taken(pending)] == ["one", "two"]
    assert [left.name for left in pending] == ["late", "late"]


@pytest.mark.parametrize("judged", [True, False])
def test_an_error_rate_that_was_too_high_is_over_with_the_next_key_also_where_nothing_is_detected(judged: bool) -> None:
    board = Board()
    board.see(judge_abort(AbortReason.QBER_TOO_HIGH))
    board.see([], cleared=shown_over(key=False, judged=judged))
    assert list(board.standing) == ["qber_high"]
    board.see([], cleared=shown_over(key=True, judged=judged))
    assert not board.standing


def test_a_security_alarm_stands_until_a_person_confirms_it() -> None:
    board = Board()
    warning = judge_block(figures(lost_share=0.5), SETTINGS)
    grave = judge_currents({"Z0": 1e-4}, SETTINGS)
    assert board.see(warning + grave) == warning + grave
    assert board.see(warning + grave) == []
    assert board.key_stopped
    board.see([], cleared=["data_loss", "detector_current"])
    assert list(board.standing) == ["detector_current"]
    board.confirm("detector_current")
    assert not board.key_stopped
