"""The picture of compared layers: one bar a figure, as high as the figure says."""

from dataclasses import replace
from itertools import pairwise
from math import log10

import pytest
from picture_reader import shapes, texts

from samoyeds_gen.language import Routing
from samoyeds_gen.pictures import draw_layers, draw_models
from samoyeds_gen.pictures.layers import layer_panels
from samoyeds_gen.pictures.measurements import PANEL
from samoyeds_gen.tune.layers import Case, LayerConfig
from samoyeds_gen.tune.layers.best import Best
from samoyeds_gen.tune.layers.model_rows import model_rows
from samoyeds_gen.tune.layers.models import ModelCase, ModelLayer
from samoyeds_gen.tune.layers.rows import LayerContender, layer_rows
from samoyeds_gen.tune.timing import Timed, Timing

TINY = LayerConfig("tiny", 64, 48, 4, 2)


def contender(name, peak, form=""):
    run = Timed(lambda turn: None)
    return LayerContender(
        name=name, eager=run, graph=run, replay="graph", weight_bytes=8, held_bytes=8,
        peak_bytes=peak, host_us=9.0, worst=0.1, relative=0.004, format=form,
    )  # fmt: skip


def rows_at(tokens, dense, ours, routing="uniform"):
    everybody = [contender("grouped_mm", 4_000_000), contender("ours (1,2,128)", 0, "1,2,128")]
    timings = {
        (name, how): Timing(us, us, us, 3)
        for name, us in (("grouped_mm", dense), ("ours (1,2,128)", ours))
        for how in ("eager", "graph")
    }
    case = Case(TINY, tokens, routing)
    return layer_rows(case, everybody, timings, Best("vllm", 45.0, 50.0))


ROWS = rows_at(16, 100.0, 40.0) + rows_at(4096, 1700.0, 680.0, "zipf")


def bars(svg):
    return shapes(svg, "rect", "shape", "contender", "value")


def test_every_figure_has_a_bar_of_its_height():
    svg = draw_layers(ROWS, title="H200")
    time, ratio, best, memory = layer_panels(ROWS)
    found = bars(svg)
    assert len(found) == 4 * len(ROWS)
    by_value = {
        (each.data("shape"), each.data("contender"), round(float(each.data("value")), 4)): each
        for each in found
    }
    low, high = time.ticks[0][0], time.ticks[-1][0]
    expected = PANEL * (log10(680) - log10(low)) / (log10(high) - log10(low))
    ours = by_value["tiny 4096 zipf", "ours (1,2,128)", 680.0]
    assert ours.number("height") == pytest.approx(expected, abs=0.01)
    top = ratio.ticks[-1][0]
    assert by_value["tiny 16", "ours (1,2,128)", 2.5].number("height") == pytest.approx(
        PANEL * 2.5 / top, abs=0.01
    )
    assert by_value["tiny 16", "ours (1,2,128)", 2.25].number("height") == pytest.approx(
        PANEL * 2.25 / best.ticks[-1][0], abs=0.01
    )
    assert by_value["tiny 16", "grouped_mm", 4.0].number("height") > 0
    assert by_value["tiny 16", "ours (1,2,128)", 0.01].number("height") == 0
    assert memory.ticks[0][0] == 0.01


def test_models_are_drawn_by_tokens_a_second():
    layer = ModelLayer(TINY, Routing(4, 2, "softmax_topk", True), 2, 2, 16)
    everybody = [contender("grouped_mm", 1), contender("ours (1,2,128)", 1, "1,2,128")]
    timings = {
        (name, how): Timing(us, us, us, 3)
        for name, us in (("grouped_mm", 100.0), ("ours (1,2,128)", 50.0))
        for how in ("eager", "graph")
    }
    rows = model_rows(ModelCase(layer, "decode", 16, 1, 64), everybody, timings)
    svg = draw_models(rows, title="H200")
    values = {
        (each.data("contender"), float(each.data("value")))
        for each in bars(svg)
        if each.data("shape") == "tiny decode 16"
    }
    assert ("ours (1,2,128)", 320000.0) in values
    assert ("ours (1,2,128)", 2.0) in values
    assert "tokens a second" in texts(svg)


def test_groups_are_named_and_do_not_overlap():
    rows = [row for tokens in range(1, 41) for row in rows_at(tokens, 10.0, 5.0)]
    svg = draw_layers(rows, title="NVIDIA <H200>")
    assert {"tiny 1", "tiny 40", "ours (1,2,128)", "Measurements on NVIDIA <H200>"} <= set(
        texts(svg)
    )
    spans = sorted({each.span for each in bars(svg)})
    for (_, end), (start, _) in pairwise(spans):
        assert end <= start
    assert spans[-1][1] < float(shapes(svg, "svg")[0].attributes["width"])


def test_panels_without_figures_are_left_out():
    bare = [replace(row, ratio=None, ratio_best=None) for row in ROWS]
    assert [each.title for each in layer_panels(bare)] == [
        "microseconds a call", "megabytes of a call beside its weights",
    ]  # fmt: skip
    assert bars(draw_layers([], title="nothing")) == []
