"""A pipeline shape without a row of its own: nothing is varied, its tile alone is reckoned with."""

from collections.abc import Iterator
from math import ceil

from samoyeds_gen.compiler.folds import plan_fold
from samoyeds_gen.language import Schedule, Ssmm, Target
from samoyeds_gen.tune.demand import Demand
from samoyeds_gen.tune.machines import Machine
from samoyeds_gen.tune.suites import Shape

METADATA_SHARE = 1 / 8
"""Bytes of metadata beside those of 16-bit values."""


def variants(base: Schedule, problem: Ssmm, target: Target) -> Iterator[Schedule]:
    """The schedule itself."""
    yield base


def unit_rows(schedule: Schedule, problem: Ssmm) -> int:
    """Rows of the matrix unit that a tile takes: expand multiplies zeros for absent sub-rows."""
    f = problem.format
    folded = plan_fold(schedule, problem) in ("exchange", "prefix")
    return schedule.tile.m // f.m if folded else schedule.tile.m


def weight_bytes(problem: Ssmm, m: int, k: int) -> float:
    """Bytes of a weight's values and metadata."""
    return m * k * problem.format.density * problem.dtype.bytes * (1 + METADATA_SHARE)


def streamed_bytes(schedule: Schedule, problem: Ssmm, shape: Shape, machine: Machine) -> float:
    """Bytes that device memory moves: every array once, and again what L2 cannot hold on to.

    A wave of tiles walks `raster.group` tile rows together; what it reads is read again by the
    next wave unless all of it fits half of L2.
    """
    m, k, n = shape
    tile, group = schedule.tile, schedule.raster.group
    weight, tokens = weight_bytes(problem, m, k), float(n * k * problem.dtype.bytes)
    out = float(m * n * problem.out_dtype.bytes)
    rows, columns = ceil(m / tile.m), ceil(n / tile.n)
    slots = machine.multiprocessors * schedule.resident.ctas
    tall = min(group, rows)
    wide = min(columns, max(1, slots // tall))
    wave = weight * tall / rows + tokens * wide / columns
    waves = rows * columns / (tall * wide)
    again = wave * waves if weight + tokens > machine.l2_bytes / 2 else 0.0
    # Much of a wave's operands is still in L2 from the wave before it.
    return max(weight + tokens, again / 2) + out


def demand(
    schedule: Schedule, problem: Ssmm, target: Target, shape: Shape, machine: Machine
) -> Demand:
    """From the tile alone: operands go into shared memory once and are read from it twice."""
    m, k, n = shape
    tile, f = schedule.tile, problem.format
    rows = unit_rows(schedule, problem)
    operands = weight_bytes(problem, tile.m, tile.k) + 2.0 * tile.n * tile.k
    folds = tile.k / f.v if not f.plain else 0.0
    return Demand(
        tiles=ceil(m / tile.m) * ceil(n / tile.n),
        resident=schedule.resident.ctas,
        steps=ceil(k / tile.k),
        unit=schedule.tensorize,
        matrix=2.0 * rows * tile.n * tile.k,
        shared=3 * operands,
        fetched=operands,
        vector=folds * rows * tile.n,
        latency=800 / max(1, schedule.pipeline.stages - 1),
        drain=1500 + tile.m * tile.n / 64,
        streamed=streamed_bytes(schedule, problem, shape, machine),
    )
