"""Counts: invariants, merging, exchanged bases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qkdpp.core.errors import ConfigError, InputError
from qkdpp.estimation import UNKNOWN, Counts, Security
from qkdpp.estimation.security import binary_entropy, error_penalty


def base(**changes) -> Counts:
    values = {
        "intensities": (0.5, 0.1, 0.0),
        "p_intensity": (0.6, 0.3, 0.1),
        "n": np.array([[600, 60, 6], [60, 6, 1]], dtype=np.int64),
        "m": np.array([[6, 2, 3], [1, 1, 0]], dtype=np.int64),
    }
    return Counts(**(values | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"p_intensity": (0.6, 0.3, 0.2)},
        {"p_intensity": (0.9, 0.1, 0.0)},
        {"p_intensity": (0.6, 0.4)},
        {"intensities": (0.5, 0.1, -0.1)},
        {"intensities": (0.5, 0.1, 0.1)},
        {"intensities": (0.5, float("nan"), 0.1)},
        {"intensities": (), "p_intensity": ()},
    ],
)
def test_sources_that_cannot_exist(changes):
    with pytest.raises(ConfigError, match=r"intensit"):
        base(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"n": np.array([[600, 60, -6], [60, 6, 1]], dtype=np.int64)},
        {"n": np.array([[600.0, 60, 6], [60, 6, 1]])},
        {"n": np.array([600, 60, 6], dtype=np.int64)},
        {"m": np.array([[6, 2, 7], [1, 1, 0]], dtype=np.int64)},
        {"m": np.array([[6, 2, -2], [1, 1, 0]], dtype=np.int64)},
        {"sent": np.zeros((2, 2, 2), dtype=np.int64)},
        {"matrix": np.full((3, 4, 4), 200, dtype=np.int64)},
    ],
)
def test_counts_that_contradict_each_other(changes):
    with pytest.raises(InputError, match="counts:"):
        base(**changes)


def test_merging_adds_and_keeps_unknown_errors_unknown():
    hidden = base(m=np.array([[UNKNOWN] * 3, [1, 1, 0]], dtype=np.int64))
    merged = base() + hidden
    assert merged.n.tolist() == [[1200, 120, 12], [120, 12, 2]]
    assert merged.m.tolist() == [[UNKNOWN] * 3, [2, 2, 0]]
    assert merged.errors_known == (False, True)
    assert merged.detections == 1466
    tables = base(
        sent=np.full((3, 2, 2), 5, dtype=np.int64),
        matrix=np.ones((3, 4, 4), dtype=np.int64) // 4,
    )
    twice = tables + tables
    assert int(twice.sent.sum()) == 120
    assert (tables + base()).sent is None


def test_blocks_of_different_sources_do_not_merge():
    with pytest.raises(InputError, match="merged"):
        base() + replace(base(), p_intensity=(0.5, 0.4, 0.1))


def test_exchanged_bases():
    matrix = np.zeros((3, 4, 4), dtype=np.int64)
    matrix[0, 0, 3] = 7  # prepared 0 in Z, detected 1 in X
    sent = np.arange(12, dtype=np.int64).reshape(3, 2, 2)
    turned = base(matrix=matrix, sent=sent).swapped()
    assert turned.n.tolist() == [[60, 6, 1], [600, 60, 6]]
    assert turned.m.tolist() == [[1, 1, 0], [6, 2, 3]]
    assert turned.matrix[0, 2, 1] == 7
    assert turned.sent[:, 0].tolist() == sent[:, 1].tolist()


@pytest.mark.parametrize(
    "bad",
    [
        {"eps_sec": 0.0},
        {"eps_cor": 1.0},
        {"eps_auth": -1e-10},
        {"profile": "X"},
        {"rule": "alice"},
        {"key_from": "decoys"},
        {"disclosed_signal": 1.0},
        {"concentration": "gauss"},
    ],
)
def test_security_parameters_out_of_range(bad):
    with pytest.raises(ConfigError, match="security"):
        Security(**bad)


def test_entropy_of_an_upper_bound_never_falls_again():
    assert binary_entropy(0.5) == 1.0
    assert binary_entropy(0.11) == pytest.approx(0.49992, abs=1e-5)
    assert (binary_entropy(0.0), binary_entropy(1.0)) == (0.0, 0.0)
    assert (error_penalty(0.7), error_penalty(1.0), error_penalty(0.0)) == (1.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="probability"):
        binary_entropy(1.2)
