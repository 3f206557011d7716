"""Alarms at their thresholds: just below nothing, just above the right one."""

import numpy as np
import pytest

from qkdpp.core.abort import AbortReason
from qkdpp.node.monitors import (
    AlarmSettings,
    BlockFigures,
    Board,
    Level,
    judge_block,
    judge_currents,
    judge_darks,
    judge_delays,
    judge_state,
)

SETTINGS = AlarmSettings()


def figures(**changes: object) -> BlockFigures:
    usual: dict[str, object] = {
        "seconds": 10.0,
        "detections": np.array([50_000, 50_100, 49_900, 50_050]),
        "efficiency": np.ones(4),
        "double_clicks": 3,
        "slots": 6_250_000_000,
        "lost_share": 0.0,
        "tested": np.array([[5000, 40_000], [900, 5000], [20, 100]]),
        "wrong": np.array([[60, 480], [12, 70], [10, 50]]),
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
    assert names(aborted=AbortReason.AUTHENTICATION_FAILED) == ["authentication_failed"]
    assert names(aborted=AbortReason.QBER_TOO_HIGH) == ["qber_high"]
    high = AlarmSettings(rate_high_hz=1000.0)
    assert [a.name for a in judge_block(figures(), high)] == ["rate_high"]


def test_darks_locks_and_pool() -> None:
    assert judge_darks([300, 5000], SETTINGS) == []
    assert [a.name for a in judge_darks([300, 5000], AlarmSettings(dark_hz=1000))] == ["dark_counts"]
    assert judge_state(lost_locks=1, pool_tags=100, settings=SETTINGS) == []
    assert [a.name for a in judge_state(lost_locks=2, pool_tags=99, settings=SETTINGS)] == ["no_lock", "pool_low"]


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
