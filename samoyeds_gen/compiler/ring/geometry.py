"""Derived numbers of a legal schedule: fragments, copies, words, registers. Decides no order."""

from dataclasses import dataclass
from math import ceil, gcd, prod

from samoyeds_gen.compiler.folds import plan_fold
from samoyeds_gen.compiler.plan import Geometry, KernelPlan, PlanFold
from samoyeds_gen.language.atoms import MatrixAtom, matrix_atom_named
from samoyeds_gen.language.kernels import Ssmm
from samoyeds_gen.language.schedule import Schedule

METADATA_COLUMNS = 64  # dense columns one metadata word of a lane spans
SLOT_COLUMNS = 256  # dense columns one expand word of a lane spans
EXCHANGE_ENTRIES = 8  # V-blocks of one exchange word: a nibble each
PREFIX_ENTRIES = 32  # V-blocks of one selector word: a bit each
FRAGMENT_ROWS = 16
FRAGMENT_TOKENS = 8
ADDRESS_REGISTERS = 30  # addresses, counters and temporaries of the ring pipeline, as compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class RingGeometry(Geometry):
    """The tile in fragments, stages and blocks. Rows are stored rows, except `fragment` rows of
    the expand fold, which are output rows; `*_bytes` are bytes, `*_chunks` 16-byte chunks. A
    gated kernel has half as many `warp_outputs` as `warp_features` of gate and up.
    """

    weight_rows: int
    fragment_rows: int
    fragments_m: int
    fragments_n: int
    steps: int
    blocks_per_tile: int
    tiles_per_block: int
    steps_per_block: int
    entries_per_word: int
    metadata_words: int
    fold_shape: tuple[int, ...]
    weight_row_bytes: int
    token_row_bytes: int
    weight_copies: int
    token_copies: int
    weight_copies_even: bool
    token_copies_even: bool
    warp_features: int
    warp_tokens: int
    warp_outputs: int
    staging_stride: int
    store_chunks: int


RingPlan = KernelPlan[RingGeometry]


def weight_rows(schedule: Schedule, problem: Ssmm) -> int:
    """Stored rows a tile touches; one more block where M does not divide the tile."""
    f, m = problem.format, schedule.tile.m
    if f.plain:
        return m
    worst_start = f.m - gcd(m, f.m)
    return ((worst_start + m - 1) // f.m + 1) * f.n


def stage_bytes(schedule: Schedule, problem: Ssmm) -> int:
    """Bytes of one ring stage: weight, tokens, metadata and fold words."""
    g = derive_geometry(schedule, problem)
    words = g.fragment_rows // FRAGMENT_ROWS * g.metadata_words * 32
    if g.fold_shape:
        words += prod(g.fold_shape)
    return (g.weight_rows + 2 * schedule.tile.n) * schedule.tile.k + 4 * words


def derive_geometry(schedule: Schedule, problem: Ssmm) -> RingGeometry:
    """All numbers the plan needs. The legality rules have made every division exact."""
    tile, warps, f = schedule.tile, schedule.warps, problem.format
    atom = matrix_atom_named(schedule.tensorize)
    fold = plan_fold(schedule, problem)
    per_row = f.m if fold in ("exchange", "prefix") else 1
    rows = tile.m // per_row
    sets = f.m if fold in ("exchange", "prefix") else 1
    fragments_m = rows // warps.m // FRAGMENT_ROWS
    fragments_n = tile.n // warps.n // FRAGMENT_TOKENS
    steps = tile.k // atom.k
    blocks = max(1, tile.k // f.v) if fold in ("exchange", "prefix") else 1
    entries = {"exchange": EXCHANGE_ENTRIES, "prefix": PREFIX_ENTRIES}.get(fold, 0)
    weight_chunks = weight_rows(schedule, problem) * tile.k // 16
    token_chunks = tile.n * tile.k // 8
    warp_features = tile.m // warps.m
    warp_outputs = warp_features // 2 if problem.gated else warp_features
    output_bytes = warp_outputs * problem.out_dtype.bytes
    return RingGeometry(
        fold=fold,
        weight_rows=weight_rows(schedule, problem),
        fragment_rows=rows,
        features_per_row=per_row,
        accumulator_sets=sets,
        fragments_m=fragments_m,
        fragments_n=fragments_n,
        steps=steps,
        blocks_per_tile=blocks,
        tiles_per_block=max(1, f.v // tile.k) if fold in ("exchange", "prefix") else 1,
        steps_per_block=steps // blocks,
        tiles_per_word=entries * f.v // tile.k if entries else SLOT_COLUMNS // tile.k,
        entries_per_word=entries or 8,
        metadata_words=tile.k // METADATA_COLUMNS,
        fold_shape=_fold_shape(fold, rows, sets),
        weight_row_bytes=tile.k,
        token_row_bytes=2 * tile.k,
        weight_copies=ceil(weight_chunks / warps.threads),
        token_copies=ceil(token_chunks / warps.threads),
        weight_copies_even=weight_chunks % warps.threads == 0,
        token_copies_even=token_chunks % warps.threads == 0,
        warp_features=warp_features,
        warp_tokens=tile.n // warps.n,
        warp_outputs=warp_outputs,
        staging_stride=output_bytes + 16,
        store_chunks=FRAGMENT_TOKENS * output_bytes // 16,
        registers=register_estimate(
            atom,
            fold,
            sets,
            (fragments_m, fragments_n, schedule.pipeline.fragments),
            problem.format.m,
        ),
    )


def _fold_shape(fold: PlanFold, rows: int, sets: int) -> tuple[int, ...]:
    """Shape of one tile's fold words."""
    return {
        "direct": (),
        "exchange": (rows,),
        "prefix": (max(1, sets - 1), rows),
        "expand": (rows // FRAGMENT_ROWS, 32),
    }[fold]


def register_estimate(
    atom: MatrixAtom, fold: PlanFold, sets: int, fragments: tuple[int, int, int], block_rows: int
) -> int:
    """32-bit registers a thread will need, from below: what is live through the k loop.

    `fragments` are those along m, along n, and the buffers of those along m.
    """
    along_m, along_n, buffers = fragments
    accumulators = sets * along_m * along_n * atom.d_registers
    operands = buffers * along_m * atom.a_registers + along_n * atom.b_registers
    planes = block_rows - 1 if fold == "prefix" else 1
    words = {"direct": 0}.get(fold, 2 * along_m * planes)
    return accumulators + operands + words + 2 * along_m + ADDRESS_REGISTERS
