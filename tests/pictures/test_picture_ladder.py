"""The picture of the ladder: bars as long as figures say, beside their names, inside the card."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_reader import collisions, outside, shapes, texts

from samoyeds_gen.pictures import draw_ladder
from samoyeds_gen.tune.ladder_figures import Figures, Step


def step(name, us, ratio=None, *, shape=(8192, 8192, 8192), tried=False):
    before = "" if name == "cuBLAS" else "cuBLAS"
    return Step(*shape, name, f"do {name}", before, tried, us, "L2", measured_us=us, ratio=ratio)


FIGURES = Figures(
    "H200",
    (
        step("cuBLAS", 1600.0, 1.0),
        step("turns", 800.0, 2.4),
        step("cluster", 1000.0, 1.2, tried=True),
        step("cuBLAS", 700.0, 1.0, shape=(14336, 4096, 4096)),
        step("turns", 280.0, shape=(14336, 4096, 4096)),
    ),
)


def bars(svg, kind):
    found = shapes(svg, "rect", "kind", "rung", "value")
    return [each for each in found if each.data("kind") == kind]


def test_every_figure_has_a_bar_on_one_scale():
    svg = draw_ladder(FIGURES)
    predicted, real = bars(svg, "predicted"), bars(svg, "measured")
    assert [(each.data("rung"), float(each.data("value"))) for each in predicted] == [
        ("cuBLAS", 1.0), ("turns", 2.0), ("cluster", 1.6), ("cuBLAS", 1.0), ("turns", 2.5),
    ]  # fmt: skip
    assert [float(each.data("value")) for each in real] == [1.0, 2.4, 1.2, 1.0]
    unit = predicted[0].number("width")
    for each in [*predicted, *real]:
        value = float(each.data("value"))
        assert each.number("width") == pytest.approx(unit * value, abs=0.01)
        assert each.number("x") == predicted[0].number("x")


def test_predictions_are_outlines_and_tried_rungs_have_their_own_colour():
    svg = draw_ladder(FIGURES)
    assert all(each.attributes["fill"] == "none" for each in bars(svg, "predicted"))
    fills = {each.data("rung"): each.attributes["fill"] for each in bars(svg, "measured")}
    assert fills["turns"] == fills["cuBLAS"] != fills["cluster"]
    assert "none" not in fills.values()


def test_names_and_ratios_are_written_out():
    found = texts(draw_ladder(FIGURES))
    assert {"The ladder on one H200", "turns", "tried: cluster", "2.40x", "1.20x"} <= set(found)
    assert "2.50x" in found  # not measured: what the model says


@settings(max_examples=25)
@given(ratios=st.lists(st.tuples(st.floats(0.1, 6), st.none() | st.floats(0.1, 6)), max_size=14))
def test_everything_lies_inside_and_apart(ratios):
    own = [step(f"rung {i}", 100 / one, real) for i, (one, real) in enumerate(ratios)]
    svg = draw_ladder(Figures("H200", (step("cuBLAS", 100.0, 1.0), *own)))
    assert outside(svg) == []
    assert collisions(svg) == []


def test_a_picture_is_always_equal():
    assert draw_ladder(FIGURES) == draw_ladder(FIGURES)
