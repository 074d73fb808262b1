"""The choice of schedules for grouped launches: laws of its model, and what it picks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samoyeds_gen.check.strategies import SHIPPED
from samoyeds_gen.compiler import compile_plan, first_violation
from samoyeds_gen.errors import TuneError
from samoyeds_gen.formats import Format
from samoyeds_gen.language import make_ssmm, target_named
from samoyeds_gen.tune import experts
from samoyeds_gen.tune.experts import ExpertTask, expected_tiles, expert_schedules, predicted
from samoyeds_gen.tune.machines import MACHINES, machine_named

H200 = machine_named("H200")
FORM = Format(1, 2, 128)
GATE = make_ssmm(FORM, "bf16", index="int32", activation="silu", grouped=True, gated=True)
DOWN = make_ssmm(FORM, "bf16", grouped=True)
MIXTRAL = {"m": 28672, "k": 4096, "experts": 8, "top": 2}


@given(st.integers(1, 400), st.sampled_from((0.01, 0.125, 0.5, 1.0)), st.integers(1, 64))
def test_expected_tiles_are_a_mean(tokens, share, n):
    mean = expected_tiles(tokens, share, n)
    assert tokens * share / n - 1e-6 <= mean <= tokens * share / n + 1
    assert mean <= math.ceil(tokens / n)
    drawn = np.random.default_rng(0).binomial(tokens, share, 4000)
    seen = np.ceil(drawn / n)
    assert abs(seen.mean() - mean) <= 6 * max(seen.std(), 0.03) / math.sqrt(4000) + 1e-6


def test_no_tokens_have_no_tiles():
    assert expected_tiles(0, 0.5, 16) == 0
    assert ExpertTask(**MIXTRAL, tokens=0).columns(16) == 0


@given(st.integers(1, 14), st.sampled_from((GATE, DOWN)))
def test_more_tokens_never_take_less_time(power, problem):
    fewer, more = (ExpertTask(**MIXTRAL, tokens=2**p) for p in (power, power + 1))
    for schedule in expert_schedules(fewer, problem, H200)[:8]:
        first = predicted(fewer, schedule, problem, H200)
        assert first <= predicted(more, schedule, problem, H200) * 1.0001


def test_shared_experts_take_every_token():
    routed = ExpertTask(2816, 2048, 64, 6, 256)
    both = ExpertTask(2816, 2048, 66, 6, 256, shared=2)
    assert both.columns(64) == pytest.approx(routed.columns(64) + 2 * 4)
    assert both.rows == 256 * 8
    assert both.busy == pytest.approx(routed.busy + 2)


@pytest.mark.parametrize(
    ("tokens", "narrow", "wide", "gather"),
    [(16, 16, 16, "on_load"), (128, 24, 64, "before"), (4096, 96, 200, "before")],
)
def test_tiles_follow_the_tokens_of_an_expert(tokens, narrow, wide, gather):
    best = expert_schedules(ExpertTask(**MIXTRAL, tokens=tokens), GATE, H200)[0]
    assert narrow <= best.tile.n <= wide
    assert best.pack.gather == gather


def test_every_schedule_is_legal_and_named_apart():
    made = expert_schedules(ExpertTask(**MIXTRAL, tokens=512), GATE, H200)
    assert len({each.name for each in made}) == len(made) > 20


OTHERS = [each for each in MACHINES if each.target != "sm_90a"]


@pytest.mark.parametrize("machine", OTHERS, ids=lambda each: each.name)
@pytest.mark.parametrize("problem", [GATE, DOWN], ids=["gate", "down"])
def test_gpus_without_wgmma_have_the_ring(machine, problem):
    target, columns = target_named(machine.target), []
    for tokens in (16, 128, 4096):
        task = ExpertTask(**MIXTRAL, tokens=tokens)
        made = expert_schedules(task, problem, machine)
        assert len({each.name for each in made}) == len(made) > 20
        assert {each.pipeline.copy for each in made} == {"cp_async_16b"}
        assert all(first_violation(each, problem, target) is None for each in made)
        times = [predicted(task, each, problem, machine) for each in made]
        assert times == sorted(times)
        columns.append(made[0].tile.n)
    assert columns[0] <= 16 < columns[1] <= columns[2], "tiles follow the tokens of an expert"


@pytest.mark.parametrize("form", [FORM, Format(2, 4, 32)], ids=str)
def test_tiles_of_every_height_read_the_same_words(form):
    """A layer keeps one packing of its weights, however many tokens it is called with."""
    problem, a100 = make_ssmm(form, "bf16", scale=True, grouped=True), machine_named("A100")
    made = expert_schedules(ExpertTask(**MIXTRAL, tokens=64), problem, a100)
    for fold in ("prefix", "expand"):
        plans = [compile_plan(each, problem) for each in made if each.stationary.fold == fold]
        assert len({plan.packing_key for plan in plans}) == bool(plans)
        assert len({plan.tile[0] for plan in plans}) > 2 * bool(plans) - 1
    assert plans


@given(st.integers(1, 13), st.sampled_from((GATE, DOWN)), st.sampled_from(OTHERS))
def test_more_tokens_never_take_less_time_on_the_ring(power, problem, machine):
    fewer, more = (ExpertTask(**MIXTRAL, tokens=2**p) for p in (power, power + 1))
    for schedule in expert_schedules(fewer, problem, machine)[:4]:
        first = predicted(fewer, schedule, problem, machine)
        assert first <= predicted(more, schedule, problem, machine) * 1.0001


@pytest.mark.parametrize("name", ["A100", "H200"])
@pytest.mark.parametrize("form", SHIPPED, ids=str)
def test_every_shipped_format_has_a_schedule(form, name):
    for gated in (False, True):
        if gated and 8 % form.m:
            continue  # gate and up rows alternate by 8
        problem = make_ssmm(
            form, "bf16", activation="silu" if gated else None, grouped=True, gated=gated
        )
        assert expert_schedules(ExpertTask(**MIXTRAL, tokens=64), problem, machine_named(name))


@pytest.mark.parametrize("name", ["A100", "H200"])
def test_a_format_that_no_kernel_takes_is_refused(name):
    problem = make_ssmm(Format(8, 16, 32), "bf16", activation="silu", grouped=True, gated=True)
    with pytest.raises(TuneError, match="no schedule multiplies experts of format"):
        expert_schedules(ExpertTask(**MIXTRAL, tokens=16), problem, machine_named(name))


def test_launches_begin_early_up_to_a_number_of_tokens_a_tile():
    task = ExpertTask(**MIXTRAL, tokens=64)
    made = expert_schedules(task, GATE, H200)
    narrow = [each.launch.dependent for each in made if each.tile.n <= experts.EARLY_TO]
    wide = [each.launch.dependent for each in made if each.tile.n > experts.EARLY_TO]
    assert set(narrow) == {True}
    assert set(wide) == {False}


@pytest.mark.parametrize("form", [Format(1, 1, 32), Format(4, 8, 32), Format(1, 2, 128)], ids=str)
def test_wide_tiles_have_two_matrices_a_warpgroup_unless_prefix_sums_take_registers(form):
    problem = make_ssmm(form, "bfloat16", grouped=True)
    made = expert_schedules(ExpertTask(**MIXTRAL, tokens=4096), problem, H200)
    tall = [each for each in made if each.epilogue.by == "warpgroup"]
    assert {each.epilogue.by for each in made if each not in tall} <= {"warp"}
    if (form.n, form.m) == (1, 2):
        assert not tall
        return
    assert {each.tile.m // each.warps.m for each in tall} == {32}
    assert {each.tile.m // each.warps.m for each in made if each not in tall} <= {16}
    assert all((each.tile.n >= experts.TURNS_FROM) == (each in tall) for each in made)
    assert made[0] in tall
