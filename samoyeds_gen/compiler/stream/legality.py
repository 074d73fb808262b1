"""What makes a schedule of the stream legal. Rules run in order, later ones rely on earlier."""

from samoyeds_gen.compiler.folds import plan_fold
from samoyeds_gen.compiler.rules import (
    COMMON,
    Case,
    Rule,
    Violation,
    one_weight,
    resident_threads,
    weight_space,
)
from samoyeds_gen.compiler.stream.geometry import (
    FRAGMENT_TOKENS,
    GROUP_COLUMNS,
    GROUP_STEPS,
    derive_geometry,
    tile_step,
)
from samoyeds_gen.language.atoms import MMA_SP_M16N8K32, matrix_atom_named
from samoyeds_gen.language.layouts import LINEAR, STREAM_ROW_BYTES, XOR_128B
from samoyeds_gen.language.schedule import Raster

MAX_TILE_N = 64
MAX_GROUPS = 8
MAX_CHUNKS = 8
MAX_SPLITS = 64
QUARTERS = 128  # threads of one warp on each quarter of an SM, which share out its registers
RESERVED_BYTES = 1024  # token rows and the flag of the last CTA, at most


def stream_step(case: Case) -> Violation | None:
    """A lane's 16 bytes of weight are the registers of one m16n8k32 step."""
    atom = matrix_atom_named(case.schedule.tensorize)
    if atom == MMA_SP_M16N8K32:
        return None
    return Violation(
        f"the stream loads registers of {MMA_SP_M16N8K32.name}, the schedule has {atom.name}",
        "use atoms.MMA_SP_M16N8K32",
        "tensorize",
    )


def pack_data(case: Case) -> Violation | None:
    """The stream reads weights in fragment order, the ring as rows."""
    if case.schedule.pack.data == "fragment":
        return None
    return Violation(
        "weight.data lies in rows, the stream reads it in fragment order",
        "add s.pack(weight.data, order='fragment')",
        "pipeline",
    )


def stream_layout(case: Case) -> Violation | None:
    """Tokens lie in panels of 64 columns, and weights not in shared memory at all."""
    layout = case.schedule.layout
    if layout.weight != LINEAR.name:
        return Violation(
            f"layout(weight.data) asks for {layout.weight}, the stream keeps weights in registers",
            "leave layout(weight.data) out",
            "layout.weight.data",
        )
    if layout.tokens not in (LINEAR.name, XOR_128B.name):
        return Violation(
            f"tokens lie in rows of {STREAM_ROW_BYTES} bytes, {layout.tokens} is for other rows",
            "use layouts.XOR_128B",
            "layout.tokens",
        )
    return None


def stream_order(case: Case) -> Violation | None:
    """The stream walks the token tiles of one tile row together."""
    if case.schedule.raster == Raster():
        return None
    return Violation(
        f"raster group={case.schedule.raster.group} is the ring's, the stream has one order",
        "leave raster out",
        "raster",
    )


def stream_fold(case: Case) -> Violation | None:
    """prefix needs one kept sub-row a block and whole steps in it; there is no exchange."""
    f, fold = case.problem.format, plan_fold(case.schedule, case.problem)
    if fold == "exchange":
        sentence, remedy = "the stream has no fold exchange", "use fold='prefix' or fold='expand'"
    elif fold == "prefix" and f.n != 1:
        sentence = f"fold prefix needs N = 1, the format is ({f})"
        remedy = "use fold='expand'"
    elif fold == "prefix" and f.v % MMA_SP_M16N8K32.k:
        sentence = f"one step of k={MMA_SP_M16N8K32.k} would span parts of sub-rows of V={f.v}"
        remedy = "use fold='expand'"
    else:
        return None
    return Violation(sentence, remedy, "stationary")


def stream_warps(case: Case) -> Violation | None:
    """Weights are read once a token tile: no two warps share stored rows."""
    n = case.schedule.warps.n
    if n == 1:
        return None
    return Violation(
        f"warps n={n} would read every weight {n} times",
        "use n=1 and more warps along m or k",
        "warps",
    )


def stream_tile_m(case: Case) -> Violation | None:
    """Every warp owns whole 16-row fragments, and the tile whole bands of M features."""
    step, m = tile_step(case.schedule, case.problem), case.schedule.tile.m
    if m % step == 0:
        return None
    lower = m // step * step
    options = f"m={lower} or m={lower + step}" if lower else f"m={step}"
    return Violation(
        f"tile m={m} is not a multiple of {step}, the features of 16 stored rows for each of "
        f"{case.schedule.warps.m} warps in whole bands of ({case.problem.format})",
        f"use {options}, or other warps",
        "tile",
    )


def stream_tile_n(case: Case) -> Violation | None:
    """Tokens come in fragments of 8, at most 64 of them in registers."""
    n = case.schedule.tile.n
    if n % FRAGMENT_TOKENS == 0 and n <= MAX_TILE_N:
        return None
    return Violation(
        f"tile n={n} is not a multiple of {FRAGMENT_TOKENS} up to {MAX_TILE_N}",
        f"use n={min(-(-n // FRAGMENT_TOKENS) * FRAGMENT_TOKENS, MAX_TILE_N)}",
        "tile",
    )


def stream_stages(case: Case) -> Violation | None:
    """Steps in flight come in groups of four, which share two metadata words."""
    stages = case.schedule.pipeline.stages
    most = GROUP_STEPS * MAX_GROUPS
    if stages % GROUP_STEPS == 0 and stages <= most:
        return None
    return Violation(
        f"pipeline stages={stages} is not a multiple of {GROUP_STEPS} steps up to {most}",
        f"use stages={min(-(-stages // GROUP_STEPS) * GROUP_STEPS, most)}",
        "pipeline",
    )


def stream_tile_k(case: Case) -> Violation | None:
    """A chunk of tokens is whole turns of all warps along k, or a turn whole chunks."""
    schedule = case.schedule
    k, step = schedule.tile.k, GROUP_COLUMNS * schedule.warps.k
    groups = schedule.pipeline.stages // GROUP_STEPS
    parts = k // step
    if k % step == 0 and (parts % groups == 0 or groups % parts == 0):
        return None
    nearest = max(1, round(parts / groups)) * groups * step
    return Violation(
        f"tile k={k} is not a multiple or a whole part of {groups * step}, {GROUP_COLUMNS} columns "
        f"for each of {schedule.warps.k} warps along k and {groups} groups in flight",
        f"use k={nearest}",
        "tile",
    )


def stream_chunks(case: Case) -> Violation | None:
    """One chunk of tokens is multiplied while a few others arrive."""
    chunks = case.schedule.pipeline.fragments
    if chunks <= MAX_CHUNKS:
        return None
    return Violation(
        f"pipeline fragments={chunks} chunks of tokens is more than {MAX_CHUNKS}",
        "use fewer chunks, or a larger tile k",
        "pipeline",
    )


def split_count(case: Case) -> Violation | None:
    """The last CTA of a tile adds the parts one by one."""
    k = case.schedule.split.k
    if k <= MAX_SPLITS:
        return None
    return Violation(f"split k={k} is more than {MAX_SPLITS}", "use fewer CTAs along k", "split")


def registers(case: Case) -> Violation | None:
    """Sums, weights in flight and a step's tokens fit the registers a thread can have."""
    schedule, target = case.schedule, case.target
    threads = -(-schedule.warps.threads // QUARTERS) * QUARTERS
    share = target.registers_per_sm // (schedule.resident.ctas * threads)
    limit = min(target.registers_per_thread, share // 8 * 8)
    g = derive_geometry(schedule, case.problem)
    if g.registers <= limit or schedule.resident.spills:
        return None
    sums = g.accumulator_sets * g.fragments_m * g.fragments_n * 4
    return Violation(
        f"about {g.registers} registers a thread are needed, {sums} of them for "
        f"{g.accumulator_sets} sums of each output part, {limit} are there for "
        f"{schedule.warps.threads} threads x {schedule.resident.ctas} CTAs",
        "use a smaller tile n, fewer stages or fewer warps",
        "tile",
    )


def shared_limit(case: Case) -> Violation | None:
    """The chunks of tokens, and later the sums of the warps along k, fit the shared memory."""
    schedule, target = case.schedule, case.target
    g = derive_geometry(schedule, case.problem)
    sums = 4 * schedule.warps.k * FRAGMENT_TOKENS * g.sum_stride
    limit = min(target.shared_per_cta, target.shared_per_sm // schedule.resident.ctas - 1024)
    limit -= RESERVED_BYTES
    if g.chunks * g.chunk_bytes > limit:
        return Violation(
            f"{g.chunks} chunks of {g.chunk_bytes} bytes take {g.chunks * g.chunk_bytes}, "
            f"{target.name} has {limit} for the tokens of a CTA",
            "use fewer chunks, or a smaller tile n or k",
            "pipeline",
        )
    if sums > limit:
        return Violation(
            f"the sums of {schedule.warps.k} warps along k take {sums} bytes, "
            f"{target.name} has {limit} for a CTA",
            "use a smaller tile m or fewer warps along k",
            "tile",
        )
    return None


RULES: dict[str, Rule] = COMMON | {
    "one-weight": one_weight,
    "weight-space": weight_space,
    "stream-step": stream_step,
    "pack-data": pack_data,
    "stream-layout": stream_layout,
    "stream-order": stream_order,
    "stream-fold": stream_fold,
    "stream-warps": stream_warps,
    "stream-tile-m": stream_tile_m,
    "stream-tile-n": stream_tile_n,
    "stream-stages": stream_stages,
    "stream-tile-k": stream_tile_k,
    "stream-chunks": stream_chunks,
    "split-count": split_count,
    "resident-threads": resident_threads,
    "registers": registers,
    "shared-limit": shared_limit,
}
