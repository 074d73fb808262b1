"""The stream for tuning: warps along m and k, tokens of a tile, steps in flight and splits to try.

Weights come once from device memory, so bytes in flight and even shares decide.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import ceil

from samoyeds_gen.compiler.rules import DEPENDENT_FROM
from samoyeds_gen.compiler.stream.geometry import (
    GROUP_COLUMNS,
    derive_geometry,
    tile_step,
)
from samoyeds_gen.language import Schedule, Ssmm, Target
from samoyeds_gen.language.schedule import Launch, Tile, Warps
from samoyeds_gen.tune.demand import Demand
from samoyeds_gen.tune.machines import Machine
from samoyeds_gen.tune.shapes.plain import streamed_bytes, weight_bytes
from samoyeds_gen.tune.suites import Shape

ROWS = (1, 2)  # fragments of 16 stored rows a warp
WARPS_M = (1, 2, 4, 8)
WARPS_K = (1, 2, 4, 8, 16)
TOKENS = (8, 16, 24, 32, 40, 48, 56, 64)
STAGES = (4, 8, 16)
PARTS = (1, 2, 4)  # turns of all warps along k that a chunk of tokens lasts
CHUNKS = (2, 4)
SPLITS = (1, 2, 4, 8)
RESIDENT = (1, 2)
EARLY = (Launch(True), Launch(True, prefetch=True))  # an H200's quickest at every shape

LOAD_BYTES = 16  # of each lane, for each step in flight
LATENCY = 1000  # clocks from a load of device memory until its bytes are there, under load
EPILOGUE = 1500  # clocks of a CTA that are no step: the first tokens, the sum over warps, stores
ADDED = 700  # and those that each further CTA along k costs the one that adds


def variants(base: Schedule, problem: Ssmm, target: Target) -> Iterator[Schedule]:
    """The base itself, then every combination of the lists above with the base's fold."""
    yield base
    launches = EARLY if target.capability >= DEPENDENT_FROM else (base.launch,)
    for warps_m, warps_k in product(WARPS_M, WARPS_K):
        if not 4 <= warps_m * warps_k <= 16:
            continue
        warps = replace(base, warps=Warps(warps_m, 1, warps_k))
        step = tile_step(warps, problem)
        for rows, tokens, stages, parts, chunks, splits, ctas, launch in product(
            ROWS, TOKENS, STAGES, PARTS, CHUNKS, SPLITS, RESIDENT, launches
        ):
            yield replace(
                warps,
                tile=Tile(step * rows, tokens, GROUP_COLUMNS * warps_k * parts),
                pipeline=replace(base.pipeline, stages=stages, fragments=chunks),
                split=replace(base.split, k=splits),
                resident=replace(base.resident, ctas=ctas),
                launch=launch,
            )


def demand(
    schedule: Schedule, problem: Ssmm, target: Target, shape: Shape, machine: Machine
) -> Demand:
    """A chunk of tokens goes through shared memory and is read by every warp along m; weights go
    straight to registers, as fast as what a multiprocessor has in flight allows.
    """
    m, k, n = shape
    tile, warps = schedule.tile, schedule.warps
    g = derive_geometry(schedule, problem)
    weight = weight_bytes(problem, tile.m, tile.k)
    tokens = 2.0 * tile.n * tile.k
    expanded = g.accumulator_sets if g.fold == "expand" else 1
    flight = LOAD_BYTES * schedule.pipeline.stages * g.fragments_m * warps.threads
    splits = schedule.split.k
    return Demand(
        tiles=ceil(m / tile.m) * ceil(n / tile.n) * splits,
        resident=schedule.resident.ctas,
        steps=ceil(k / splits / tile.k),
        unit=schedule.tensorize,
        matrix=2.0 * g.weight_rows * expanded * tile.n * tile.k,
        shared=tokens * (1 + warps.m),
        fetched=weight + tokens,
        vector=g.weight_rows * tile.n * tile.k / problem.format.v * (g.accumulator_sets - 1),
        latency=LATENCY * weight / flight,
        drain=EPILOGUE + LATENCY + ADDED * (splits - 1),
        streamed=streamed_bytes(schedule, problem, shape, machine),
    )
