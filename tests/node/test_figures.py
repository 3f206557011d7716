"""Figures of blocks of which much is lost: what independent clicks give in the time that is left."""

from types import SimpleNamespace

import numpy as np
import pytest

from qkdpp.node.figures import _pairs

RATE_HZ, WINDOW_PS, SECONDS = 2e5, 1000.0, 10.0


@pytest.mark.parametrize("lost_share", [0.0, 0.9])
def test_double_clicks_that_are_due_in_the_time_that_is_left(lost_share: float) -> None:
    n = round(RATE_HZ * SECONDS * (1 - lost_share))
    counters = SimpleNamespace(double_same_basis=0, double_cross_basis=0, detector_tags=n)
    matched, end = SimpleNamespace(counters=counters), SimpleNamespace(log=SimpleNamespace(facts={}))
    end.log.facts["lost_share"] = lost_share
    parameters = SimpleNamespace(timing=SimpleNamespace(gate_ps=WINDOW_PS))
    clicks = np.full(4, n // 4)
    found = _pairs(matched, clicks, end, parameters, efficiency=np.ones(4), seconds=SECONDS)  # type: ignore[arg-type]
    pairs_in_window = RATE_HZ * (WINDOW_PS * 1e-12) * n  # every click has so many others within the window behind it
    assert found.doubles_due == pytest.approx(pairs_in_window)
