"""The shared-memory picture says what the plan says: bytes, stages, lives, bank groups."""

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise

import pytest
from picture_reader import collisions, outside, plan_of, shapes, texts

from samoyeds_gen.compiler import compile_plan
from samoyeds_gen.language import layouts
from samoyeds_gen.pictures import draw_shared_memory

FORMATS = ["1,2,64", "4,8,32", "1,1,16", "8,16,128"]


@pytest.fixture(params=FORMATS)
def plan(request):
    return plan_of(request.param)


def test_every_live_buffer_is_drawn_at_its_bytes(plan):
    svg = draw_shared_memory(plan)
    drawn = defaultdict(list)
    for rect in shapes(svg, "rect", "buffer", "first"):
        drawn[rect.data("buffer")].append((int(rect.data("first")), int(rect.data("last"))))
    shared = [each for each in plan.buffers if each.space == "shared"]
    assert set(drawn) == {each.name for each in shared}
    for buffer in shared:
        spans = sorted(set(drawn[buffer.name]))
        assert (spans[0][0], spans[-1][1]) == (buffer.offset, buffer.end)
        assert all(a[1] == b[0] for a, b in pairwise(spans))
        if buffer.name.endswith("_ring"):
            assert len(spans) == plan.schedule.pipeline.stages


def test_live_buffers_never_overlap(plan):
    tracks = defaultdict(list)
    for rect in shapes(draw_shared_memory(plan), "rect", "span"):
        tracks[rect.data("span")].append(rect.span)
    assert len(tracks) >= 2
    for spans in tracks.values():
        spans.sort()
        assert all(b[0] >= a[1] - 0.02 for a, b in pairwise(spans))


def test_equal_bytes_of_different_spans_stand_under_each_other(plan):
    places = defaultdict(set)
    for rect in shapes(draw_shared_memory(plan), "rect", "span"):
        places[int(rect.data("first"))].add(rect.span[0])
        places[int(rect.data("last"))].add(round(rect.span[1], 1))
    assert all(max(xs) - min(xs) < 0.2 for xs in places.values())
    ordered = [min(xs) for _, xs in sorted(places.items())]
    assert ordered == sorted(ordered)


def test_offsets_are_labelled_with_the_bytes_they_mark(plan):
    labels = shapes(draw_shared_memory(plan), "text", "offset")
    assert all(label.text == label.data("offset") for label in labels)
    offsets = {int(label.text) for label in labels}
    assert {0, plan.shared_bytes} <= offsets


@pytest.mark.parametrize("text", FORMATS)
def test_a_swizzled_phase_meets_every_bank_group_once(text):
    svg = draw_shared_memory(plan_of(text))
    phases = defaultdict(Counter)
    for cell in shapes(svg, "rect", "ring", "group"):
        if cell.data("map") == "swizzled":
            phases[cell.data("ring"), cell.data("chunk")][cell.data("group")] += 1
    assert {ring for ring, _ in phases} == {"weight_ring", "token_ring"}
    for groups in phases.values():
        assert groups == Counter("01234567")


def test_the_linear_map_shows_the_conflict():
    svg = draw_shared_memory(plan_of())
    groups = [
        cell.data("group")
        for cell in shapes(svg, "rect", "ring", "group")
        if (cell.data("ring"), cell.data("map"), cell.data("chunk"))
        == ("token_ring", "row by row", "0")
    ]
    assert groups == ["0"] * 8
    assert "row by row, 8 passes" in texts(svg)
    assert "swizzled, 1 pass" in texts(svg)


def test_a_schedule_without_swizzle_shows_its_passes():
    plan = plan_of()
    linear = layouts.LINEAR.name
    schedule = replace(plan.schedule, layout=replace(plan.schedule.layout, tokens=linear))
    svg = draw_shared_memory(compile_plan(schedule, plan.problem))
    assert "not swizzled, 8 passes" in texts(svg)


def test_the_numbers_of_the_head_are_the_plans(plan):
    words = " ".join(texts(draw_shared_memory(plan)))
    limit = plan.target.shared_per_cta
    assert f"{plan.shared_bytes:,} B of the {limit:,} B that {plan.target.name} gives" in words
    for buffer in plan.buffers:
        if buffer.space == "shared":
            assert buffer.name in words
            assert f"{buffer.bytes:,} B" in words


@pytest.mark.parametrize("k", [64, 128])
@pytest.mark.parametrize("stages", [2, 3, 4, 5])
def test_everything_stays_on_the_card(k, stages):
    plan = plan_of("4,8,32")
    layout = replace(
        plan.schedule.layout,
        weight=layouts.swizzle_for_row(k).name,
        tokens=layouts.swizzle_for_row(2 * k).name,
    )
    schedule = replace(
        plan.schedule,
        tile=replace(plan.schedule.tile, m=128, k=k),
        layout=layout,
        pipeline=replace(plan.schedule.pipeline, stages=stages),
    )
    svg = draw_shared_memory(compile_plan(schedule, plan.problem))
    assert outside(svg) == []
    assert collisions(svg) == []


@pytest.mark.parametrize("schedule", ["ssmm_sm80", "ssmm_sm80_expand", "ssmm_sm90", "decode_sm80"])
def test_rows_of_every_pipeline_are_those_of_its_swizzle(schedule):
    """Boxes of tokens were once taken for one row each: 25600 bytes, far beyond the card."""
    plan = plan_of("1,2,128", schedule)
    svg = draw_shared_memory(plan)
    assert outside(svg) == []
    chunks = defaultdict(set)
    for cell in shapes(svg, "rect", "ring", "chunk"):
        chunks[cell.data("ring")].add(int(cell.data("chunk")))
    rows = {each.name: each.shape[-1] * 2 for each in plan.buffers if each.swizzle is not None}
    assert {ring: 16 * len(found) for ring, found in chunks.items()} == rows


def test_pictures_repeat_byte_for_byte(plan):
    assert draw_shared_memory(plan) == draw_shared_memory(plan)
