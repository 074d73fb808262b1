"""Drawn schedules of the stream: they compile, cover the problem, and their ring is ordered."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samoyeds_gen.check.strategies import SHIPPED, formats, problems
from samoyeds_gen.check.work import drawn_subjects
from samoyeds_gen.compiler import (
    check_legal,
    compile_plan,
    emit,
    first_violation,
    passes,
    print_plan,
)
from samoyeds_gen.compiler.dependence import check_synchronised, least_stages, ordered
from samoyeds_gen.compiler.ops import Barrier, CopyTile, Wait
from samoyeds_gen.compiler.shapes import shape_of
from samoyeds_gen.compiler.stream.ops import LoadGroup, MultiplyGroup, Turns
from samoyeds_gen.compiler.stream.pipeline import chunk_loop
from samoyeds_gen.errors import ScheduleError
from samoyeds_gen.formats import Format
from samoyeds_gen.language import FOLDS, TARGETS, load_schedule, make_ssmm, target_named
from samoyeds_gen.language.schedule import Split, Stationary, Tile, Warps

subjects = drawn_subjects("decode_sm80")
EXAMPLES = settings(max_examples=50)


def plan_of(subject):
    return compile_plan(subject.schedule, subject.problem, subject.target)


def in_turn(plan):
    """The operations of the loop with those of an inner loop in place."""
    return [op for each in plan.loop for op in getattr(each, "body", ()) or (each,)]


@st.composite
def wild(draw):
    """Streams of any size, most of them illegal, with the problem and target they are for."""
    problem = draw(problems(formats()))
    base = load_schedule("decode_sm80", problem.format, problem.dtype)
    return (
        replace(
            base,
            tile=Tile(
                8 * draw(st.integers(1, 64)),
                4 * draw(st.integers(1, 20)),
                64 * draw(st.integers(1, 32)),
            ),
            warps=Warps(*(draw(st.sampled_from([1, 2, 4, 8])) for _ in range(3))),
            stationary=Stationary(draw(st.sampled_from(FOLDS))),
            pipeline=replace(
                base.pipeline,
                stages=draw(st.integers(1, 40)),
                fragments=draw(st.integers(1, 10)),
            ),
            resident=replace(base.resident, ctas=draw(st.integers(1, 4))),
            split=Split(draw(st.integers(1, 80))),
        ),
        problem,
        draw(st.sampled_from(TARGETS)),
    )


@given(wild())
@settings(max_examples=200)
def test_legal_means_that_it_compiles_and_illegal_that_it_is_refused(case):
    schedule, problem, target = case
    name = first_violation(schedule, problem, target)
    if name is None:
        plan = compile_plan(schedule, problem, target)
        share = target.shared_per_sm // schedule.resident.ctas - 1024
        assert plan.shared_bytes <= min(target.shared_per_cta, share)
        assert emit(plan)
    else:
        for refuse in (check_legal, compile_plan):
            with pytest.raises(ScheduleError) as caught:
                refuse(schedule, problem, target)
            assert caught.value.rule == name
            assert caught.value.remedy


@given(subjects)
@EXAMPLES
def test_compiling_is_a_function(subject):
    first, again = plan_of(subject), plan_of(subject)
    assert first == again
    assert print_plan(first) == print_plan(again)
    assert emit(first) == emit(again)


@given(subjects)
@EXAMPLES
def test_every_slot_is_multiplied_then_loaded_once_an_iteration(subject):
    plan = plan_of(subject)
    g, every = plan.geometry, list(range(plan.geometry.groups))
    loop = in_turn(plan)
    assert [op.buffer for op in loop if isinstance(op, MultiplyGroup)] == every
    assert [op.buffer for op in loop if isinstance(op, LoadGroup)] == every
    for op, following in pairwise(loop):
        if isinstance(op, MultiplyGroup):
            assert isinstance(following, LoadGroup)
            assert following.buffer == op.buffer
    chunks = sum(isinstance(op, CopyTile) for op in loop)
    assert chunks == max(1, g.groups // g.chunk_groups)
    assert any(isinstance(op, Turns) for op in plan.loop) == (g.chunk_groups > g.groups)


@given(subjects)
@EXAMPLES
def test_every_wait_and_barrier_of_a_chunk_is_needed(subject):
    plan = plan_of(subject)
    loop, depth = chunk_loop(plan), plan.ring_depth
    check_synchronised(loop, depth)
    assert least_stages(loop) == depth
    for position, op in enumerate(loop):
        if isinstance(op, Wait | Barrier):
            rule = "missing-wait" if isinstance(op, Wait) else "missing-barrier"
            with pytest.raises(ScheduleError) as caught:
                check_synchronised(loop[:position] + loop[position + 1 :], depth)
            assert caught.value.rule == rule
        if isinstance(op, Wait):
            late = (*loop[:position], replace(op, pending=op.pending + 1), *loop[position + 1 :])
            with pytest.raises(ScheduleError, match="missing-wait"):
                check_synchronised(late, depth)


@given(subjects, st.randoms(use_true_random=False))
@EXAMPLES
def test_any_listing_of_the_loop_is_put_in_one_order(subject, random):
    plan = plan_of(subject)
    shuffled = list(plan.loop)
    random.shuffle(shuffled)
    assert ordered(shuffled) == ordered(plan.loop) == plan.loop


@given(subjects, st.integers(1, 5000), st.integers(1, 5000))
@EXAMPLES
def test_grid_and_parts_cover_the_output(subject, m, n):
    plan = plan_of(subject)
    tile_m, tile_n, _ = plan.tile
    splits = plan.schedule.split.k
    x, y, z = plan.grid(m, n, 3)
    assert (x, y, z) == (-(-n // tile_n) * splits, -(-m // tile_m), 1)
    floats, tickets = plan.split_storage(m, n)
    assert tickets == (x // splits * y if splits > 1 else 0)
    assert floats == tickets * splits * tile_m * tile_n
    assert plan.takes("split.parts") == plan.takes("split.tickets") == (splits > 1)
    assert plan.threads == 32 * plan.schedule.warps.m * plan.schedule.warps.k


@given(subjects)
@EXAMPLES
def test_geometry_covers_the_tile(subject):
    plan = plan_of(subject)
    g, s, f = plan.geometry, plan.schedule, plan.problem.format
    assert g.weight_rows == g.fragments_m * 16 * s.warps.m
    kept = (1, 1) if f.plain else (f.n, f.m)
    assert g.weight_rows * kept[1] == s.tile.m * kept[0]
    assert g.weight_rows % kept[0] == 0, "whole bands"
    assert g.fragments_n * 8 == s.tile.n
    assert g.chunk_groups * s.warps.k * 128 == s.tile.k
    assert g.groups * 4 == s.pipeline.stages
    assert g.chunk_bytes == s.tile.k // 64 * g.panel_bytes
    assert g.token_copies * plan.threads * 16 >= g.chunk_bytes
    assert g.groups_per_word * 128 == 8 * g.offset_columns
    assert f.v % g.offset_columns == 0
    assert g.sum_stride >= s.tile.m
    assert g.sum_stride % 16 == 4, "rows of sums keep banks apart"
    for packing in plan.packings:
        assert packing.row_multiple == g.weight_rows


@given(subjects)
@settings(max_examples=30)
def test_passes_are_named_and_each_verifies(subject):
    assert [name for name, _ in passes(shape_of(subject.schedule))] == [
        "buffers", "operations", "order", "synchronisation", "storage", "constants",
    ]  # fmt: skip
    plan = plan_of(subject)
    assert plan.constants
    assert plan.wrappers


def test_the_shipped_schedule_takes_every_format_on_every_target():
    odd = [Format(n, m, v) for m in range(1, 17) for n in range(1, m + 1) for v in (16, 48, 256)]
    for format in (*SHIPPED, *odd):
        problem = make_ssmm(format, "bfloat16", index="int64", bias=True, scale=True)
        schedule = load_schedule("decode_sm80", format, problem.dtype)
        for target in TARGETS:
            assert first_violation(schedule, problem, target) is None, (format, target.name)


@given(subjects, st.sampled_from(TARGETS))
@EXAMPLES
def test_an_earlier_target_is_refused(subject, target):
    schedule = replace(subject.schedule, target=subject.target.name)
    if not target.accepts(target_named(schedule.target)):
        assert first_violation(schedule, subject.problem, target) == "target-order"
