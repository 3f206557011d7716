"""Hand-made reports: the numbers are plausible, none comes from the program."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest

DETECTORS = ["Z0", "Z1", "X0", "X1"]


def _clock() -> dict[str, Any]:
    time_s = [0.1 * i for i in range(100)]
    return {
        "method": "string",
        "time_s": time_s,
        "offset_s": [1.2e-3 + 3e-6 * t + 2e-10 * math.sin(t) for t in time_s],
        "rate_ppm": [3.0 + 1e-3 * math.cos(t) for t in time_s],
        "residual_rms_ps": 41.5,
        "significance": 23.4,
        "locked_share": 0.998,
        "notes": ["two slices of 10 ms were left out"],
    }


def _histogram(n: int, peak: float, centre: float, width: float, floor: float) -> tuple[list[float], list[int]]:
    edges = [-1000.0 + 2000.0 * i / n for i in range(n + 1)]
    middle = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
    return edges, [round(floor + peak * math.exp(-(((m - centre) / width) ** 2))) for m in middle]


def _plots(bbm92: bool) -> dict[str, Any]:
    edges, counts = _histogram(200, 50_000, 0.0, 150.0, 20)
    fine, pair = _histogram(120, 400, 250.0, 60.0, 5)
    time_s = [0.1 * i for i in range(100)]
    return {
        "arrival": None
        if bbm92
        else {"detectors": DETECTORS, "edge_ps": edges, "counts": [counts] * 4, "gate_ps": 800},
        "pairs": {
            "edge_ps": fine,
            "counts": [[pair if a // 2 == b // 2 else [c // 4 for c in pair] for b in range(4)] for a in range(4)],
            "coincidence": {"edge_ps": edges, "counts": counts},
            "window_ps": 1000,
        }
        if bbm92
        else None,
        "series": {
            "time_s": time_s,
            "detections_per_s": [170_000 + 500 * math.sin(t) for t in time_s],
            "sifted_per_s": [97_000 for _ in time_s],
            "qber": [0.0436 + 0.001 * math.cos(t) for t in time_s],
        },
        "waterfall": [
            {"name": "tags", "count": 10_000_000},
            {"name": "gated", "count": 8_200_000},
            {"name": "sifted", "count": 3_100_000},
            {"name": "corrected", "count": 3_100_000},
            {"name": "secret", "count": 1_234_567},
        ],
    }


def _report() -> dict[str, Any]:
    return {
        "format": 1,
        "protocol": "bb84",
        "run": {"name": "metro link", "from_s": 0.0, "to_s": 10.0, "duration_s": 10.0},
        "claim": {
            "level": "estimate",
            "failed": [
                {
                    "name": "phase_randomised",
                    "kind": "declared",
                    "value": None,
                    "threshold": None,
                    "explanation": "pulses carry independent random phases",
                },
                {
                    "name": "detector_balance",
                    "kind": "checked",
                    "value": 0.27,
                    "threshold": 0.05,
                    "explanation": "the two detectors of a basis count alike",
                },
            ],
            "passed": [
                {"name": "double_clicks", "kind": "checked", "value": 1e-4, "threshold": 1e-3, "explanation": "rare"}
            ],
        },
        "tags_read": {"alice": None, "bob": 10_000_000},
        "lost_tags": {"alice": None, "bob": {"intervals": 17, "seconds": 0.02, "reported_by_instrument": 4000}},
        "reading": {"alice": None, "bob": ["the last record was cut"]},
        "clock": _clock(),
        "delays_ps": {"alice": None, "bob": {"Z0": -12.5, "Z1": 3.0, "X0": 7.25, "X1": 2.0}},
        "detections": 8_200_000,
        "counters": {"tags_by_channel": {"1": 4_000_000, "2": 6_000_000}, "detector_tags": 10_000_000, "matched": 8},
        "key_basis_bits": 3_000_000,
        "mismatched_basis": {"n": 360_000},
        "sent": {"pulses": 625_000_000, "by_intensity_basis_bit": [[[1, 2], [3, 4]]]},
        "not_held": 0,
        "sifted_bits": 3_100_000,
        "qber": {
            "total": 0.0053,
            "by_basis": {"Z": 0.0051, "X": 0.0061},
            "by_intensity": [
                {"intensity": 0.4, "n_z": 3_000_000, "qber_z": 0.0051, "n_x": 300_000, "qber_x": 0.006},
                {"intensity": 0.1, "n_z": 100_000, "qber_z": 0.011, "n_x": 9_000, "qber_x": 0.012},
                {"intensity": 0.0, "n_z": 12, "qber_z": 0.5, "n_x": 0, "qber_x": None},
            ],
        },
        "matrix": [
            [1_500_000, 7_000, 90_000, 91_000],
            [8_000, 1_510_000, 92_000, 90_500],
            [9, 8, 700, 4],
            [7, 9, 3, 650],
        ],
        "rule": "public_errors",
        "leak_ec_bits": 160_321,
        "leak_by_rule": {"public_errors": 160_321, "both": 310_450},
        "leak_alice_bits": 160_321,
        "leak_bob_bits": 160_321,
        "f_ec": 1.083,
        "f_total": 2.166,
        "verification_bits": 51,
        "auth_bits_used": 640,
        "auth": {"pool": "throw-away", "tags": 5, "eps_auth_spent": 2.1e-33},
        "secret_bits": 1_234_567,
        "test_bits": 0,
        "net_secret_bits": 1_233_927,
        "secret_bits_asymptotic": 1_502_000,
        "secret_bits_by_rule": {"public_errors": 1_234_567, "both": 1_084_438},
        "key_length": {
            "formula": "s1 (1 - h(phi)) - leak - 2 log2(1 / (2 eps_PA)) - verification",
            "profile": "V",
            "single_photon_bits": 1_650_000.0,
            "phase_error_upper": 0.0174,
            "terms": {"single photons": 1_650_000.0, "phase error": -210_000.0, "leak_ec_bits": -160_321.0},
            "bounds": [{"name": "n_Z signal", "inequality": "KL", "eps": 4.8e-23}],
            "detections_needed": 410_000,
            "notes": ["vacuum detections are not credited"],
        },
        "eps_total": 1.01e-10,
        "eps_accumulated_year": 3.2e-4,
        "accumulated": {"blocks_per_year": 3_155_760, "hops": 3, "eps_year": 9.6e-4},
        "mismatch": {
            "efficiencies": {"bob": [0.6, 0.58, 0.6, 0.59]},
            "tolerance": 0.02,
            "corrected": True,
            "untagged": {"Z": 0.9287, "X": 0.9287},
        },
        "drift": {
            "rule": "merge",
            "segments": {
                "detections": [310_000] * 10,
                "by_intensity": [[300_000, 9_900, 100]] * 10,
                "tested": [31_000] * 10,
                "wrong": [150, 151, 149, 160, 155, 158, 149, 150, 290, 300],
            },
            "chi_square": {
                "qber": {"value": 131.5, "degrees": 9, "p": 5e-24},
                "rate": {"value": 0.0, "degrees": 9, "p": 1.0},
            },
            "false_alarm": 1e-6,
            "drifted": ["qber"],
            "unlimited_bits_merged": 1_700_000.0,
            "unlimited_bits_separate": 1_712_345.0,
        },
        "eps_sec": 1e-10,
        "eps_cor": 1e-15,
        "eps_auth": 1e-12,
        "abort": None,
        "stages": [
            {"name": "gated", "seconds": 4.2, "count": 8_200_000, "lost": 1_800_000},
            {"name": "secret", "seconds": 0.02, "count": 1_234_567, "lost": 1_865_433},
        ],
        "messages": {"count": 48, "bytes": 7_412_123, "round_trips": 21},
        "announcement_bits_per_detection": 9.4,
        "ledger_recount": {
            "agrees": True,
            "leak_alice_bits": 160_321,
            "leak_bob_bits": 160_321,
            "verification_bits": 51,
        },
        "health": {
            "alice": {
                "bits": 3_100_000,
                "bias": 0.0021,
                "autocorrelation": 0.004,
                "lag": 12,
                "repeated": 0.0,
                "warnings": [],
                "refusals": [],
            },
            "bob": {
                "bits": 3_100_000,
                "bias": 0.031,
                "autocorrelation": 0.004,
                "lag": 12,
                "repeated": 0.0,
                "warnings": ["bias is +0.0310 (threshold 0.02)"],
                "refusals": [],
            },
        },
        "versions": {"qkdpp": "0.1.0", "python": "3.11.7", "numpy": "2.4.6"},
        "plots": _plots(bbm92=False),
    }


@pytest.fixture
def bb84() -> dict[str, Any]:
    """A weak-pulse run that made a key without a claim."""
    return copy.deepcopy(_report())


@pytest.fixture
def bbm92() -> dict[str, Any]:
    """A run with pairs that made a key with a claim."""
    report = _report()
    report |= {"protocol": "bbm92", "plots": _plots(bbm92=True)}
    report["counters"] = {"alice": {"tags_by_channel": {"0": 5, "3": 6}, "matched": 7}, "bob": report["counters"]}
    report["coincidences"] = {
        "accidentals": 84.0,
        "calibration_pairs": 680.0,
        "delay_residual_ps": 61.0,
        "spread_ps": 233.0,
    }
    report["claim"] = {"level": "composable", "failed": [], "passed": report["claim"]["passed"]}
    report["qber"] = {"total": 0.0436, "by_basis": {"Z": 0.0513, "X": 0.0109}, "by_intensity": []}
    report["matrix"] = [[3793, 195, 1103, 605], [202, 3542, 908, 725], [781, 1078, 1139, 9], [1311, 958, 11, 676]]
    report["delays_ps"] = {"alice": {"Z0": 1.0, "Z1": 2.0, "X0": 3.0, "X1": 4.0}, "bob": report["delays_ps"]["bob"]}
    report["tags_read"] = {"alice": 113_170, "bob": 160_248}
    report["auth"] = {"pool": "file", "tags": 5, "eps_auth_spent": 2e-33}
    return report


@pytest.fixture
def aborted() -> dict[str, Any]:
    """A run that ended before anything but the reading was done: every other part is null."""
    report = dict.fromkeys(_report())
    report |= {
        "format": 1,
        "protocol": "bbm92",
        "run": {"name": "night", "from_s": 0.0, "to_s": 2.0, "duration_s": 2.0},
        "claim": {"level": "none", "failed": [], "passed": []},
        "tags_read": {"alice": 1000, "bob": 2000},
        "lost_tags": {"alice": {"intervals": 0, "seconds": 0.0}, "bob": {"intervals": 0, "seconds": 0.0}},
        "secret_bits": 0,
        "abort": {"reason": "no_lock", "evidence": {"significance": 3.1, "needed": 7.8, "offset_range_s": 0.01}},
        "versions": {"qkdpp": "0.1.0"},
    }
    return report
