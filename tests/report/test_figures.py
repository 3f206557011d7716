"""What happens to data on its way to a plot."""

from __future__ import annotations

import numpy as np
import pytest

from qkdpp.report import figures, svg


@pytest.mark.parametrize(("n", "limit"), [(1, 1), (7, 10), (10, 10), (11, 10), (1000, 7), (400, 399)])
def test_rebinning_keeps_counts_of_whole_bins(n: int, limit: int) -> None:
    edges = np.linspace(-3.0, 5.0, n + 1)
    counts = np.arange(n, dtype=np.float64)
    new_edges, new_counts = figures.rebin(edges, counts, limit)
    assert new_counts.size <= limit
    assert new_edges.size == new_counts.size + 1
    for low, high, count in zip(new_edges[:-1], new_edges[1:], new_counts, strict=True):
        inside = (edges[:-1] >= low - 1e-12) & (edges[1:] <= high + 1e-12)
        assert count == counts[inside].sum()


def test_pair_panels_show_the_peaks() -> None:
    rng = np.random.default_rng(1)
    counts = [rng.poisson(4.0, 2000).astype(np.float64) for _ in range(5)]
    counts[1][900], counts[3][1100] = 300.0, 200.0
    shown = figures.region_of_peaks(counts)
    assert shown.start < 900 - 20
    assert shown.stop > 1100 + 20
    assert shown.stop - shown.start < 500
    assert figures.region_of_peaks([counts[0], counts[2]]) == slice(0, 2000)


def test_thinning_averages_what_is_known() -> None:
    x = np.arange(1000.0)
    y = x.copy()
    y[1::2] = np.nan
    thin_x, thin_y = figures.thin([x, y], 100)
    assert thin_x.size == thin_y.size == 100
    np.testing.assert_allclose(thin_x, x.reshape(100, 10).mean(axis=1))
    np.testing.assert_allclose(thin_y, x.reshape(100, 10)[:, ::2].mean(axis=1))
    assert np.isnan(figures.thin([np.full(1000, np.nan)], 10)[0]).all()


def test_numbers_that_are_none_become_nan() -> None:
    np.testing.assert_array_equal(figures.floats([1, None, "x", 2.5, True]), [1, np.nan, np.nan, 2.5, np.nan])


def test_clock_plot_shows_the_rest_not_the_line() -> None:
    time_s = np.linspace(0.0, 10.0, 50)
    wobble = 3e-10 * np.where(np.arange(50) % 2 == 0, 1.0, -1.0)
    part = {"time_s": list(time_s), "offset_s": list(0.25 + 2e-5 * time_s + wobble), "rate_ppm": [20.0] * 50}
    drawn = figures.clock(part)
    assert drawn is not None
    assert "(ps)" in drawn  # a rest of 300 ps, although the offset runs over 200 us
    assert "(µs)" not in drawn


def test_colours_follow_the_theme() -> None:
    drawn = figures.series({"time_s": [0, 1, 2], "detections_per_s": [1, 2, 3], "qber": [0.1, None, 0.2]})
    assert drawn is not None
    assert "var(--ink)" in drawn
    for stand_in in (svg.INK, svg.MUTED, svg.GRID, svg.SHADE, *svg.SERIES):
        assert stand_in not in drawn


def test_nothing_to_draw() -> None:
    for plot in (figures.arrival, figures.pair_delays, figures.coincidence, figures.series, figures.clock):
        assert plot(None) is None
        assert plot({}) is None
