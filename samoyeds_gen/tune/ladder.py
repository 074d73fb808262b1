"""The ladder: the Hopper schedule built up one directive at a time, and what each one is to bring.

A rung is a whole schedule that differs from the one it is held against in one directive. What a
rung's kernel uses and what the model predicts needs no GPU; times are measured as in a comparison.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from samoyeds_gen.compiler.warp_specialised.geometry import SpecialisedGeometry
from samoyeds_gen.errors import SamoyedsError
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import Kernel, Variant, build_variant
from samoyeds_gen.language import Schedule, Ssmm, layouts, load_schedule, make_ssmm
from samoyeds_gen.language.schedule import (
    Cluster,
    Epilogue,
    Overlap,
    Raster,
    Tile,
    Warps,
)
from samoyeds_gen.tune.bench import Progress, Results, Rig, run_bench
from samoyeds_gen.tune.choice import Task, modelled, task_target
from samoyeds_gen.tune.contender import CUBLAS
from samoyeds_gen.tune.demand import dense_us
from samoyeds_gen.tune.ladder_figures import Figures, Step
from samoyeds_gen.tune.machines import Machine
from samoyeds_gen.tune.results import Row
from samoyeds_gen.tune.suites import Shape
from samoyeds_gen.tune.timing import Effort

FORMAT: Final = Format(1, 2, 128)
DTYPE: Final = "bfloat16"
SHAPES: Final[tuple[Shape, ...]] = ((8192, 8192, 8192), (14336, 4096, 4096))


@dataclass(frozen=True, slots=True)
class Rung:
    """One schedule of the ladder: what `directive` changes of the rung named `before`.

    The dense product has no schedule, and nothing before it. `tried` marks directives that are not
    part of the shipped schedule.
    """

    name: str
    directive: str
    schedule: Schedule | None
    before: str = ""
    tried: bool = False


def ladder_problem() -> Ssmm:
    """What every rung computes."""
    return make_ssmm(FORMAT, DTYPE)


def rungs() -> tuple[Rung, ...]:
    """Every rung: those that were climbed from the dense product up, then those that were tried."""
    return (*_climbed(), *_tried())


def _climbed() -> Iterator[Rung]:
    """Each rung from the one before it."""
    yield Rung(CUBLAS, "dense, the faster of its operand layouts", None)
    ring = "ssmm_sm80_prefix"
    yield Rung("mma.sp ring", f"the shipped schedule {ring}", _shipped(ring), CUBLAS)
    name, schedule = "mma.sp ring", _first()
    for new, directive, changed in (
        (
            "TMA + wgmma",
            "pipeline(stages=2, copy=TMA), tensorize(WGMMA_SP_M64K32), tile(m=128, n=128, k=128), "
            "fold='expand'",
            schedule,
        ),
        ("fold=prefix", "stationary(out, fold='prefix'), tile(m=256)", _prefix(schedule)),
        ("stages=3", "pipeline(stages=3)", _chain(stages=3)),
        ("n=192", "tile(n=192)", _chain(stages=3, n=192)),
        ("turns", "overlap(turns=True)", _chain(stages=3, n=192, turns=True)),
        ("raster=16", "raster(group=16)", _chain(stages=3, n=192, turns=True, group=16)),
        ("n=200", "tile(n=200)", _chain(stages=3, n=200, turns=True, group=16)),
    ):
        yield Rung(new, directive, replace(changed, name="ladder"), name)
        name = new


def _tried() -> Iterator[Rung]:
    """Each rung from the best, or from the same with the 192 tokens that it divides."""
    best = _chain(stages=3, n=200, turns=True, group=16)
    narrow = _chain(stages=3, n=192, turns=True, group=16)
    half = replace(
        best,
        tile=replace(best.tile, k=64),
        layout=replace(best.layout, weight=layouts.swizzle_for_row(64).name),
        pipeline=replace(best.pipeline, stages=6),
    )
    three = replace(best, tile=Tile(384, 128, 128), warps=Warps(12, 1))
    lines = replace(best, epilogue=Epilogue(16, "warpgroup"))
    for name, directive, schedule, before in (
        ("whole lines", "epilogue(tokens=16, by='warpgroup')", lines, "n=200"),
        ("cluster", "cluster(m=2)", replace(narrow, cluster=Cluster(2)), "raster=16"),
        ("split", "overlap(split=2)", replace(narrow, overlap=Overlap(split=2)), "raster=16"),
        ("k=64", "tile(k=64), pipeline(stages=6)", half, "n=200"),
        ("3 warpgroups", "warps(m=12), tile(m=384, n=128)", three, "n=200"),
    ):
        yield Rung(name, directive, replace(schedule, name="ladder"), before, tried=True)


def _shipped(name: str) -> Schedule:
    problem = ladder_problem()
    return replace(load_schedule(name, problem.format, problem.dtype), where=())


def _first() -> Schedule:
    """The shipped Hopper schedule with everything at rest, and the fold that every format has."""
    base = _shipped("ssmm_sm90")
    return replace(
        base,
        tile=Tile(128, 128, 128),
        warps=Warps(8, 1),
        stationary=replace(base.stationary, fold="expand"),
        pipeline=replace(base.pipeline, stages=2),
        overlap=Overlap(),
        raster=Raster(1),
        epilogue=Epilogue(8),
    )


def _prefix(schedule: Schedule) -> Schedule:
    """The prefix fold: a row of the matrix unit is two output rows."""
    return replace(
        schedule,
        tile=replace(schedule.tile, m=256),
        stationary=replace(schedule.stationary, fold="prefix"),
    )


def _chain(*, stages: int, n: int = 128, turns: bool = False, group: int = 1) -> Schedule:
    """The prefix fold with what was added to it so far."""
    base = _prefix(_first())
    return replace(
        base,
        tile=replace(base.tile, n=n),
        pipeline=replace(base.pipeline, stages=stages),
        overlap=Overlap(turns=turns),
        raster=Raster(group),
    )


def predicted(machine: Machine, shapes: Sequence[Shape] = SHAPES) -> Figures:
    """Every rung at every shape: the model's time, registers and shared memory. Needs no GPU.

    A rung that does not compile cleanly has the refusal as its verdict, and no resources.
    """
    every, problem, target = rungs(), ladder_problem(), task_target(machine)
    own = [each.schedule for each in every if each.schedule is not None]

    def build(schedule: Schedule) -> Variant | SamoyedsError:
        try:
            return build_variant(schedule, problem, target)
        except SamoyedsError as error:  # another compiler may spill where this one does not
            return error

    with ThreadPoolExecutor(thread_name_prefix="ladder-compile") as pool:
        variants = dict(zip(own, pool.map(build, own), strict=True))
    steps = []
    for shape in shapes:
        task = Task(machine, target, problem, shape)
        for rung in every:
            if rung.schedule is None:
                steps.append(_step(rung, shape, dense_us(shape, machine), "matrix work", None))
            else:
                model = modelled(rung.schedule, task)
                steps.append(_step(rung, shape, model.us, model.limit, variants[rung.schedule]))
    return Figures(machine.name, tuple(steps))


def _step(
    rung: Rung, shape: Shape, us: float, limit: str, variant: Variant | SamoyedsError | None
) -> Step:
    m, k, n = shape
    step = Step(
        m, k, n, rung.name, rung.directive, rung.before, rung.tried, predicted_us=us, limit=limit
    )
    if rung.schedule is None or variant is None:
        return step
    step = replace(step, digest=rung.schedule.digest)
    if isinstance(variant, SamoyedsError):
        return replace(step, verdict=str(variant))
    plan, report = variant.plan, variant.build.report
    geometry = plan.geometry
    special = geometry if isinstance(geometry, SpecialisedGeometry) else None
    return replace(
        step,
        accumulators=plan.buffer("acc").bytes // 4,
        registers=report.registers,
        consumer_registers=special.consumer_registers if special else report.registers,
        producer_registers=special.producer_registers if special else None,
        spill_bytes=report.spill_stores + report.spill_loads,
        shared_bytes=plan.shared_bytes + report.static_shared,
    )


def contenders(machine: Machine) -> list[tuple[str, Format, partial[Kernel]]]:
    """The rungs with a schedule, as a rig takes them."""
    return [
        (each.name, FORMAT, partial(_kernel, each.schedule, machine))
        for each in rungs()
        if each.schedule is not None
    ]


def _kernel(schedule: Schedule, machine: Machine, shape: Shape) -> Kernel:
    return Kernel(schedule, ladder_problem(), task_target(machine))


def measured(
    figures: Figures, rig: Rig, effort: Effort, progress: Progress = lambda done, total, text: None
) -> Figures:
    """The same figures with times: everybody at a shape is checked in full, then timed in turn.

    The rig's contenders are those of `contenders`, and cuBLAS.
    """
    shapes = list(dict.fromkeys(each.shape for each in figures.steps))
    results = run_bench([("ladder", each) for each in shapes], rig, effort, progress)
    return replace(figures, steps=tuple(_timed(each, results) for each in figures.steps))


def _timed(step: Step, results: Results) -> Step:
    row = _row(step, [each for each in results.rows if each.shape == step.shape])
    if row is not None:
        return replace(
            step,
            measured_us=row.median_us,
            least_us=row.least_us,
            most_us=row.most_us,
            ratio=row.ratio,
            verdict=row.verdict,
        )
    errors = [
        each.error
        for each in results.failed
        if (each.m, each.k, each.n) == step.shape and _is_of(each.contender, step)
    ]
    return replace(step, verdict=errors[0] if errors else step.verdict)


def _row(step: Step, rows: Sequence[Row]) -> Row | None:
    """A rung's row; for the dense product, that of its faster layout."""
    mine = [each for each in rows if _is_of(each.contender, step)]
    return min(mine, key=lambda each: each.median_us, default=None)


def _is_of(contender: str, step: Step) -> bool:
    """Whether a contender's figures are a rung's; the dense product has one a layout."""
    return contender.startswith(CUBLAS) if step.name == CUBLAS else contender == step.name
