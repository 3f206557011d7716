"""Two links side by side on the same wandering fibre, a laboratory and two processes each: one tracks, one does not."""

import contextlib
import time

import numpy as np
import pytest
from two_processes import change, free_port, laboratory, trial, two_nodes

SECONDS = 240.0
WANDER = 0.015
"""Adds 0.015^2 t / 2 to the error rate of who does not follow: 2.7 % after four minutes, on average.

Three times as fast as the trackers take it to be."""


def link(folder, *, tracked):
    trial(folder, block_s=6.0, loss_db=30.0, metrics=free_port())
    change(folder / "lab.toml", {"wander_rad_per_sqrt_s": WANDER})
    tracking = (
        f"recalibrate_qber = 0.5\nrecalibrate_blocks = 0\n\n[calibration.tracking]\non = {str(tracked).lower()}\n\n"
    )
    text = (folder / "bob.toml").read_text()
    (folder / "bob.toml").write_text(text.replace("[calibration.delay]\n", f"{tracking}[calibration.delay]\n", 1))
    return folder


def rates(bob):
    return [e["qber"] for e in bob.events() if e["event"] == "block" and e.get("qber") is not None]


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_link_that_follows_keeps_its_error_rate_and_one_that_does_not_loses_it(tmp_path):
    with contextlib.ExitStack() as stack:
        nodes = {}
        for tracked in (True, False):
            folder = link(tmp_path / f"tracked-{tracked}", tracked=tracked)
            stack.enter_context(laboratory(folder))
            nodes[tracked] = stack.enter_context(two_nodes(folder))
        deadline = time.monotonic() + 300.0
        while not all(rates(bob) for _, bob in nodes.values()):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        time.sleep(SECONDS)
        found = {tracked: np.array(rates(bob)) for tracked, (_, bob) in nodes.items()}
        logs = {tracked: (bob.run / "log.jsonl").read_text() for tracked, (_, bob) in nodes.items()}
        alarms = {
            tracked: {e["name"] for e in bob.events() if e["event"] == "alarm"} for tracked, (_, bob) in nodes.items()
        }
        assert all(node.stop() == 0 for pair in nodes.values() for node in reversed(pair))
    for tracked, qber in found.items():
        print(f"\ntracked {tracked}: {len(qber)} blocks, QBER {qber.round(4).tolist()}, alarms {alarms[tracked]}")
    assert "follows the fibre" in logs[True]
    assert "follows the fibre" not in logs[False]
    floor = min(np.sort(qber)[:3].mean() for qber in found.values())
    more = {tracked: qber[-len(qber) // 2 :].mean() - floor for tracked, qber in found.items()}
    print(f"second half, above the best: {more}")
    assert more[False] > 0.01, "the fibre has not wandered"
    assert more[True] < 0.6 * more[False]
    assert "delay_moved" not in alarms[True] | alarms[False]
