"""Kernels that begin while the launch before them ends: the same outputs, and only then."""

from dataclasses import replace

import numpy as np
import pytest
from expert_products import experts_of, integers

import samoyeds_gen as sg
from samoyeds_gen.compiler import (
    Combine,
    Step,
    compile_plan,
    emit,
    emit_routing,
    lower_combine,
    lower_step,
)
from samoyeds_gen.errors import ScheduleError
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel.experts import begins_early
from samoyeds_gen.kernel.routing_steps import order_of
from samoyeds_gen.language import Routing, load_schedule, make_ssmm, target_named
from samoyeds_gen.language.dtypes import BFLOAT16
from samoyeds_gen.language.schedule import Launch, Tile

FORMS = (Format(1, 2, 64), Format(1, 1, 32), Format(4, 8, 32))
EARLY = (
    ("decode_sm80", Launch(True)),
    ("decode_sm80", Launch(True, True)),
    ("ssmm_sm90", Launch(True)),
)


def schedule_of(name, form, launch):
    made = replace(load_schedule(name, form, make_ssmm(form, "bf16").dtype), where=())
    if name == "ssmm_sm90":
        made = replace(made, tile=Tile(made.tile.m, 16, made.tile.k))
    return replace(made, launch=launch)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize(("name", "early"), EARLY)
def test_outputs_are_those_of_a_launch_that_waits(name, early, form):
    rng = np.random.default_rng(0)
    dense = rng.integers(-3, 4, (70, 200)).astype(np.float32)
    w = sg.encode(dense, n=form.n, m=form.m, v=form.v)
    tokens = rng.integers(-3, 4, (19, 200)).astype(w.data.dtype)
    options = {"n": form.n, "m": form.m, "v": form.v, "target": "sm_90a"}
    found = [
        sg.compile(schedule_of(name, form, launch), **options)(w, tokens, device="cpu")
        for launch in (Launch(), early)
    ]
    assert found[0].tobytes() == found[1].tobytes()
    wanted = tokens.astype(np.float64) @ w.decode().astype(np.float64).T
    assert np.array_equal(found[0].astype(np.float64), wanted)


@pytest.mark.parametrize(("name", "launch"), EARLY)
def test_nothing_else_changes_in_the_text(name, launch):
    """The lines of a kernel that waits for launches to end are all there, in their order."""
    form, target = FORMS[0], target_named("sm_90a")
    problem = make_ssmm(form, "bf16")
    texts = [
        emit(compile_plan(schedule_of(name, form, each), problem, target)).splitlines()
        for each in (Launch(), launch)
    ]
    late, early = ([line for line in text if "// Schedule " not in line] for text in texts)
    rest = iter(early)
    assert all(line in rest for line in late)
    more = "\n".join(early)
    assert "griddepcontrol" not in "\n".join(late)
    assert more.index("launch_dependents();") < more.index("  await_launch();")
    assert ("prefetch_l2(weight +" in more) == launch.prefetch


def experts_schedule(form, launch):
    made = schedule_of("ssmm_sm90", form, launch)
    return replace(made, pipeline=replace(made.pipeline, stages=3))


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("activation", [None, "silu"])
def test_experts_that_begin_early_compute_the_same(form, activation):
    rng = np.random.default_rng(1)
    rows, counts = 2 * form.m * 8, (3, 0, 17)
    w = experts_of(form, len(counts), rows, 136, rng)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    tokens = integers(rng, offsets[-1], 136).astype(w.numpy().data.dtype)
    options = {"n": form.n, "m": form.m, "v": form.v, "target": "sm_90a", "activation": activation}
    found = [
        sg.compile_grouped(experts_schedule(form, launch), **options)(
            w, tokens, offsets, device="cpu"
        )
        for launch in (Launch(), Launch(True))
    ]
    assert found[0].tobytes() == found[1].tobytes()


def test_experts_count_their_tiles_behind_the_wait():
    problem = make_ssmm(FORMS[0], "bf16", grouped=True)
    text = emit(compile_plan(experts_schedule(FORMS[0], Launch(True)), problem))
    body = text[text.index('extern "C"') :]
    at = [body.index(each) for each in ("launch_dependents();", "await_launch();", "offsets[at]")]
    assert at == sorted(at)
    assert body.count("await_launch();") == 1


@pytest.mark.parametrize("kind", ["route", "choose", "sort", "count", "place"])
def test_routing_kernels_that_begin_early_wait_before_they_read(kind):
    step = Step(Routing(8, 2, "softmax_topk", True), kind, early=True)
    text = emit_routing(lower_step(step, target_named("sm_90a")))
    late = emit_routing(lower_step(replace(step, early=False), target_named("sm_90a")))
    body = text[text.index('extern "C"') :]
    assert body.index("launch_dependents();") < body.index("  await_launch();")
    rest = iter(text.replace("_early(", "(").splitlines())
    assert all(line.replace("_early", "") in rest for line in late.splitlines()[1:])
    assert step.entry == f"{replace(step, early=False).entry}_early"


def test_early_routing_needs_a_target_that_has_it():
    early = Step(Routing(8, 2, "softmax_topk", True), "route", early=True)
    for lower, problem in (
        (lower_step, early),
        (lower_combine, Combine(2, BFLOAT16, 8, early=True)),
    ):
        with pytest.raises(ScheduleError) as caught:
            lower(problem, target_named("sm_89"))
        assert str(caught.value) == (
            "launch-dependent: early=True needs sm_90, the target is sm_89; leave it out, or "
            "choose a later target"
        )


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_a_layer_begins_early_where_all_of_its_products_do(first, second):
    schedules = [experts_schedule(FORMS[0], Launch(early)) for early in (first, second)]
    assert begins_early(schedules) == (first and second)


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("tokens", [1, 5000])
def test_an_order_knows_whether_its_launches_begin_early(early, tokens):
    routing = Routing(8, 2, "softmax_topk", True)
    order = order_of(
        routing, target_named("sm_90a"), tokens, chooses=True, values="float32", early=early
    )
    assert order.early == early
