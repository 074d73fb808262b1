"""Drawn warp-specialised schedules: laws of their plans, and what breaks one is refused.

That their kernels compute what the reference does is held in tests/kernel/test_drawn_hopper.py.
"""

from dataclasses import replace
from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samoyeds_gen.check.work import drawn_subjects
from samoyeds_gen.compiler import compile_plan, emit, first_violation, print_plan
from samoyeds_gen.compiler.shapes import WARP_SPECIALISED, shape_of
from samoyeds_gen.compiler.warp_specialised.ops import (
    AddPrefix,
    CopyTokens,
    CopyWeight,
    CopyWords,
    ExpectBytes,
    GatherTokens,
    Issue,
    LoadFragments,
    PassTurn,
    ReadWeight,
    TakeTurn,
)
from samoyeds_gen.errors import ScheduleError
from samoyeds_gen.language import FOLDS, TARGETS, target_named
from samoyeds_gen.language.schedule import (
    Cluster,
    Epilogue,
    Layout,
    Overlap,
    Pack,
    Resident,
    Split,
    Stationary,
    Warps,
)

HOPPER = target_named("sm_90a")
REGISTERS, SHARED_WINDOW = 65536, 1 << 18
subjects = drawn_subjects("ssmm_sm90")
EXAMPLES = settings(max_examples=50)


def plan_of(subject):
    return compile_plan(subject.schedule, subject.problem, subject.target)


def of_kind(ops, kind):
    return [op for op in ops if isinstance(op, kind)]


def constants_of(plan):
    return {each.name: each.value for group in plan.constants for each in group.constants}


CHANGES = {
    "tile m": lambda s, draw: replace(s, tile=replace(s.tile, m=64 * draw(st.integers(1, 16)))),
    "tile n": lambda s, draw: replace(s, tile=replace(s.tile, n=4 * draw(st.integers(1, 70)))),
    "tile k": lambda s, draw: replace(
        s, tile=replace(s.tile, k=draw(st.sampled_from((32, 64, 128))))),
    "warps": lambda s, draw: replace(s, warps=Warps(draw(st.sampled_from((4, 8, 12, 16, 20))), 1)),
    "fold": lambda s, draw: replace(s, stationary=Stationary(draw(st.sampled_from(FOLDS)))),
    "stages": lambda s, draw: replace(
        s, pipeline=replace(s.pipeline, stages=draw(st.integers(1, 13)))),
    "overlap": lambda s, draw: replace(s, overlap=Overlap(draw(st.integers(1, 6)))),
    "cluster": lambda s, draw: replace(s, cluster=Cluster(draw(st.integers(1, 4)))),
    "split": lambda s, draw: replace(s, split=Split(draw(st.integers(1, 9)))),
    "slices": lambda s, draw: replace(s, epilogue=Epilogue(4 * draw(st.integers(1, 64)))),
}  # fmt: skip


@st.composite
def wild(draw):
    """Legal schedules with up to two things changed, about half of them illegal then."""
    subject = draw(subjects)
    schedule = subject.schedule
    for name in draw(st.lists(st.sampled_from(sorted(CHANGES)), max_size=2)):
        schedule = CHANGES[name](schedule, draw)
    return schedule, subject.problem, subject.target


@given(wild())
@settings(max_examples=200)
def test_legal_means_that_it_compiles_and_illegal_that_it_is_refused(case):
    schedule, problem, target = case
    name = first_violation(schedule, problem, target)
    if name is None:
        plan = compile_plan(schedule, problem, target)
        assert plan.shared_bytes <= target.shared_per_cta
        assert emit(plan)
    else:
        with pytest.raises(ScheduleError) as caught:
            compile_plan(schedule, problem, target)
        assert caught.value.rule == name
        assert caught.value.remedy


@given(subjects)
@EXAMPLES
def test_compiling_is_a_function(subject):
    assert shape_of(subject.schedule) is WARP_SPECIALISED
    first, again = plan_of(subject), plan_of(subject)
    assert first == again
    assert print_plan(first) == print_plan(again)
    assert emit(first) == emit(again)


@given(subjects)
@EXAMPLES
def test_buffers_are_apart_and_aligned(subject):
    """Only the parts of split columns lie over the ring; swizzles see absolute addresses."""
    plan = plan_of(subject)
    shared = sorted((b for b in plan.buffers if b.space == "shared"), key=lambda b: b.end)
    for one, other in combinations(shared, 2):
        over = "parts" in (one.name, other.name) and "loop" in (one.last, other.last)
        assert over or one.end <= other.offset or other.end <= one.offset, (one, other)
    for each in shared:
        assert each.offset % each.align == 0
        swizzled = each.swizzle is not None and each.swizzle.bits
        assert each.offset % (1024 if swizzled else 16) == 0
    assert plan.shared_bytes == shared[-1].end <= min(subject.target.shared_per_cta, SHARED_WINDOW)
    g = plan.geometry
    assert g.weight_bytes % (8 * g.weight_row_bytes) == 0, "a stage keeps the swizzle's phase"
    assert g.token_bytes % 1024 == g.word_bytes % 16 == 0
    stages = plan.schedule.pipeline.stages
    for name in ("full", "empty"):
        assert plan.buffer(name).bytes == 8 * stages
    assert plan.buffer("slices").bytes == g.slices * g.slice_bytes


@given(subjects)
@EXAMPLES
def test_announced_bytes_are_those_of_the_copies(subject):
    plan = plan_of(subject)
    g, problem = plan.geometry, plan.problem
    (expect,) = of_kind(plan.producer, ExpectBytes)
    boxes = {box.operand: box for box in plan.boxes}
    words = plan.schedule.tile.m // (64 * g.features_per_row) * g.word_bytes
    weight = 0
    if not g.fragment_buffers:
        weight = 2 * boxes["weight.data"].rows * boxes["weight.data"].columns
    assert ("weight.data" in boxes) == (weight > 0)
    assert [op.bytes for op in of_kind(plan.producer, CopyWeight)] == [weight] * (weight > 0)
    assert [op.bytes for op in of_kind(plan.producer, CopyWords)] == [words]
    if problem.index is None:
        box = boxes["tokens"]
        arriving = 2 * box.rows * box.columns * g.token_boxes * plan.cluster // plan.share
        assert [op.bytes for op in of_kind(plan.producer, CopyTokens)] == [arriving]
        assert expect.bytes == weight + words + arriving
    else:
        assert "tokens" not in boxes
        assert len(of_kind(plan.producer, GatherTokens)) == 1
        assert expect.bytes == weight + words
    named = constants_of(plan)
    text = emit(plan)
    tokens = "" if problem.index else " + kTokenStage"
    stored = "kWeightStage + " if weight else ""
    groups = "kConsumers" if g.matrices == 1 else "kConsumers * kMatrices"
    assert f"mbarrier_expect(full(), {stored}{groups} * kWordBytes{tokens});" in text
    boxed = 0 if problem.index else named["kTokenStage"]
    written = named.get("kWeightStage", 0)
    assert expect.bytes == written + g.groups * named["kWordBytes"] + boxed


@given(subjects)
@EXAMPLES
def test_fragments_are_loaded_once_and_packed_for_whole_tiles(subject):
    plan = plan_of(subject)
    g, s = plan.geometry, plan.schedule
    streamed = s.pack.data == "fragment"
    assert g.fragment_buffers == streamed * s.pipeline.fragments
    assert [op.ahead for op in of_kind(plan.loop, LoadFragments)] == [g.fragment_buffers] * streamed
    packings = {each.source: each for each in plan.packings}
    assert ("weight.fragments" in packings) == streamed == plan.takes("weight.fragments")
    assert plan.takes("weight.data") == (not streamed)
    if streamed:
        assert "weight_ring" not in [each.name for each in plan.buffers]
        fragments, words = packings["weight.fragments"], packings["weight.words"]
        assert fragments.rows == words.rows == "stored"
        whole = 64 if plan.problem.grouped else s.tile.m * s.cluster.m
        assert fragments.row_multiple == words.row_multiple == whole
        assert fragments.k_multiple == s.tile.k
        assert constants_of(plan)["kFragmentWords"] * 4 == 16 * s.tile.k


@given(subjects)
@EXAMPLES
def test_every_part_takes_every_step_once(subject):
    plan = plan_of(subject)
    g, overlap = plan.geometry, plan.schedule.overlap
    issues = of_kind(plan.loop, Issue)
    taken = [(op.part, step.matrix, step.index) for op in issues for step in op.steps]
    every = product(range(overlap.split), range(g.matrices), range(g.steps))
    assert sorted(taken) == list(every)
    stored = 64 * plan.schedule.tile.k // 2  # values of a matrix and stage
    for op in issues:
        for step in op.steps:
            word = step.word - step.matrix * (plan.schedule.tile.k // 64)
            assert 64 * word + 32 * step.selector == 32 * step.index
            assert 64 * step.box + 8 * step.token_chunk == 32 * step.index
            ahead = step.weight_chunk - step.matrix * stored // 8
            assert 16 * ahead == 32 * step.index, "16 bytes hold 16 dense columns"
            if g.fold == "prefix":
                assert 32 * step.index // plan.problem.format.v % g.blocks_per_tile == op.block
    added = [(op.block, op.part) for op in of_kind(plan.loop, AddPrefix)]
    assert added == ([(op.block, op.part) for op in issues] if g.fold == "prefix" else [])
    assert [op.expand for op in of_kind(plan.loop, ReadWeight)] == (
        [g.fold == "expand"] if g.weight_registers and not g.fragment_buffers else []
    )
    turns = [type(op) for op in plan.loop if isinstance(op, TakeTurn | PassTurn)]
    assert turns == [TakeTurn, PassTurn] * g.blocks_per_tile * overlap.turns


@given(subjects)
@EXAMPLES
def test_geometry_covers_the_tile(subject):
    plan = plan_of(subject)
    g, s, f = plan.geometry, plan.schedule, plan.problem.format
    assert 64 * g.matrices * g.consumers * g.features_per_row == s.tile.m
    assert g.matrices in (1, 2)
    assert g.matrices == 1 or g.slice_warps == 4, "rows of both leave together"
    assert plan.threads == 128 * (g.consumers + 1)
    assert 128 * (g.consumers * g.consumer_registers + g.producer_registers) <= REGISTERS
    assert g.part_tokens * s.overlap.split == s.tile.n
    assert g.steps * 32 == s.tile.k
    assert g.registers <= g.consumer_registers
    for tile in range(0 if f.plain else 2 * f.m):
        first, last = tile * s.tile.m, (tile + 1) * s.tile.m - 1
        assert (last // f.m + 1) * f.n - first // f.m * f.n <= g.weight_rows
    assert g.blocks_per_tile == 1 or g.tiles_per_block == 1


@given(subjects, st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 200))
@EXAMPLES
def test_the_grid_is_whole_clusters_and_no_more_than_there_is_work(subject, m, n, processors):
    plan = plan_of(subject)
    tile_m, tile_n, _ = plan.tile
    x, y, z = plan.grid(m, n, processors)
    assert (y, z) == (1, 1)
    assert x % plan.cluster == 0
    rows = tile_m * plan.cluster // plan.share
    tiles = -(-m // rows) * -(-n // tile_n)
    if plan.share > 1:
        assert x == plan.cluster * tiles, "every tile has its own cluster"
    else:
        assert plan.cluster <= x <= max(processors, plan.cluster)
        assert x // plan.cluster <= tiles


# What is done to a legal schedule, and the rules that may refuse it; a format may fall to an
# earlier one. The first is the rule under test, and must be met by some schedule.
BREAKS = {
    "another matrix step": (
        lambda s: replace(s, tensorize="mma_sp_m16n8k32"), ("warpgroup-matrix",)),
    "warps side by side": (
        lambda s: replace(s, warps=Warps(s.warps.m, 2)), ("warpgroups", "warps-count")),
    "half a warpgroup": (lambda s: replace(s, warps=Warps(s.warps.m - 2, 1)), ("warpgroups",)),
    "five warpgroups": (lambda s: replace(s, warps=Warps(20, 1)), ("warpgroups",)),
    "turns of one warpgroup": (
        lambda s: replace(s, warps=Warps(4, 1), overlap=Overlap(1, True)), ("warpgroup-turns",)),
    "rows of half a warpgroup": (
        lambda s: replace(s, tile=replace(s.tile, m=s.tile.m - 32)), ("warpgroup-tile-m",)),
    "half a group of tokens": (
        lambda s: replace(s, tile=replace(s.tile, n=s.tile.n + 4)), ("warpgroup-tile-n",)),
    "too many tokens": (
        lambda s: replace(s, tile=replace(s.tile, n=256 + s.tile.n)), ("warpgroup-tile-n",)),
    "parts of part of a group": (
        lambda s: replace(s, overlap=replace(s.overlap, split=s.tile.n)), ("warpgroup-tile-n",)),
    "slices of part of a group": (
        lambda s: replace(s, epilogue=replace(s.epilogue, tokens=12)), ("warpgroup-tile-n",)),
    "three steps": (lambda s: replace(s, tile=replace(s.tile, k=96)), ("warpgroup-tile-k",)),
    "other weight": (
        lambda s: replace(s, layout=Layout("xor_256b", s.layout.tokens)), ("warpgroup-layout",)),
    "fragments from shared memory": (
        lambda s: replace(s, pack=Pack(data="fragment"), stationary=Stationary("expand")),
        ("weight-fragments",)),
    "many fragments": (
        lambda s: replace(
            s,
            pack=Pack(data="fragment"),
            stationary=Stationary("expand", weight="registers"),
            pipeline=replace(s.pipeline, fragments=5)),
        ("weight-fragments",)),
    "linear tokens": (
        lambda s: replace(s, layout=Layout(s.layout.weight, "linear")), ("warpgroup-layout",)),
    "one stage": (lambda s: replace(s, pipeline=replace(s.pipeline, stages=1)), ("ring-depth",)),
    "many stages": (lambda s: replace(s, pipeline=replace(s.pipeline, stages=13)), ("ring-depth",)),
    "a neighbour": (lambda s: replace(s, resident=Resident(2)), ("one-cta",)),
    "split twice": (
        lambda s: replace(s, cluster=Cluster(2), split=Split(2)),
        ("cluster-split", "cluster-shares")),
    "split in nine": (lambda s: replace(s, cluster=Cluster(1), split=Split(9)), ("cluster-split",)),
    "slices of parts cut": (
        lambda s: replace(
            s,
            cluster=Cluster(1),
            split=Split(2),
            epilogue=replace(s.epilogue, tokens=s.tile.n + 8)),
        ("cluster-split",)),
    "warps along k": (
        lambda s: replace(s, warps=replace(s.warps, k=2)), ("whole-warps", "warps-count")),
    "a cluster of three": (lambda s: replace(s, cluster=Cluster(3)), ("cluster-shares",)),
    "a cluster of eight": (lambda s: replace(s, cluster=Cluster(8)), ("cluster-shares",)),
    "an endless slice": (
        lambda s: replace(s, split=Split(), epilogue=replace(s.epilogue, tokens=4096)),
        ("warpgroup-shared",)),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
@settings(max_examples=15)
@given(subject=subjects)
def test_a_broken_schedule_is_refused(name, subject):
    change, rules = BREAKS[name]
    broken = change(subject.schedule)
    assert first_violation(broken, subject.problem, subject.target) in rules
    with pytest.raises(ScheduleError) as caught:
        compile_plan(broken, subject.problem, subject.target)
    assert caught.value.remedy


@given(subjects)
@EXAMPLES
def test_exchange_is_refused_unless_no_sub_row_is_absent(subject):
    stationary = replace(subject.schedule.stationary, fold="exchange")
    schedule = replace(subject.schedule, stationary=stationary)
    found = first_violation(schedule, subject.problem, subject.target)
    assert found == (None if subject.problem.format.plain else "warpgroup-fold")


@given(subjects, st.sampled_from([each for each in TARGETS if each.name != "sm_90a"]))
@EXAMPLES
def test_another_target_is_refused(subject, target):
    assert first_violation(subject.schedule, subject.problem, target) == "target-order"
