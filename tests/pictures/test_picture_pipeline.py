"""The pipeline picture: no stage does two things at once, and every tile is copied, then read."""

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import pytest
from picture_reader import collisions, outside, plan_of, shapes, texts

from samoyeds_gen.compiler import compile_plan
from samoyeds_gen.pictures import draw_pipeline


def plan_with(stages: int, fragments: int):
    plan = plan_of("4,8,32")
    pipeline = replace(plan.schedule.pipeline, stages=stages, fragments=fragments)
    schedule = replace(plan.schedule, tile=replace(plan.schedule.tile, m=128), pipeline=pipeline)
    return compile_plan(schedule, plan.problem)


def stream_with(chunks: int, groups: int):
    """A stream with this many chunks of tokens, each of `groups` groups a warp."""
    plan = plan_of("4,8,32", "decode_sm80")
    tile = replace(plan.schedule.tile, k=128 * plan.schedule.warps.k * groups)
    pipeline = replace(plan.schedule.pipeline, fragments=chunks)
    return compile_plan(replace(plan.schedule, tile=tile, pipeline=pipeline), plan.problem)


PLANS = [plan_with(*each) for each in [(2, 1), (2, 2), (3, 2), (4, 1), (4, 2), (6, 2)]]
PLANS += [stream_with(*each) for each in [(1, 2), (1, 4), (2, 1), (3, 2), (4, 1)]]


@pytest.fixture(params=PLANS, ids=lambda plan: f"{plan.schedule.name}-{plan.ring_depth}")
def svg(request):
    return draw_pipeline(request.param)


def bars(svg):
    return [
        (each.data("work"), int(each.data("tile")), int(each.data("stage")), each.span)
        for each in shapes(svg, "rect", "work")
    ]


def test_a_stage_is_filled_or_read_never_both(svg):
    rows = defaultdict(list)
    for _, _, stage, span in bars(svg):
        rows[stage].append(span)
    for spans in rows.values():
        spans.sort()
        assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_a_tile_is_copied_then_read_in_the_same_stage(svg):
    copied = {tile: (stage, span) for work, tile, stage, span in bars(svg) if work == "copy"}
    read = {tile: (stage, span) for work, tile, stage, span in bars(svg) if work == "read"}
    assert set(range(4)) <= set(read) <= set(copied)
    for tile, (stage, (begin, _)) in read.items():
        assert copied[tile][0] == stage
        assert copied[tile][1][1] <= begin


def test_work_is_periodic(svg):
    begins = [
        span[0] for work, _, _, span in sorted(bars(svg), key=lambda b: b[1]) if work == "read"
    ]
    steps = [b - a for a, b in pairwise(begins[1:])]
    assert max(steps) - min(steps) < 0.1


def test_labels_name_stages_and_iterations(svg):
    words = texts(svg)
    stages = {stage for _, _, stage, _ in bars(svg)}
    assert all(f"stage {stage}" in words for stage in stages)
    assert "prologue" in words
    assert outside(svg) == []
    assert collisions(svg) == []


def test_the_wait_of_the_plan_is_in_the_legend():
    assert any("at most 2 copies in flight" in text for text in texts(draw_pipeline(plan_of())))
    shallow = texts(draw_pipeline(plan_with(2, 1)))
    assert any("at most 0 copies in flight" in text for text in shallow)
