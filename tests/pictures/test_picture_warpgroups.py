"""The picture of a warp-specialised pipeline: nothing is read early, refilled early or left out."""

from dataclasses import replace
from itertools import pairwise

import pytest
from picture_reader import collisions, outside, shapes

from samoyeds_gen.compiler import compile_plan
from samoyeds_gen.formats import Format
from samoyeds_gen.language import load_schedule, make_ssmm
from samoyeds_gen.language.schedule import Overlap
from samoyeds_gen.pictures import draw_pipeline
from samoyeds_gen.pictures.warpgroups import timeline

TILES = 9


def plan_of(text, turns=None, stages=None):
    problem = make_ssmm(Format.parse(text), "bfloat16")
    schedule = load_schedule("ssmm_sm90", problem.format, problem.dtype)
    if turns is not None:
        schedule = replace(schedule, overlap=Overlap(turns=turns))
    if stages is not None:
        schedule = replace(schedule, pipeline=replace(schedule.pipeline, stages=stages))
    return compile_plan(schedule, problem)


PLANS = {
    "prefix": plan_of("1,2,128"),
    "no turns": plan_of("1,2,128", turns=False),
    "two stages": plan_of("1,2,64", stages=2),
    "expand": plan_of("4,8,32"),
    "plain": plan_of("1,1,128"),
}
EVERY = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)


def spans(works, kind):
    return {(each.row, each.tile): (each.start, each.end) for each in works if each.kind == kind}


@EVERY
def test_a_stage_is_read_when_full_and_refilled_when_empty(plan):
    works, depth = timeline(plan, TILES), plan.ring_depth
    copies, reads = spans(works, "copy"), spans(works, "read")
    assert copies.keys() == reads.keys() == {(f"stage {t % depth}", t) for t in range(TILES)}
    for (row, tile), (start, full) in copies.items():
        assert full <= reads[row, tile][0]
        if tile >= depth:
            assert reads[row, tile - depth][1] <= start
    work = spans(works, "matrix")
    for (_, tile), (begin, end) in work.items():
        first, last = reads[f"stage {tile % depth}", tile]
        assert first <= begin < end <= last
    assert len(work) == plan.geometry.consumers * TILES


@EVERY
def test_a_warpgroup_does_one_thing_at_a_time_and_turns_exclude(plan):
    works = timeline(plan, TILES)
    for group in range(plan.geometry.consumers):
        mine = sorted((each.start, each.end) for each in works if each.row == f"warpgroup {group}")
        assert all(one[1] <= other[0] for one, other in pairwise(mine))
    if plan.schedule.overlap.turns:
        unit = sorted(spans(works, "matrix").values())
        assert all(one[1] <= other[0] for one, other in pairwise(unit))


def test_only_the_prefix_fold_adds_and_turns_hide_it():
    assert not spans(timeline(PLANS["expand"], TILES), "fold")
    assert len(spans(timeline(PLANS["prefix"], TILES), "fold")) == 2 * TILES
    ends = {
        name: max(work.end for work in timeline(PLANS[name], TILES))
        for name in ("prefix", "no turns")
    }
    assert ends["prefix"] < ends["no turns"]


@EVERY
def test_everything_is_drawn_inside_and_apart(plan):
    svg = draw_pipeline(plan)
    drawn = shapes(svg, "rect", "row", "work", "tile")
    assert len(drawn) == len(timeline(plan, plan.ring_depth + 3))
    assert outside(svg) == []
    assert collisions(svg) == []
    assert svg == draw_pipeline(plan)
