"""What makes a schedule of the cp.async ring legal. Rules run in order: later ones rely on earlier
ones.
"""

from samoyeds_gen.compiler.folds import plan_fold
from samoyeds_gen.compiler.ring.geometry import (
    FRAGMENT_ROWS,
    FRAGMENT_TOKENS,
    METADATA_COLUMNS,
    derive_geometry,
    stage_bytes,
)
from samoyeds_gen.compiler.rules import (
    COMMON,
    Case,
    Rule,
    Violation,
    gate_rows,
    resident_threads,
    ring_depth,
    ring_too_large,
    weight_space,
)
from samoyeds_gen.language.atoms import matrix_atom_named
from samoyeds_gen.language.layouts import swizzle_named

MAX_TILE_K = 128
MAX_EXCHANGE_M = 8
RESERVED_BYTES = 1024  # zeros and token rows, at most
MAX_TILE_N = 224  # token rows that fit what is reserved


def warp_matrix(case: Case) -> Violation | None:
    """A warp's fragments come from ldmatrix; a warpgroup reads what TMA wrote."""
    if matrix_atom_named(case.schedule.tensorize).threads == 32:
        return None
    return Violation(
        f"{case.schedule.tensorize} is a warpgroup's matrix step, cp_async_16b copies feed warps",
        "use atoms.MMA_SP_M16N8K32, or copy=atoms.TMA",
        "tensorize",
    )


def whole_k(case: Case) -> Violation | None:
    """In the ring one warp of one CTA sums all columns of an output."""
    split, along_k = case.schedule.split.k, case.schedule.warps.k
    if split > 1:
        sentence, directive = f"split k={split} is the stream's, the ring has one CTA", "split"
    elif along_k > 1:
        sentence, directive = f"warps k={along_k} is the stream's, the ring has one warp", "warps"
    else:
        return None
    return Violation(
        f"{sentence} along k", "leave it out, or use copy=atoms.LDG_STREAM_16B", directive
    )


def launch_waits(case: Case) -> Violation | None:
    """The ring has no wait of its own for the launch before."""
    if not case.schedule.launch.dependent:
        return None
    return Violation(
        "launch dependent=True is the stream's and warpgroups', the ring begins when it may",
        "leave it out, or use copy=atoms.LDG_STREAM_16B or atoms.TMA",
        "launch",
    )


def pack_data(case: Case) -> Violation | None:
    """The ring copies weight rows as they are stored."""
    if case.schedule.pack.data == "rows":
        return None
    return Violation(
        "weight.data is packed in fragment order, the ring copies rows",
        "leave pack(weight.data) out, or use copy=atoms.LDG_STREAM_16B",
        "pack.weight.data",
    )


def tile_k(case: Case) -> Violation | None:
    """A ring stage holds whole metadata words, and rows no longer than a swizzle."""
    k = case.schedule.tile.k
    if k % METADATA_COLUMNS == 0 and k <= MAX_TILE_K:
        return None
    return Violation(
        f"tile k={k} is not {METADATA_COLUMNS} or {MAX_TILE_K}",
        f"use k={METADATA_COLUMNS} or k={MAX_TILE_K}",
        "tile",
    )


def tile_m(case: Case) -> Violation | None:
    """Every warp owns whole 16-row fragments; folded rows count M output features each."""
    fold = plan_fold(case.schedule, case.problem)
    per_row = case.problem.format.m if fold in ("exchange", "prefix") else 1
    step = FRAGMENT_ROWS * per_row * case.schedule.warps.m
    m = case.schedule.tile.m
    if m % step == 0:
        return None
    lower = m // step * step
    options = f"m={lower} or m={lower + step}" if lower else f"m={step}"
    return Violation(
        f"tile m={m} is not a multiple of {step} = {FRAGMENT_ROWS} rows x {per_row} features "
        f"x {case.schedule.warps.m} warps",
        f"use {options}, or other warps",
        "tile",
    )


def tile_n(case: Case) -> Violation | None:
    """Every warp owns whole 8-token fragments."""
    step = FRAGMENT_TOKENS * case.schedule.warps.n
    n = case.schedule.tile.n
    if n > MAX_TILE_N:
        return Violation(f"tile n={n} is more than {MAX_TILE_N}", "use a smaller tile n", "tile")
    if n % step == 0:
        return None
    return Violation(
        f"tile n={n} is not a multiple of {step} = {FRAGMENT_TOKENS} tokens "
        f"x {case.schedule.warps.n} warps",
        f"use n={(n // step + 1) * step}, or other warps",
        "tile",
    )


def fold_format(case: Case) -> Violation | None:
    """exchange and prefix need one kept sub-row a block; exchange at most 8 sets."""
    f, fold = case.problem.format, plan_fold(case.schedule, case.problem)
    if fold in ("exchange", "prefix") and f.n != 1:
        return Violation(
            f"fold {fold} needs N = 1, the format is ({f})", "use fold='expand'", "stationary"
        )
    if fold in ("exchange", "prefix") and f.m > MAX_EXCHANGE_M:
        return Violation(
            f"fold {fold} needs M <= {MAX_EXCHANGE_M}, the format is ({f})",
            "use fold='expand'",
            "stationary",
        )
    return None


def fold_period(case: Case) -> Violation | None:
    """Sub-row changes fall at fixed places of the tile."""
    f, k = case.problem.format, case.schedule.tile.k
    fold = plan_fold(case.schedule, case.problem)
    if fold not in ("exchange", "prefix") or f.v % k == 0 or k % f.v == 0:
        return None
    return Violation(
        f"fold {fold} with V={f.v} changes rows at places that differ from tile to tile of k={k}",
        "use fold='expand', or a V that divides tile k or is a multiple of it",
        "stationary",
    )


def fold_atom(case: Case) -> Violation | None:
    """A matrix step stays inside one sub-row."""
    f, atom = case.problem.format, matrix_atom_named(case.schedule.tensorize)
    fold = plan_fold(case.schedule, case.problem)
    if fold not in ("exchange", "prefix") or f.v % atom.k == 0:
        return None
    return Violation(
        f"one {atom.name} step of k={atom.k} would span {atom.k / f.v:g} sub-rows of V={f.v}",
        "use atoms.MMA_SP_M16N8K16, or fold='expand'",
        "tensorize",
    )


def fold_step(case: Case) -> Violation | None:
    """The expand fold addresses 16-byte chunks of a k32 step."""
    atom = matrix_atom_named(case.schedule.tensorize)
    if plan_fold(case.schedule, case.problem) != "expand" or atom.k == 32:
        return None
    return Violation(
        f"fold expand needs a k32 step, {atom.name} has k={atom.k}",
        "use atoms.MMA_SP_M16N8K32",
        "tensorize",
    )


def copy_rows(case: Case) -> Violation | None:
    """A thread's chunks lie whole swizzle periods of 8 rows apart."""
    step = 8 * (2 * case.schedule.tile.k // 16)
    threads = case.schedule.warps.threads
    if threads % step == 0:
        return None
    return Violation(
        f"{threads} threads do not copy whole groups of 8 token rows of {2 * case.schedule.tile.k} "
        f"bytes, which takes a multiple of {step}",
        f"use {-(-threads // step) * step // 32} warps, or a smaller tile k",
        "warps",
    )


def fragment_buffers(case: Case) -> Violation | None:
    """Fragments are loaded in place or one step ahead."""
    fragments = case.schedule.pipeline.fragments
    if fragments in (1, 2):
        return None
    return Violation(
        f"pipeline fragments={fragments} is not 1 or 2",
        "use fragments=2, or fragments=1 to save registers",
        "pipeline",
    )


def swizzle_row(case: Case) -> Violation | None:
    """A swizzle permutes the chunks of exactly one row length, or nothing."""
    layout, k = case.schedule.layout, case.schedule.tile.k
    for operand, name, row in (("weight.data", layout.weight, k), ("tokens", layout.tokens, 2 * k)):
        swizzle = swizzle_named(name)
        if swizzle.bits and swizzle.row_bytes != row:
            return Violation(
                f"{operand} rows take {row} bytes at tile k={k}, "
                f"{name} is for rows of {swizzle.row_bytes}",
                f"use layouts.XOR_{row}B",
                f"layout.{operand}",
            )
    return None


def registers(case: Case) -> Violation | None:
    """Accumulators and fragments fit the registers a thread can have."""
    schedule, target = case.schedule, case.target
    share = target.registers_per_sm // (schedule.resident.ctas * schedule.warps.threads)
    limit = min(target.registers_per_thread, share // 8 * 8)
    needed = derive_geometry(schedule, case.problem).registers
    if needed <= limit or schedule.resident.spills:
        return None
    return Violation(
        f"about {needed} registers a thread are needed, {limit} are there for "
        f"{schedule.warps.threads} threads x {schedule.resident.ctas} CTAs",
        "use a smaller tile or more warps",
        "tile",
    )


def shared_limit(case: Case) -> Violation | None:
    """The ring fits the shared memory of one CTA."""
    stage = stage_bytes(case.schedule, case.problem)
    limit = case.target.shared_per_cta - RESERVED_BYTES
    return ring_too_large(case, stage, limit, "for the ring of a CTA")


RULES: dict[str, Rule] = COMMON | {
    "weight-space": weight_space,
    "warp-matrix": warp_matrix,
    "whole-k": whole_k,
    "launch-waits": launch_waits,
    "pack-data": pack_data,
    "tile-k": tile_k,
    "fold-format": fold_format,
    "fold-period": fold_period,
    "fold-atom": fold_atom,
    "fold-step": fold_step,
    "tile-m": tile_m,
    "tile-n": tile_n,
    "gate-rows": gate_rows,
    "copy-rows": copy_rows,
    "ring-depth": ring_depth,
    "fragment-buffers": fragment_buffers,
    "swizzle-row": swizzle_row,
    "resident-threads": resident_threads,
    "registers": registers,
    "shared-limit": shared_limit,
}
