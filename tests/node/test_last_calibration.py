"""A start soon after goes on with the last calibration, unless instruments, configuration or time say otherwise."""

import os
import time

import numpy as np
import pytest
from laboratory import Squeezers

from qkdpp.node import calibration
from qkdpp.node.calibrate.delay_scan import DelayScan
from qkdpp.node.calibration import Bench, Calibrator, readings
from qkdpp.node.config import CalibrationSection
from qkdpp.node.last_calibration import CalibrationFile, LastCalibration
from qkdpp.node.monitors import AlarmSettings
from qkdpp.timing.pulsed import PulsedParams
from qkdpp_drivers.sim.world.polarisation import Controller

LAST = LastCalibration(
    asked="this", readings={"delay 0": 10.0}, delays_ps=[1.0, 2.0, 3.0, 4.0], known_delay_ticks={1: 5}
)


def aged(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)


def test_it_holds_for_the_same_question_the_same_settings_and_some_time(tmp_path):
    path = tmp_path / "bob.calibration.json"
    kept = CalibrationFile(path, 60.0)
    assert kept.load("this", {"delay 0": 10.0}) is None
    kept.save(LAST)
    assert kept.load("this", {"delay 0": 10.0}) == LAST
    assert kept.load("other", {"delay 0": 10.0}) is None
    assert kept.load("this", {"delay 0": 10.5}) is None
    aged(path, 61.0)
    assert kept.load("this", {"delay 0": 10.0}) is None
    kept.confirm()
    assert kept.load("this", {"delay 0": 10.0}) == LAST
    aged(path, -100.0)
    assert kept.load("this", {"delay 0": 10.0}) is None, "from the future"
    kept.discard()
    kept.confirm()
    assert not path.exists()


def test_nothing_is_kept_without_a_time_and_nothing_read_from_half_a_file(tmp_path):
    path = tmp_path / "bob.calibration.json"
    CalibrationFile(path, 0.0).save(LAST)
    assert not path.exists()
    path.write_bytes(b'{"asked": "th')
    assert CalibrationFile(path, 60.0).load("this", {"delay 0": 10.0}) is None


def test_what_tracking_moves_is_where_the_instruments_must_stand_and_no_more_time_is_won(tmp_path):
    path = tmp_path / "bob.calibration.json"
    kept = CalibrationFile(path, 60.0)
    kept.save(LAST)
    aged(path, 50.0)
    kept.follow({"delay 0": 11.0}, {})
    assert kept.load("this", {"delay 0": 10.0}) is None
    assert kept.load("this", {"delay 0": 11.0}) is not None
    assert time.time() - path.stat().st_mtime > 45.0
    kept.discard()
    kept.follow({"delay 0": 12.0}, {})
    assert not path.exists()


def test_a_kill_while_tracking_moves_an_instrument_costs_no_calibration(tmp_path):
    path = tmp_path / "bob.calibration.json"
    kept = CalibrationFile(path, 60.0)
    kept.save(LAST)
    kept.follow({"delay 0": 10.0, "retarder 0.1": 1.0, "retarder 0.2": 2.0}, {})
    aged(path, 50.0)
    kept.moving(["retarder 0.1"])
    assert kept.load("this", {"delay 0": 10.0, "retarder 0.1": 1.0, "retarder 0.2": 2.0}) is not None
    assert kept.load("this", {"delay 0": 10.0, "retarder 0.1": 1.1, "retarder 0.2": 2.0}) is not None
    assert kept.load("this", {"delay 0": 10.0, "retarder 0.1": 1.1, "retarder 0.2": 2.1}) is None, "not by tracking"
    assert kept.load("this", {"delay 0": 10.0, "retarder 0.2": 2.0}) is None
    assert time.time() - path.stat().st_mtime > 45.0
    kept.follow({"delay 0": 10.0, "retarder 0.1": 1.2, "retarder 0.2": 2.0}, {})
    assert kept.load("this", {"delay 0": 10.0, "retarder 0.1": 1.1, "retarder 0.2": 2.0}) is None


class Gates:
    """A delay generator whose settings stay when the node is killed."""

    def __init__(self):
        self.values = dict.fromkeys("ABCD", 0.0)
        self.controllers = (Squeezers(Controller()), Squeezers(Controller()))

    def delay_ps(self, channel):
        return self.values[channel]


@pytest.fixture
def killed_and_started(tmp_path, monkeypatch):
    """Makes a new calibrator on the same instruments; ``scans`` counts the delay scans of all."""
    gates, scans = Gates(), []

    def scan(delays, counting, ask, settings, progress):
        scans.append(settings)
        gates.values = dict.fromkeys("ABCD", 40.0 + len(scans))
        steps = np.tile(np.arange(0.0, 800.0, 100.0), (4, 1))
        counts, rest = np.ones((4, 8), dtype=int), (0.0,) * 4
        return DelayScan(before_ps=rest, delay_ps=steps, counts=counts, best_ps=rest, failed=())

    monkeypatch.setattr(calibration, "scan_delays", scan)
    monkeypatch.setattr(calibration.plots, "plot_delay_scan", lambda found, path: None)
    bench = Bench(tagger=None, gate_delays={d: (gates, "ABCD"[d]) for d in range(4)}, controllers=gates.controllers)
    timing = PulsedParams(
        method="sync",
        pulse_period_as=10**9,
        detector_of_channel={1: 0, 2: 1, 3: 2, 4: 3},
        gate_ps=500.0,
        dead_time_ns=0.0,
    )

    def start(**section):
        return Calibrator(
            bench,
            CalibrationSection(steps=("delay",), **section),
            alarms=AlarmSettings(),
            timing=timing,
            now=time.monotonic,
            folder=tmp_path,
            kept=CalibrationFile(tmp_path / "bob.calibration.json", 60.0),
            alarmed=lambda found: None,
        )

    return start, scans, gates


def test_a_killed_node_does_not_scan_again(killed_and_started):
    start, scans, _ = killed_and_started
    first = start().run(lambda mode: 0, "start")
    assert start().run(lambda mode: 0, "start") == first
    assert start().run(lambda mode: 0, "link") == first
    assert len(scans) == 1


def test_a_killed_node_goes_on_from_the_best_setting_and_not_from_what_tracking_tried(killed_and_started, tmp_path):
    start, scans, gates = killed_and_started
    start().run(lambda mode: 0, "start")
    kept = CalibrationFile(tmp_path / "bob.calibration.json", 60.0)
    kept.moving(["retarder 0.2", "retarder 1.4"])
    gates.controllers[0].set_retarder(2, 300.0)
    gates.controllers[1].set_retarder(4, -200.0)
    bench = Bench(tagger=None, gate_delays={d: (gates, "ABCD"[d]) for d in range(4)}, controllers=gates.controllers)
    kept.follow(readings(bench), {"retarder 0.2": 120.0, "retarder 1.4": -80.0})
    for _ in range(2):
        start().run(lambda mode: 0, "start")
        assert gates.controllers[0].retarder(2) == 120.0
        assert gates.controllers[1].retarder(4) == -80.0
    assert gates.controllers[0].retarder(1) == 0.0
    assert len(scans) == 1


@pytest.mark.parametrize("what", ["reason", "configuration", "setting", "unfinished"])
def test_it_scans_again_where_something_has_changed(killed_and_started, what, monkeypatch):
    start, scans, gates = killed_and_started
    start().run(lambda mode: 0, "start")
    reason, section = "start", {}
    if what == "reason":
        reason = "QBER 7.00%"
    elif what == "configuration":
        section = {"delay": CalibrationSection().delay.__class__(step_ps=20.0)}
    elif what == "setting":
        gates.values["B"] += 5.0
    else:
        calibrator = start()
        with monkeypatch.context() as patch:
            patch.setattr(calibration, "scan_delays", None)
            with pytest.raises(TypeError):
                calibrator.run(lambda mode: 0, "no lock")
    start(**section).run(lambda mode: 0, reason)
    assert len(scans) == 2
