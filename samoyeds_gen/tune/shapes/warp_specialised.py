"""The warp-specialised pipeline for tuning: warpgroups, tokens, stages and overlap to try.

Its copies and matrix steps are asynchronous, so resources overlap nearly perfectly; only the fold
takes turns with the matrix unit.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import ceil

from samoyeds_gen.compiler.folds import plan_fold
from samoyeds_gen.compiler.warp_specialised.geometry import WARPGROUP_ROWS, derive_geometry
from samoyeds_gen.compiler.warp_specialised.legality import LARGEST_BOX
from samoyeds_gen.language import Schedule, Ssmm, Target, layouts
from samoyeds_gen.language.schedule import Cluster, Epilogue, Launch, Raster, Split, Tile, Warps
from samoyeds_gen.tune.demand import FMA_PER_CLOCK, Demand
from samoyeds_gen.tune.machines import Machine
from samoyeds_gen.tune.shapes.plain import streamed_bytes, unit_rows
from samoyeds_gen.tune.suites import Shape

WARPGROUPS = (1, 2, 3, 4)
TILE_N = (16, 24, 32, 48, 64, 96, 128, 160, 176, 192, 200, 208, 256)
TILE_K = (64, 128)
STAGES = (2, 3, 4, 5, 6, 8)
SPLITS = (1, 2)
TURNS = (False, True)
CLUSTERS = ((1, 1), (2, 1), (1, 2), (1, 4), (1, 8))  # CTAs that share tokens, or the columns of k
GROUPS = (8, 16, 32)
SLICES = (Epilogue(8), Epilogue(8, "warpgroup"), Epilogue(16, "warpgroup"))
CLUSTERED_SLICES = tuple(  # CTAs that split k deal slices of warps to each other
    (cluster, parts, slices)
    for (cluster, parts), slices in product(CLUSTERS, SLICES)
    if parts == 1 or slices.by == "warp"
)
MATRICES = {"direct": (1, 2), "prefix": (1,), "expand": (1, 2)}  # of 64 rows, a warpgroup
FRAGMENTS = (2, 4)  # stages of weight on their way to registers

FEW_TOKENS = 64  # of a tile, up to which one warpgroup alone or a ring of more than six pay
BOTH_TOKENS = 128  # of a tile, from which on launches had better wait for one another

SHARPNESS = 8.0  # a prototype's rates at V = 32, 64 and 128 fit within a tenth
FOLD_CLOCKS = 1.8  # that the matrix unit waits for each clock of the fold's additions,
EXPOSED = 1.25  # times as many where warpgroups neither take turns nor split their tokens
LATENCY = 900  # clocks from a TMA copy's issue until its bytes are there
LINE = 2.0  # clocks of a tile that are no step, for each line of memory that its stores touch;
LINE_BYTES = 128
SECTOR_BYTES = 32  # of L2,
STRADDLING = 1.8  # times as long for rows of tokens that begin inside of one
EXCHANGE = 1500  # and those that a cluster waits for the parts of its sums,
EXCHANGED_PER_CLOCK = 32  # which move at so many bytes a clock


def variants(base: Schedule, problem: Ssmm, target: Target) -> Iterator[Schedule]:
    """The base itself, then every combination of the lists above with the base's fold."""
    yield base
    fold, f = plan_fold(base, problem), problem.format
    per_row = f.m if fold == "prefix" else 1
    heights = tuple(
        (groups, matrices)
        for groups, matrices in product(WARPGROUPS, MATRICES[fold])
        if WARPGROUP_ROWS * per_row * groups * matrices * f.n // f.m <= LARGEST_BOX
    )
    for height, n, k, stages, split, turns, clustered, raster, fetch in product(
        heights,
        TILE_N,
        TILE_K,
        STAGES,
        SPLITS,
        TURNS,
        CLUSTERED_SLICES,
        GROUPS,
        tuple(_fetches(base, problem)),
    ):
        (groups, matrices), (cluster, parts, slices) = height, clustered
        streamed = fetch.pack.data == "fragment"
        if (streamed or fetch.overlap.ahead) and split > 1:
            continue  # nothing is added that a second part of the tokens could hide
        if matrices > 1 and (slices.by == "warp" or streamed):
            continue
        if streamed and (n > FEW_TOKENS or cluster > 1):
            continue  # with more tokens weights were always quicker by way of shared memory
        if n > FEW_TOKENS and (groups == 1 or stages > 6):
            continue
        if turns and groups == 1:
            continue  # nobody to take turns with
        swizzle = layouts.LINEAR if streamed else layouts.swizzle_for_row(k)
        for launch in _launches(n):
            yield replace(
                fetch,
                tile=Tile(WARPGROUP_ROWS * per_row * groups * matrices, n, k),
                warps=Warps(4 * groups, 1),
                layout=replace(base.layout, weight=swizzle.name),
                pipeline=replace(fetch.pipeline, stages=stages),
                overlap=replace(fetch.overlap, split=split, turns=turns),
                cluster=Cluster(cluster),
                split=Split(parts),
                raster=Raster(raster),
                epilogue=slices,
                launch=launch,
            )


def _launches(tokens: int) -> tuple[Launch, ...]:
    """How launches of such tiles follow one another: on an H200 those of few tokens took less time
    when they began early, those of many took up to a tenth more.
    """
    waits, early = Launch(), Launch(True)
    if tokens > BOTH_TOKENS:
        return (waits,)
    return (early,) if tokens <= FEW_TOKENS else (waits, early)


def _fetches(base: Schedule, problem: Ssmm) -> Iterator[Schedule]:
    """The base with each way that matrix steps may get their weight, one where the fold decides.

    The expand fold has weight values in registers anyway, by way of shared memory.
    """
    shared = replace(base.stationary, weight="shared")
    rows = replace(base, pack=replace(base.pack, data="rows"), stationary=shared)
    yield rows
    fold = plan_fold(base, problem)
    if fold == "expand":
        return
    held = replace(rows, stationary=replace(shared, weight="registers"))
    running = replace(base.overlap, ahead=True)
    if fold == "direct":
        yield held
        yield replace(rows, overlap=running)
    for number in FRAGMENTS:
        pipeline = replace(base.pipeline, fragments=number)
        streamed = replace(held, pack=replace(base.pack, data="fragment"), pipeline=pipeline)
        yield replace(streamed, overlap=running) if fold == "direct" else streamed


def demand(
    schedule: Schedule, problem: Ssmm, target: Target, shape: Shape, machine: Machine
) -> Demand:
    """Each matrix reads its weights and all tokens of a stage from shared memory; a cluster
    fetches tokens once, or shares out k and exchanges its sums. Persistent CTAs, one a
    multiprocessor. Weight in fragment order goes past shared memory, from L2 to registers.
    """
    m, k, n = shape
    tile, g = schedule.tile, derive_geometry(schedule, problem)
    weight = g.rows * tile.k
    rows = unit_rows(schedule, problem)
    parts = 4.0 * tile.m * tile.n * (1 - 1 / g.split)
    reads = g.groups * (g.token_bytes + g.word_bytes)
    lines = tile.m * tile.n * problem.out_dtype.bytes / min(LINE_BYTES, 16 * g.token_chunks)
    past = weight if g.fragment_buffers else 0
    aligned = k * problem.dtype.bytes % SECTOR_BYTES == 0
    tokens = g.token_bytes / g.cluster * (1.0 if aligned else STRADDLING)
    return Demand(
        tiles=ceil(m / tile.m) * ceil(n / tile.n) * g.split,
        resident=1,
        steps=ceil(k / tile.k / g.split),
        unit=schedule.tensorize,
        matrix=2.0 * rows * tile.n * tile.k + _fold_operations(schedule, problem, machine),
        shared=g.stage_bytes + reads + weight - past,
        fetched=g.stage_bytes + past - g.token_bytes + tokens,
        vector=0.0,
        latency=LATENCY / (schedule.pipeline.stages - 1),
        drain=LINE * lines + (EXCHANGE + parts / EXCHANGED_PER_CLOCK if g.split > 1 else 0),
        streamed=streamed_bytes(schedule, problem, shape, machine),
        sharpness=SHARPNESS,
        cluster=g.cluster * g.split,
    )


def _fold_operations(schedule: Schedule, problem: Ssmm, machine: Machine) -> float:
    """Matrix operations that would take as long as the matrix unit waits for the fold."""
    f, tile = problem.format, schedule.tile
    if plan_fold(schedule, problem) != "prefix":
        return 0.0
    additions = unit_rows(schedule, problem) * tile.n * tile.k / f.v * (f.m - 1)
    hidden = schedule.overlap.turns or schedule.overlap.split > 1
    clocks = FOLD_CLOCKS * (1.0 if hidden else EXPOSED) * additions / FMA_PER_CLOCK
    per_clock = machine.multiprocessors * machine.clock * 1e9
    return clocks * machine.sparse_rate(schedule.tensorize) * 1e12 / per_clock
