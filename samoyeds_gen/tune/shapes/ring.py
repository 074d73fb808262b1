"""The cp.async ring for tuning: which tiles, warps, stages and CTAs to try, what a step moves."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import ceil

from samoyeds_gen.compiler.folds import plan_fold
from samoyeds_gen.compiler.ring.geometry import derive_geometry, stage_bytes
from samoyeds_gen.language import Schedule, Ssmm, Target, layouts
from samoyeds_gen.language.schedule import Layout, Raster, Tile, Warps
from samoyeds_gen.tune.demand import Demand
from samoyeds_gen.tune.machines import Machine
from samoyeds_gen.tune.shapes.plain import streamed_bytes, unit_rows
from samoyeds_gen.tune.suites import Shape

TILE_M = (64, 128, 256, 512)
TILE_N = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 128)
TILE_K = (64, 128)
WARPS = ((2, 1), (4, 1), (2, 2), (4, 2), (8, 1))
STAGES = (2, 3, 4, 5)
RESIDENT = (1, 2, 3)
GROUPS = (4, 8, 16)

EXCHANGE_MOVES = 12  # vector work of an accumulator whose row changes, where prefix takes one FMA
LATENCY = 800  # clocks from a copy's issue until its bytes are there
EPILOGUE = 2000  # clocks of a tile that are no step: filling the ring, the last stores


def variants(base: Schedule, problem: Ssmm, target: Target) -> Iterator[Schedule]:
    """The base itself, then every tile, warps, depth, residency and raster of the lists above.

    Fold and matrix step stay those of the base: other shipped schedules have the others.
    """
    yield base
    for m, n, k, warps, stages, ctas, group in product(
        TILE_M, TILE_N, TILE_K, WARPS, STAGES, RESIDENT, GROUPS
    ):
        yield replace(
            base,
            tile=Tile(m, n, k),
            warps=Warps(*warps),
            layout=Layout(layouts.swizzle_for_row(k).name, layouts.swizzle_for_row(2 * k).name),
            pipeline=replace(base.pipeline, stages=stages),
            raster=Raster(group),
            resident=replace(base.resident, ctas=ctas),
        )


def demand(
    schedule: Schedule, problem: Ssmm, target: Target, shape: Shape, machine: Machine
) -> Demand:
    """Copies write a stage once; every warp then reads its own rows of it, others' warps too."""
    m, k, n = shape
    tile, warps = schedule.tile, schedule.warps
    stage = stage_bytes(schedule, problem)
    rows = unit_rows(schedule, problem)
    reads = rows * tile.k * warps.n + 2 * tile.n * tile.k * warps.m
    return Demand(
        tiles=ceil(m / tile.m) * ceil(n / tile.n),
        resident=resident_ctas(schedule, problem, target),
        steps=ceil(k / tile.k),
        unit=schedule.tensorize,
        matrix=2.0 * rows * tile.n * tile.k,
        shared=stage + reads,
        fetched=stage,
        vector=_fold_work(schedule, problem),
        latency=LATENCY / (schedule.pipeline.stages - 1),
        drain=EPILOGUE + LATENCY + tile.m * tile.n * problem.out_dtype.bytes / 64,
        streamed=streamed_bytes(schedule, problem, shape, machine),
    )


def resident_ctas(schedule: Schedule, problem: Ssmm, target: Target) -> int:
    """CTAs that fit one multiprocessor: what the schedule promises, or more if there is room."""
    return max(schedule.resident.ctas, room(schedule, problem, target))


def room(schedule: Schedule, problem: Ssmm, target: Target) -> int:
    """CTAs whose rings and registers, as estimated, one multiprocessor has."""
    shared = schedule.pipeline.stages * stage_bytes(schedule, problem) + 2048
    registers = derive_geometry(schedule, problem).registers * schedule.warps.threads
    return min(target.shared_per_sm // shared, target.registers_per_sm // registers)


def _fold_work(schedule: Schedule, problem: Ssmm) -> float:
    """Vector operations of one step that place rows: each accumulator once a V-block and row."""
    f, tile = problem.format, schedule.tile
    fold = plan_fold(schedule, problem)
    if fold not in ("exchange", "prefix"):
        return 0.0
    moves = EXCHANGE_MOVES if fold == "exchange" else f.m - 1
    return unit_rows(schedule, problem) * tile.n * tile.k / f.v * moves
