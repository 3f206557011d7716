"""The figure: valid files that name axes, scenarios and sources; points where they belong."""

import dataclasses
import math
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from qkdpp.core.errors import InputError
from qkdpp.rate.figures import check_suffix, draw, plot
from qkdpp.rate.link import Asked
from qkdpp.rate.sweep import Curve, curve
from qkdpp.scenarios import scenario_file
from qkdpp.scenarios.scenario import Published, Scenario

LOSSES = tuple(float(x) for x in range(4, 41, 4))
SOURCE = "Somebody 2020, Fig. 3"
replace = msgspec.structs.replace


@pytest.fixture(scope="module")
def link() -> Scenario:
    plan = scenario_file.load("example")
    points = (
        Published(loss_db=8.0, secret_bps=4e5, source=SOURCE),
        Published(loss_db=16.0, secret_bps=4.5e4, source=SOURCE),
    )
    return replace(plan, rate=replace(plan.rate, published=points))


@pytest.fixture(scope="module")
def pulses(link: Scenario) -> Curve:
    return curve("pulsed link", link, Asked(values=LOSSES), for_drawing=True)


@pytest.fixture(scope="module")
def pairs() -> Curve:
    return curve("pair link", scenario_file.load("pair-lab"), Asked(values=LOSSES), for_drawing=True)


@pytest.fixture(scope="module")
def blocks(link: Scenario) -> Curve:
    values = tuple(10.0**k for k in range(6, 13))
    return curve("pulsed link", link, Asked(variable="block_pulses", values=values), for_drawing=True)


def words(svg: bytes) -> str:
    """All text of an SVG, which must be well-formed."""
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("}svg")
    return " ".join(" ".join(e.itertext()) for e in root.iter() if e.tag.endswith("}text"))


def drawn(*curves: Curve) -> Figure:
    figure = Figure()
    plot(figure, curves)
    return figure


def test_svg_names_axes_units_scenarios_and_sources(pulses: Curve, pairs: Curve) -> None:
    text = words(draw([pulses, pairs], ".svg"))
    for part in (
        "secret key rate (bit/s)",
        "QBER (%)",
        "channel loss (dB; pairs: in each arm)",
        "pulsed link",
        "pair link",
        "finite blocks",
        "unlimited data",
        "working point",
        SOURCE,
        "10³",
    ):
        assert part in text


def test_png_and_pdf(pulses: Curve, tmp_path: Path) -> None:
    (tmp_path / "figure.png").write_bytes(draw([pulses], ".png"))
    pixels = imread(tmp_path / "figure.png")
    assert pixels.shape[:2] == (960, 1520)
    assert len(np.unique(pixels[..., :3].reshape(-1, 3), axis=0)) > 10
    assert draw([pulses], ".PDF").startswith(b"%PDF-")


@pytest.mark.parametrize("suffix", [".svg", ".pdf", ".png"])
def test_same_curves_same_file(pulses: Curve, suffix: str) -> None:
    assert draw([pulses], suffix) == draw([pulses], suffix)


def test_lines_are_the_rates(pulses: Curve) -> None:
    top, bottom = drawn(pulses).axes
    unlimited, finite = top.lines[:2]
    assert (finite.get_linestyle(), unlimited.get_linestyle()) == ("-", "--")
    assert finite.get_color() == unlimited.get_color()
    for line, name in ((finite, "secret_bps"), (unlimited, "asymptotic_bps")):
        shown = dict(zip(*line.get_data(), strict=True))
        for sample in pulses.samples:
            if getattr(sample.point, name) > 0:
                assert shown[sample.x] == getattr(sample.point, name)
    shown = dict(zip(*bottom.lines[0].get_data(), strict=True))
    assert [shown[s.x] for s in pulses.samples] == pytest.approx([100 * s.point.qber for s in pulses.samples])


def test_the_finite_curve_drops_where_the_key_ends(pulses: Curve) -> None:
    (top, _) = drawn(pulses).axes
    x, y = top.lines[1].get_data()
    below = np.flatnonzero(y < top.get_ylim()[0])
    assert below.size == 1
    assert x[below[0]] == pytest.approx(pulses.max_loss_db)


def test_published_points_and_working_point(pulses: Curve) -> None:
    (top, _) = drawn(pulses).axes
    coordinates = [np.array(line.get_data()).T.tolist() for line in top.lines[2:]]
    assert [[8.0, 4e5], [16.0, 4.5e4]] in coordinates
    assert [[pulses.working.x, pulses.working.point.secret_bps]] in coordinates


def test_axes_are_cut_at_one_bit_per_second_and_hold_everything(pulses: Curve, pairs: Curve) -> None:
    for curves in ((pulses,), (pairs,), (pulses, pairs)):
        (top, _) = drawn(*curves).axes
        low, high = top.get_ylim()
        assert top.get_yscale() == "log"
        assert low == 1.0
        assert high > max(s.point.asymptotic_bps for c in curves for s in c.samples)
        assert math.log10(high).is_integer()


def test_one_colour_per_scenario(pulses: Curve) -> None:
    curves = [dataclasses.replace(pulses, name=f"link {i}") for i in range(12)]
    figure = drawn(*curves)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    colours = [line.get_color() for line in figure.legends[0].get_lines()]
    of = dict(zip(names, colours, strict=True))
    assert len({of[c.name] for c in curves}) == len(curves)


def test_blocks_have_their_own_axes(blocks: Curve) -> None:
    top, bottom = drawn(blocks).axes
    assert bottom.get_xscale() == "log"
    text = words(draw([blocks], ".svg"))
    assert "size of a block (pulses sent)" in text
    assert "phase error" in text
    assert SOURCE not in text
    x, y = top.lines[1].get_data()
    assert y[0] < 1.0
    assert x[0] == pytest.approx(blocks.least_block)


def test_distances(link: Scenario) -> None:
    found = curve("pulsed link", link, Asked(variable="distance_km", values=tuple(20.0 * i for i in range(11))))
    assert "length of fibre (km)" in words(draw([found], ".svg"))
    (top, _) = drawn(found).axes
    assert [[40.0, 4e5], [80.0, 4.5e4]] in [np.array(line.get_data()).T.tolist() for line in top.lines]


def test_satellites_say_which_loss_is_meant(pulses: Curve) -> None:
    found = curve("pass", scenario_file.load("satellite-pass"), Asked(values=LOSSES))
    assert "channel loss at the closest approach (dB)" in words(draw([found], ".svg"))
    assert "channel loss (dB; satellite: at the closest approach)" in words(draw([found, pulses], ".svg"))


def test_a_figure_without_any_key(link: Scenario) -> None:
    noisy = replace(link, channel=replace(link.channel, misalignment=0.3), rate=replace(link.rate, published=()))
    found = curve("noisy", noisy, Asked(values=LOSSES))
    assert "secret key rate (bit/s)" in words(draw([found], ".svg"))


def test_hostile_names_are_text(link: Scenario) -> None:
    source = "<b>$\\frac{1}{2}$</b> & \x1b]0;x\x07"
    hostile = replace(link, rate=replace(link.rate, published=(Published(loss_db=9, secret_bps=1e4, source=source),)))
    text = words(draw([curve("$x_1$ <svg>", hostile, Asked(values=LOSSES))], ".svg"))
    assert "$x_1$ <svg>" in text
    assert "<b>$\\frac{1}{2}$</b>" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("name", ["figure", "figure.jpg", "figure.svg.gz"])
def test_unknown_suffixes(name: str) -> None:
    with pytest.raises(InputError, match=r"the name of a figure ends in \.svg, \.png or \.pdf"):
        check_suffix(Path(name))
