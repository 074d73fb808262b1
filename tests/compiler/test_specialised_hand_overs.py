"""What a warp-specialised plan's operations owe one another: any hand-over left out is refused."""

from dataclasses import replace

import pytest

from samoyeds_gen.compiler import compile_plan
from samoyeds_gen.compiler.warp_specialised.ops import (
    AddPrefix,
    AwaitEmpty,
    AwaitFull,
    AwaitMatrix,
    CopyWeight,
    CopyWords,
    ExpectBytes,
    Issue,
    LoadFragments,
    NextStage,
    PassTurn,
    Release,
    ShowGathered,
    TakeTurn,
)
from samoyeds_gen.compiler.warp_specialised.pipeline import verify_synchronisation
from samoyeds_gen.errors import ScheduleError
from samoyeds_gen.formats import Format
from samoyeds_gen.language import load_schedule, make_ssmm, target_named
from samoyeds_gen.language.schedule import Layout, Overlap, Pack, Stationary, Tile

HOPPER = target_named("sm_90a")


def _swap(ops, kind, new):
    position = next(i for i, op in enumerate(ops) if isinstance(op, kind))
    return (*ops[:position], *new(ops[position]), *ops[position + 1 :])


def _drop(kind):
    return lambda ops: _swap(ops, kind, lambda op: ())


def _behind(kind, other):
    """Put the first `kind` behind the last `other`."""

    def change(ops):
        moved = next(op for op in ops if isinstance(op, kind))
        rest = [op for op in ops if op is not moved]
        place = max(i for i, op in enumerate(rest) if isinstance(op, other)) + 1
        return (*rest[:place], moved, *rest[place:])

    return change


def _before(kind, other):
    """Put the last `kind` before the first `other`."""

    def change(ops):
        position = max(i for i, op in enumerate(ops) if isinstance(op, kind))
        rest = [*ops[:position], *ops[position + 1 :]]
        place = min(i for i, op in enumerate(rest) if isinstance(op, other))
        return (*rest[:place], ops[position], *rest[place:])

    return change


BREAKS_OFF = r"missing-wait: the pipeline of .* breaks: "

BROKEN_PRODUCERS = {
    "bytes too few": lambda ops: _swap(
        ops, ExpectBytes, lambda op: [replace(op, bytes=op.bytes - 16)]
    ),
    "bytes not announced": _drop(ExpectBytes),
    "no weight": _drop(CopyWeight),
    "words twice": lambda ops: _swap(ops, CopyWords, lambda op: [op, op]),
    "no wait for an empty stage": _drop(AwaitEmpty),
    "wait behind the copies": _behind(AwaitEmpty, CopyWeight),
    "stage kept": _drop(NextStage),
}
BROKEN_LOOPS = {
    "no wait for a full stage": _drop(AwaitFull),
    "not shown": _drop(ShowGathered),
    "shown late": _behind(ShowGathered, Issue),
    "a part left out": _drop(Issue),
    "a part twice": lambda ops: _swap(ops, Issue, lambda op: [op, op]),
    "a part for another": lambda ops: _swap(ops, Issue, lambda op: [replace(op, part=op.part + 1)]),
    "a step left out": lambda ops: _swap(ops, Issue, lambda op: [replace(op, steps=op.steps[1:])]),
    "turn not passed": _drop(PassTurn),
    "turn not taken": _drop(TakeTurn),
    "not released": _drop(Release),
    "released twice": lambda ops: _swap(ops, Release, lambda op: [op, op]),
    "released before the wait": _before(Release, AwaitMatrix),
    "released before the work": _before(Release, Issue),
    "last wait left out": lambda ops: _drop(AwaitMatrix)(ops[::-1])[::-1],
    "last wait one short": lambda ops: _swap(
        ops[::-1], AwaitMatrix, lambda op: [replace(op, pending=1)])[::-1],
    "sums not added": _drop(AddPrefix),
    "sums added twice": lambda ops: _swap(ops, AddPrefix, lambda op: [op, op]),
    "sums added before the wait": _before(AddPrefix, AwaitMatrix),
    "stage kept": _drop(NextStage),
}  # fmt: skip

FULL_PLANS = [
    compile_plan(
        replace(
            load_schedule("ssmm_sm90", Format(1, 2, v), make_ssmm(Format(1, 2, v), "bf16").dtype),
            tile=Tile(256, 32, 128),
            overlap=Overlap(2, True),
        ),
        make_ssmm(Format(1, 2, v), "bf16", index=index),
        HOPPER,
    )
    for v in (32, 128)
    for index in (None, "int32")
]


PLAIN = Format(1, 1, 32)
STREAMED = compile_plan(
    replace(
        load_schedule("ssmm_sm90", PLAIN, make_ssmm(PLAIN, "bf16").dtype),
        tile=Tile(256, 32, 128),
        pack=Pack(data="fragment"),
        layout=Layout("linear", "xor_128b"),
        stationary=Stationary("expand", weight="registers"),
    ),
    make_ssmm(PLAIN, "bf16"),
    HOPPER,
)
BROKEN_FRAGMENTS = {
    "fragments not loaded": _drop(LoadFragments),
    "fragments loaded twice": lambda ops: _swap(ops, LoadFragments, lambda op: [op, op]),
    "fragments of another stage": lambda ops: _swap(
        ops, LoadFragments, lambda op: [replace(op, ahead=op.ahead + 1)]),
    "fragments loaded before the wait": _before(LoadFragments, AwaitMatrix),
    "fragments loaded before the work": _before(LoadFragments, Issue),
}  # fmt: skip


RUNS_ON = compile_plan(
    replace(STREAMED.schedule, overlap=Overlap(ahead=True)), STREAMED.problem, HOPPER
)


@pytest.mark.parametrize("plan", [STREAMED, RUNS_ON], ids=["waits", "runs on"])
@pytest.mark.parametrize("name", BROKEN_FRAGMENTS)
def test_broken_fragments_are_refused(name, plan):
    assert verify_synchronisation(plan) is plan
    with pytest.raises(ScheduleError, match=BREAKS_OFF):
        verify_synchronisation(replace(plan, loop=BROKEN_FRAGMENTS[name](plan.loop)))


def test_fragments_in_flight_are_not_loaded():
    at_once = _swap(RUNS_ON.loop, LoadFragments, lambda op: [replace(op, late=False)])
    never_last = tuple(op for op in RUNS_ON.epilogue if not isinstance(op, LoadFragments))
    for broken in ({"loop": at_once}, {"epilogue": never_last}):
        with pytest.raises(ScheduleError, match=BREAKS_OFF):
            verify_synchronisation(replace(RUNS_ON, **broken))


@pytest.mark.parametrize("name", BROKEN_PRODUCERS)
def test_a_broken_producer_is_refused(name):
    for plan in FULL_PLANS:
        assert verify_synchronisation(plan) is plan
        broken = replace(plan, producer=BROKEN_PRODUCERS[name](plan.producer))
        with pytest.raises(ScheduleError, match=BREAKS_OFF):
            verify_synchronisation(broken)


@pytest.mark.parametrize("name", BROKEN_LOOPS)
def test_a_broken_loop_is_refused(name):
    gathered = name in ("not shown", "shown late")
    for plan in (each for each in FULL_PLANS if each.geometry.gathered or not gathered):
        broken = replace(plan, loop=BROKEN_LOOPS[name](plan.loop))
        with pytest.raises(ScheduleError, match=BREAKS_OFF):
            verify_synchronisation(broken)
