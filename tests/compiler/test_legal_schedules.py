"""Drawn legal schedules: they compile, their hazards are ordered, their buffers do not collide.

Half of what is drawn is then broken again and must be refused.
"""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
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
from samoyeds_gen.compiler.ops import Barrier, CopyTile, LoadTokens, LoadWeight, Multiply, Wait
from samoyeds_gen.compiler.shapes import shape_of
from samoyeds_gen.compiler.storage import SECTIONS
from samoyeds_gen.errors import ScheduleError
from samoyeds_gen.formats import Format
from samoyeds_gen.language import FOLDS, TARGETS, load_schedule, make_ssmm, target_named
from samoyeds_gen.language.schedule import Layout, Stationary, Tile, Warps

subjects = drawn_subjects("ssmm_sm80")
EXAMPLES = settings(max_examples=50)


def _with(ops, position, op):
    return (*ops[:position], op, *ops[position + 1 :])


def plan_of(subject):
    return compile_plan(subject.schedule, subject.problem, subject.target)


@st.composite
def wild(draw):
    """Schedules of any size, most of them illegal, with the problem and target they are for."""
    problem = draw(problems(formats()))
    base = load_schedule("ssmm_sm80", problem.format, problem.dtype)
    k = draw(st.sampled_from([64, 128]))
    return (
        replace(
            base,
            tile=Tile(16 * draw(st.integers(1, 64)), 8 * draw(st.integers(1, 64)), k),
            warps=Warps(draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from([1, 2, 4, 8]))),
            tensorize=draw(st.sampled_from(["mma_sp_m16n8k32", "mma_sp_m16n8k16"])),
            stationary=Stationary(draw(st.sampled_from(FOLDS))),
            layout=Layout("linear", draw(st.sampled_from(["linear", "xor_128b"]))),
            pipeline=replace(
                base.pipeline,
                stages=draw(st.integers(1, 13)),
                fragments=draw(st.integers(1, 2)),
            ),
            resident=replace(base.resident, ctas=draw(st.integers(1, 4))),
        ),
        problem,
        draw(st.sampled_from(TARGETS)),
    )


@given(wild())
@settings(max_examples=250)
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
def test_no_two_live_buffers_overlap(subject):
    plan = plan_of(subject)
    shared = [each for each in plan.buffers if each.space == "shared"]
    for position, one in enumerate(shared):
        assert one.offset % one.align == 0
        assert 0 <= one.offset <= one.end <= plan.shared_bytes
        for other in shared[:position]:
            together = SECTIONS.index(one.first) <= SECTIONS.index(other.last) and SECTIONS.index(
                other.first
            ) <= SECTIONS.index(one.last)
            apart = one.end <= other.offset or other.end <= one.offset
            assert apart or not together, (one, other)
    assert plan.shared_bytes == max(each.end for each in shared)
    assert plan.shared_bytes <= subject.target.shared_per_cta


@given(subjects)
@EXAMPLES
def test_bytes_are_shared_where_lives_allow(subject):
    plan = plan_of(subject)
    assert plan.buffer("staging").offset < max(
        each.end for each in plan.buffers if each.space == "shared" and each.last != "epilogue"
    )


def test_rows_that_outlive_the_loop_do_not_split_what_the_epilogue_may_use():
    """A list of rows placed behind the loop's buffers once left no hole for a larger staging."""
    fmt, target = Format(1, 5, 16), target_named("sm_80")
    schedule = replace(
        load_schedule("ssmm_sm80", fmt, "bfloat16"),
        tile=Tile(m=320, n=32, k=64),
        warps=Warps(m=2, n=4),
        layout=Layout(weight="xor_64b", tokens="xor_128b", out="token_major"),
    )
    schedule = replace(schedule, pipeline=replace(schedule.pipeline, stages=2))
    plan = compile_plan(schedule, make_ssmm(fmt, "bfloat16", index="int32"), target)
    assert plan.buffer("token_rows").last == plan.buffer("staging").last == "epilogue"
    assert plan.buffer("staging").offset < 1024


@given(subjects)
@EXAMPLES
def test_every_wait_and_barrier_of_the_loop_is_needed(subject):
    plan = plan_of(subject)
    stages = plan.schedule.pipeline.stages
    check_synchronised(plan.loop, stages)
    for position, op in enumerate(plan.loop):
        if isinstance(op, Wait | Barrier):
            without = plan.loop[:position] + plan.loop[position + 1 :]
            rule = "missing-wait" if isinstance(op, Wait) else "missing-barrier"
            with pytest.raises(ScheduleError) as caught:
                check_synchronised(without, stages)
            assert caught.value.rule == rule
        if isinstance(op, Wait):
            late = replace(op, pending=op.pending + 1)
            with pytest.raises(ScheduleError, match="missing-wait"):
                check_synchronised(
                    (*plan.loop[:position], late, *plan.loop[position + 1 :]), stages
                )


@given(subjects)
@EXAMPLES
def test_a_shallower_ring_is_refused(subject):
    plan = plan_of(subject)
    stages = plan.schedule.pipeline.stages
    assert least_stages(plan.loop) == stages
    with pytest.raises(ScheduleError, match="are not ordered; "):
        check_synchronised(plan.loop, stages - 1)


@given(subjects, st.randoms(use_true_random=False))
@EXAMPLES
def test_any_listing_of_the_loop_is_put_in_a_safe_order(subject, random):
    plan = plan_of(subject)
    assert ordered(plan.loop) == plan.loop
    shuffled = list(plan.loop)
    random.shuffle(shuffled)
    made = ordered(shuffled)
    assert sorted(map(str, made)) == sorted(map(str, plan.loop))
    check_synchronised(made, plan.schedule.pipeline.stages)
    # Only operations of one slot and rank may have changed places.
    assert [(op.slot, op.rank) for op in made] == [(op.slot, op.rank) for op in plan.loop]


@given(subjects)
@EXAMPLES
def test_every_step_is_loaded_and_multiplied_once(subject):
    plan = plan_of(subject)
    every = list(range(plan.geometry.steps))
    for kind in (LoadWeight, Multiply):
        assert sorted(op.step for op in plan.loop if isinstance(op, kind)) == every
    loaded = [op.step for op in plan.loop if isinstance(op, LoadTokens)]
    loaded += [op.next for op in plan.loop if isinstance(op, Multiply) and op.next is not None]
    assert sorted(loaded) == every
    assert sum(isinstance(op, CopyTile) for op in plan.loop) == 1


@given(subjects, st.integers(1, 5000), st.integers(1, 5000))
@EXAMPLES
def test_the_grid_covers_the_output(subject, m, n):
    plan = plan_of(subject)
    tile_m, tile_n, _ = plan.tile
    x, y, z = plan.grid(m, n, 3)
    assert (y, z) == (1, 1)
    assert x == -(-m // tile_m) * -(-n // tile_n)
    assert plan.threads == 32 * plan.schedule.warps.m * plan.schedule.warps.n


@given(subjects)
@EXAMPLES
def test_geometry_covers_the_tile(subject):
    plan = plan_of(subject)
    g, s, f = plan.geometry, plan.schedule, plan.problem.format
    assert g.fragments_m * 16 * s.warps.m * g.features_per_row == s.tile.m
    assert g.fragments_n * 8 * s.warps.n == s.tile.n
    assert g.steps * plan.atom.k == s.tile.k
    assert g.weight_copies * plan.threads * 16 >= g.weight_rows * g.weight_row_bytes
    assert g.token_copies * plan.threads * 16 >= s.tile.n * g.token_row_bytes
    # However the tile lies over the blocks of M rows, its stored rows fit.
    for tile in range(0 if f.plain else 2 * f.m):
        first, last = tile * s.tile.m, (tile + 1) * s.tile.m - 1
        rows = (last // f.m + 1) * f.n - first // f.m * f.n
        assert rows <= g.weight_rows


@given(subjects)
@settings(max_examples=30)
def test_passes_are_named_and_each_verifies(subject):
    assert [name for name, _ in passes(shape_of(subject.schedule))] == [
        "buffers", "operations", "order", "synchronisation", "storage", "constants",
    ]  # fmt: skip
    plan = plan_of(subject)
    assert plan.constants
    assert plan.wrappers


def test_the_shipped_schedule_takes_every_shipped_format_on_every_target():
    for format in SHIPPED:
        for target in TARGETS:
            problem = make_ssmm(format, "bfloat16", index="int64", bias=True, scale=True)
            schedule = load_schedule("ssmm_sm80", format, problem.dtype)
            assert first_violation(schedule, problem, target) is None, (format, target.name)


@given(subjects, st.sampled_from(TARGETS))
@EXAMPLES
def test_an_earlier_target_is_refused(subject, target):
    schedule = replace(subject.schedule, target=subject.target.name)
    assume(not target.accepts(target_named(schedule.target)))
    assert first_violation(schedule, subject.problem, target) == "target-order"
