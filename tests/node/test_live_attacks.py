"""An eavesdropper between two running nodes: alarms, or error rates and yields of theory, and never a key from it.

One laboratory and two ``qkdpp run``; Eve is switched by the laboratory's control lines while blocks are made. The
instruments stand as a calibration leaves them, so that no time goes into calibrating again.
"""

import contextlib
import json
import math
import sqlite3
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from two_processes import NodeProcess, change, free_port, laboratory, trial, two_nodes

from qkdpp.keystore.look import stock
from qkdpp.scenarios.scenario_file import load
from qkdpp_drivers.sim.lab import build_world, read_lab

pytestmark = pytest.mark.xdist_group("live")

BLOCK_S = 3.0
PLAN = load("backbone-625mhz")
MU, P = np.array(PLAN.source.intensities), np.array(PLAN.source.p_intensity)
SHARE, SHIFT_PS, STRAY_HZ = 0.3, 110.0, 20_000.0
LOW_HZ, HIGH_HZ = 54_000.0, 72_000.0
"""Below and above the 61,000 detections a second without Eve."""
GATE_FWHM_PS = 180.0
SIGMAS = 4.5


@dataclass(frozen=True)
class Block:
    """What one block shows: its row, and clicks of equal bases and their error rates by intensity and basis."""

    row: dict
    clicks: np.ndarray
    qber: np.ndarray

    @property
    def yields(self) -> np.ndarray:
        """Clicks by intensity over its probability, with the standard deviation."""
        clicks = self.clicks.sum(axis=1)
        return np.array([clicks / P, np.sqrt(clicks) / P])


class Watch:
    """Blocks of a running Bob, from his metrics and rows."""

    def __init__(self, bob: NodeProcess, port: int) -> None:
        self.bob, self.port = bob, port
        self.counts, self.n = np.zeros((MU.size, 2)), 0

    def scrape(self) -> dict[tuple[str, ...], float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return {
            (s.name, *(v for k, v in sorted(s.labels.items()) if k != "link")): s.value
            for family in text_string_to_metric_families(text)
            for s in family.samples
        }

    def pool_bytes(self) -> float:
        return self.scrape()["qkdpp_auth_key_available_bytes",]

    def table(self, name: str, found: dict[tuple[str, ...], float]) -> np.ndarray:
        return np.array([[found.get((name, basis, f"{mu:g}"), 0.0) for basis in "ZX"] for mu in MU])

    def next(self) -> Block:
        """The next block that ends."""
        while True:
            self.bob.wait_until(lambda: len(self.bob.blocks()) > self.n)
            found = self.scrape()
            counts = self.table("qkdpp_sifted_events_total", found)
            n = round(sum(value for key, value in found.items() if key[0] == "qkdpp_blocks_total"))
            one, clicks = n == self.n + 1, counts - self.counts
            self.counts, self.n = counts, n
            if one:
                return Block(self.bob.blocks()[n - 1], clicks, self.table("qkdpp_qber_ratio", found))

    def after(self, changed: Callable[[Block], bool]) -> Block:
        """The block that follows the first one in which a change shows: all of its tags came afterwards."""
        while not changed(self.next()):
            pass
        return self.next()


def order(lab, line: str) -> float:
    print(line, file=lab.stdin, flush=True)
    return time.time()


def prepared(folder, port: int) -> None:
    trial(folder, block_s=BLOCK_S, loss_db=25.0, metrics=port)
    change(folder / "lab.toml", {"wander_rad_per_sqrt_s": 0.0})
    change(folder / "bob.toml", {"look_back_s": 300.0})
    for name, section, line in (
        ("lab", "world", "aligned_ps = 60.0"),
        ("bob", "calibration", "recalibrate_qber = 0.5\nrecalibrate_blocks = 0"),
        ("bob", "alarms", f"dark_hz = {STRAY_HZ / 2}\nrate_low_hz = {LOW_HZ}\nrate_high_hz = {HIGH_HZ}"),
    ):
        path = folder / f"{name}.toml"
        path.write_text(path.read_text().replace(f"[{section}]\n", f"[{section}]\n{line}\n", 1))


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Everything that one session with four attacks shows."""
    folder, port = tmp_path_factory.mktemp("attacks") / "link", free_port()
    prepared(folder, port)
    found = {"folder": folder}
    with laboratory(folder) as lab:
        with two_nodes(folder, "--no-calibrate") as (alice, bob):
            watch = Watch(bob, port)
            found["honest"] = watch.next(), watch.next()
            found["quiet"] = alice.alarms() + bob.alarms()
            order(lab, f"eve intercept {SHARE}")
            found["intercept"] = watch.after(lambda block: error_rate(block)[0] > 0.03)
            order(lab, "eve intercept 0")
            order(lab, "eve splitting on")
            found["splitting"] = watch.after(lambda block: decoy_ratio(block)[0] < 0.25)
            order(lab, "eve splitting off")
            found["pulled"] = pulled(lab, bob, watch)
            found["blinding"] = stopped(lab, "eve blinding on", alice, bob, watch)
        order(lab, "eve blinding off")
        order(lab, "stray 0")
        with two_nodes(folder, "--no-calibrate") as (alice, bob):
            bob.wait_for_keys(1)
            order(lab, f"eve shift_ps {SHIFT_PS}")
            found["shift"] = stopped(lab, "eve shift_share 1", alice, bob, Watch(bob, port))
    return found


def pulled(lab, bob: NodeProcess, watch: Watch) -> dict:
    """A current meter without its cable for two blocks and a half, then stray light."""
    epoch = bob.blocks()[-1]["epoch"]
    order(lab, "fault bob/current-X0 disconnect")
    bob.wait_until(lambda: "no_current" in bob.alarms())
    ended = len(bob.blocks())
    time.sleep(2.5 * BLOCK_S)
    ended = len(bob.blocks()) - ended
    order(lab, f"stray {STRAY_HZ}")
    order(lab, "mend bob/current-X0 disconnect")
    bob.wait_until(lambda: "dark_counts" in bob.alarms() and bob.blocks()[-1]["epoch"] > epoch)
    return {"ended": ended, "alarms": bob.alarms(), "security": bob.security()}


def stopped(lab, line: str, alice: NodeProcess, bob: NodeProcess, watch: Watch) -> dict:
    """An attack that both nodes must answer with a security alarm, and what they do for two blocks afterwards."""
    begun = order(lab, line)
    bob.wait_until(bob.security)
    after_s = time.time() - begun
    alice.wait_until(alice.security)
    time.sleep(1.0)
    quiet = len(bob.blocks()), watch.pool_bytes()
    time.sleep(2 * BLOCK_S)
    return {
        "after_s": after_s,
        "security": (alice.security(), bob.security()),
        "alarms": bob.alarms(),
        "quiet": (quiet, (len(bob.blocks()), watch.pool_bytes())),
        "runs": [max((alice.folder / "runs").glob(f"{name}-*")) for name in ("alice", "bob")],
        "codes": (bob.stop(), alice.stop()),
        "said": (bob.errors.read_text(), alice.errors.read_text()),
    }


def rows(run) -> list[dict]:
    return [json.loads(line) for line in (run / "blocks.jsonl").read_text().splitlines()]


def error_rate(block: Block) -> tuple[float, float]:
    """Error rate of the signal over both bases, and clicks."""
    clicks = block.clicks[0]
    return float((block.qber[0] * clicks).sum() / clicks.sum()), float(clicks.sum())


def assert_rate(found: float, expected: float, n: float) -> None:
    assert abs(found - expected) < SIGMAS * math.sqrt(expected * (1 - expected) / n), (found, expected, n)


def test_without_eve_there_are_keys_and_silence(seen):
    assert all(block.row["secret_bits"] > 0 for block in seen["honest"])
    assert seen["quiet"] == []


def test_intercept_and_resend_costs_a_quarter_of_its_share_and_no_photon(seen):
    """E = E0 + f (1/4 - E0/2): where Eve has chosen the wrong basis (one half), half of the bits are wrong."""
    shown = seen["intercept"]
    before, n = np.mean([error_rate(block) for block in seen["honest"]], axis=0)
    found, n = error_rate(shown)
    expected = before + SHARE * (0.25 - before / 2)
    print(f"intercept: error rate {found:.4f}, expected {expected:.4f}")
    assert_rate(found, expected, n)
    usual = seen["honest"][1].yields
    assert (np.abs(shown.yields[0] - usual[0]) < SIGMAS * np.hypot(shown.yields[1], usual[1])).all()
    assert shown.row["secret_bits"] == 0
    assert shown.row["abort"]


def decoy_ratio(block: Block) -> tuple[float, float]:
    """Yield of the decoy over that of the signal, noise taken off, and its standard deviation."""
    (signal, decoy, vacuum), error = block.yields
    ratio = (decoy - vacuum) / (signal - vacuum)
    return ratio, math.hypot(error[1], error[2]) / (signal - vacuum) + ratio * error[0] / signal


def several_sent_on(mu: float, detected: float) -> float:
    """Click probability if Eve keeps one photon, sends the others on without loss, and blocks single ones."""
    term, total = math.exp(-mu) * mu, 0.0
    for n in range(2, 40):
        term *= mu / n
        total += term * (1 - (1 - detected) ** (n - 1))
    return total


def test_photon_number_splitting_shows_in_the_yields_of_the_decoys(seen):
    """Y(decoy)/Y(signal) goes from (1 - exp(-mu2 T))/(1 - exp(-mu1 T)) to S(mu2)/S(mu1), noise taken off."""
    receiver = PLAN.bob.receiver
    detected = float(np.mean(receiver.efficiency)) * 10 ** (-receiver.loss_db / 10)
    expected = {
        "honest": (1 - math.exp(-MU[1] * detected * 10**-2.5)) / (1 - math.exp(-MU[0] * detected * 10**-2.5)),
        "splitting": several_sent_on(MU[1], detected) / several_sent_on(MU[0], detected),
    }
    for name, block in (("honest", seen["honest"][1]), ("splitting", seen["splitting"])):
        ratio, sigma = decoy_ratio(block)
        print(f"{name}: decoy over signal {ratio:.4f}, expected {expected[name]:.4f}, sigma {sigma:.4f}")
        assert abs(ratio - expected[name]) < SIGMAS * sigma
    assert seen["splitting"].row["secret_bits"] == 0
    assert seen["splitting"].row["abort"] in ("no_key_left", "implausible_counts")


def test_no_block_begins_while_a_current_is_unknown_and_an_epoch_begins_when_it_is_back(seen):
    assert seen["pulled"]["ended"] <= 1, "what was under way"
    assert seen["pulled"]["security"] == []


def test_warnings_are_raised_on_the_way(seen):
    """By intercepted pulses, a pulled cable, stray light, and pulses that miss their gates."""
    assert {"qber_warning", "no_current", "dark_counts", "rate_high"} <= set(seen["pulled"]["alarms"])
    assert "rate_low" in seen["shift"]["alarms"]


@pytest.mark.parametrize(
    ("name", "alarms"), [("blinding", {"detector_current"}), ("shift", {"unequal_detectors", "delay_moved"})]
)
def test_a_security_alarm_stops_both_nodes(seen, name, alarms):
    shown = seen[name]
    alice, bob = shown["security"]
    assert set(bob) & alarms
    assert alice == [f"peer_{bob[0]}"]
    before, after = shown["quiet"]
    assert before == after, "no block, no pad of the pool"
    assert shown["codes"] == (3, 3)
    assert all("stop both nodes, then start both" in text for text in shown["said"])
    for run in shown["runs"]:
        keys = [row for row in rows(run) if row["secret_bits"]]
        assert keys
        assert {row["discarded"] for row in keys} == {bob[0]}
        table = (run / "blocks.csv").read_text().splitlines()
        assert len(table) == 1 + len(rows(run))
        assert sum(f",{bob[0]}," in line for line in table) == len(keys)


def test_blinding_is_seen_within_a_second_or_two(seen):
    assert seen["blinding"]["after_s"] < 5.0


def test_nothing_of_it_can_be_given_out(seen):
    for name in ("alice", "bob"):
        with contextlib.closing(sqlite3.connect(seen["folder"] / f"{name}.store" / "keys.sqlite")) as db:
            log = [words for (words,) in db.execute("SELECT sae FROM event WHERE kind = 'burned'")]
        blocks = {row["block"] for run in seen["blinding"]["runs"] for row in rows(run) if row["secret_bits"]}
        assert {f"block {block}: detector_current" for block in blocks} <= set(log)
        _, (link,), broken = stock(seen["folder"] / f"{name}.store")
        assert broken is None
        assert (link.available, link.incoming, link.resting, link.pending) == (0, 0, 0, 0)
        assert link.totals["burned"] > 0


def test_the_time_shift_was_large_enough_to_be_seen(seen):
    """Gates of 180 ps: efficiencies exp(-4 ln 2 (d + s)^2 / w^2), d how far a gate lies from its optimum."""
    world = build_world(read_lab(seen["folder"] / "lab.toml"))
    late = np.array([d.gate_optimum_ps for d in world.knobs.detectors]) + SHIFT_PS
    efficiency = np.exp(-4 * math.log(2) * (late / GATE_FWHM_PS) ** 2).reshape(2, 2)
    off = np.abs(efficiency[:, 0] - efficiency[:, 1]) / efficiency.sum(axis=1)
    print(f"detectors differ by {off}")
    assert off.max() > 0.1
