"""The picture of a comparison: one bar a figure, as high as the figure says, inside the card."""

from itertools import pairwise
from math import log10

import pytest
from picture_reader import shapes, texts

from samoyeds_gen.pictures import draw_measurements
from samoyeds_gen.pictures.measurements import PANEL, panels_of
from samoyeds_gen.tune.results import Row


def row(shape, contender, us, ratio=None, roof=None):
    m, k, n = shape
    return Row(
        "paper", m, k, n, contender, "peer", "", "", "", "", "graph",
        us, us, us, 1.0, ratio, 0, 0.0, roof, "",
    )  # fmt: skip


ROWS = [
    row((1024, 512, 256), "cuBLAS out[n,m]", 100.0, 1.0, 0.8),
    row((1024, 512, 256), "auto (1,2,128)", 40.0, 2.5, 0.6),
    row((8192, 8192, 8192), "cuBLAS out[n,m]", 1700.0, 1.0, 0.9),
    row((8192, 8192, 8192), "auto (1,2,128)", 650.0, 2.6),
]


def bars(svg):
    return shapes(svg, "rect", "shape", "contender", "value")


def test_every_figure_has_a_bar_of_its_height():
    svg = draw_measurements(ROWS, title="H200")
    time, ratio, roof = panels_of(ROWS)
    found = bars(svg)
    assert len(found) == 4 + 4 + 3
    by_value = {(each.data("contender"), float(each.data("value"))): each for each in found}
    low, high = time.ticks[0][0], time.ticks[-1][0]
    assert low <= 40
    assert high >= 1700
    expected = PANEL * (log10(650) - log10(low)) / (log10(high) - log10(low))
    assert by_value["auto (1,2,128)", 650.0].number("height") == pytest.approx(expected, abs=0.01)
    top = ratio.ticks[-1][0]
    assert by_value["auto (1,2,128)", 2.6].number("height") == pytest.approx(
        PANEL * 2.6 / top, abs=0.01
    )
    assert by_value["auto (1,2,128)", 0.6].number("height") == pytest.approx(PANEL * 0.6, abs=0.01)
    assert roof.ticks[-1] == (1.0, "100 %")


def test_bars_do_not_overlap_and_lie_inside_the_card():
    svg = draw_measurements(ROWS * 3 + [row((m, 8, 8), "x", 5.0) for m in range(1, 40)], title="T")
    width = float(shapes(svg, "svg")[0].attributes["width"])
    found = {
        (each.data("shape"), each.data("contender"), each.number("y")): each.span
        for each in bars(svg)
    }
    spans = sorted(set(found.values()))
    for (_, end), (start, _) in pairwise(spans):
        assert end <= start
    assert spans[0][0] > 0
    assert spans[-1][1] < width


def test_colours_belong_to_contenders():
    fills = {}
    for each in bars(draw_measurements(ROWS, title="H200")):
        fills.setdefault(each.data("contender"), set()).add(each.attributes["fill"])
    assert all(len(fill) == 1 for fill in fills.values())
    assert len(set.union(*fills.values())) == 2


def test_panels_without_figures_are_left_out():
    assert len(panels_of([row((8, 8, 8), "a", 1.0)])) == 1
    assert len(panels_of(ROWS)) == 3
    svg = draw_measurements([], title="nothing")
    assert bars(svg) == []


def test_names_and_sizes_are_written_out():
    found = texts(draw_measurements(ROWS, title="NVIDIA <H200>"))
    assert {
        "1024,512,256",
        "8192,8192,8192",
        "auto (1,2,128)",
        "Measurements on NVIDIA <H200>",
    } <= set(found)


def test_a_picture_is_always_equal():
    assert draw_measurements(ROWS, title="H200") == draw_measurements(ROWS, title="H200")
