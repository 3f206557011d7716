"""The long form of the attacks: after real calibrations, on a wandering fibre, several shares, a cut fibre."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from test_live_attacks import SIGMAS, Block, Watch, decoy_ratio, error_rate, order, rows, stopped
from two_processes import change, free_port, laboratory, trial, two_nodes

BLOCK_S, BLOCKS = 6.0, 4


def measured(watch: Watch, changed: Callable[[Block], bool]) -> tuple[float, float, list[dict]]:
    """Error rate of the signal with its statistical error over some blocks after a change; their rows."""
    found = [watch.after(changed), *(watch.next() for _ in range(BLOCKS - 1))]
    rates, clicks = np.array([error_rate(block) for block in found]).T
    mean = float(np.average(rates, weights=clicks))
    return mean, float(np.sqrt(mean * (1 - mean) / clicks.sum())), [block.row for block in found]


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_attacks_at_length(tmp_path):
    folder, port = tmp_path / "link", free_port()
    trial(folder, block_s=BLOCK_S, loss_db=25.0, metrics=port)
    change(folder / "bob.toml", {"look_back_s": 60.0})
    bob_file = folder / "bob.toml"
    bob_file.write_text(
        bob_file.read_text().replace(
            "[calibration]\n", "[calibration]\nrecalibrate_qber = 0.5\nrecalibrate_blocks = 0\n", 1
        )
    )
    begun = time.monotonic()
    with laboratory(folder) as lab:
        with two_nodes(folder) as (alice, bob):
            watch = Watch(bob, port)
            bob.wait_for_keys(1)
            usual, sigma, before = measured(watch, lambda block: True)
            last = usual
            assert all(row["secret_bits"] for row in before)
            print(f"\nno Eve: {usual:.4%} +- {sigma:.4%}, {[row['secret_bits'] for row in before]} bits")
            for share in (0.05, 0.1, 0.2, 0.4):
                expected = usual + share * (0.25 - usual / 2)
                limit = (last + expected) / 2
                order(lab, f"eve intercept {share}")
                found, own, shown = measured(watch, lambda block, limit=limit: error_rate(block)[0] > limit)
                last = expected
                keys = [row["secret_bits"] for row in shown]
                print(f"intercept {share:.0%}: {found:.4%} +- {own:.4%}, expected {expected:.4%}; {keys} bits")
                assert abs(found - expected) < SIGMAS * np.hypot(own, sigma) + 0.002, "and what the fibre has wandered"
                assert share < 0.2 or not any(keys)
            order(lab, "eve intercept 0")
            order(lab, "eve splitting on")
            _, _, shown = measured(watch, lambda block: decoy_ratio(block)[0] < 0.25)
            print(f"splitting: {[row['abort'] for row in shown]}")
            assert not any(row["secret_bits"] for row in shown)
            order(lab, "eve splitting off")
            order(lab, "fibre cut")
            bob.wait_until(lambda: "no_lock" in bob.alarms())
            keys = len(bob.secret_blocks())
            joined = order(lab, "fibre join")
            bob.wait_for_keys(keys + 1)
            print(f"key again {time.time() - joined:.0f} s after the fibre was joined; alarms so far {bob.alarms()}")
            resting = len(bob.secret_blocks())
            shown = stopped(lab, "eve blinding on", alice, bob, watch)
            assert shown["codes"] == (3, 3)
            burned = [row for row in rows(shown["runs"][1]) if row.get("discarded")]
            print(f"blinding: alarm after {shown['after_s']:.1f} s, {len(burned)} of {resting} keys discarded")
            assert burned
        order(lab, "eve blinding off")
        with two_nodes(folder) as (alice, bob):
            bob.wait_for_keys(2)
            order(lab, "eve shift_ps 110")
            shown = stopped(lab, "eve shift_share 1", alice, bob, Watch(bob, port))
            print(f"time shift: {shown['security'][1]} after {shown['after_s']:.1f} s")
            assert set(shown["security"][1]) & {"unequal_detectors", "delay_moved"}
            assert shown["codes"] == (3, 3)
    print(f"{time.monotonic() - begun:.0f} s")
