"""Derived numbers of a legal stream: fragments, groups of steps, token chunks, registers.

A group is four k32 steps, 128 dense columns: what two metadata words of a lane feed. Warps along k
take the groups of a CTA in turns.
"""

from dataclasses import dataclass
from math import ceil, lcm

from samoyeds_gen.compiler.folds import plan_fold
from samoyeds_gen.compiler.plan import Geometry, KernelPlan, PlanFold
from samoyeds_gen.formats import Format, offset_columns
from samoyeds_gen.language.atoms import MatrixAtom, matrix_atom_named
from samoyeds_gen.language.kernels import Ssmm
from samoyeds_gen.language.layouts import STREAM_ROW_BYTES
from samoyeds_gen.language.schedule import Schedule

FRAGMENT_ROWS = 16
FRAGMENT_TOKENS = 8
GROUP_STEPS = 4
GROUP_COLUMNS = 128
QUAD = 4  # outputs a thread finishes at a time
OFFSET_ENTRIES = 8  # offsets of one fold word: a nibble each
ADDRESS_REGISTERS = 28  # addresses, counters and temporaries, as compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamGeometry(Geometry):
    """The tile in fragments, groups and chunks. Rows are stored rows.

    `groups` are in flight a lane; a chunk of tokens holds `chunk_groups` of each warp, `chunks` of
    them lie in shared memory. An offset covers `offset_columns`, a fold word `groups_per_word`.
    """

    weight_rows: int
    fragments_m: int
    fragments_n: int
    groups: int
    chunk_groups: int
    chunks: int
    chunk_bytes: int
    panel_bytes: int
    token_copies: int
    token_copies_even: bool
    offset_columns: int
    groups_per_word: int
    bands_in_warp: bool
    sum_stride: int


StreamPlan = KernelPlan[StreamGeometry]


def accumulator_sets(fold: PlanFold, format: Format) -> int:
    """Sets of accumulators a lane keeps for each of its fragments.

    prefix: a running sum and M - 1 rows. expand: a set for each row a stored row may belong to.
    """
    return {"prefix": format.m, "expand": format.m - format.n + 1}.get(fold, 1)


def tile_step(schedule: Schedule, problem: Ssmm) -> int:
    """What tile m must be a multiple of: whole fragments a warp, whole bands, whole quads."""
    fold, f = plan_fold(schedule, problem), problem.format
    rows = FRAGMENT_ROWS * schedule.warps.m
    if fold == "direct":
        return rows
    return lcm(lcm(rows, f.n) // f.n * f.m, QUAD)


def derive_geometry(schedule: Schedule, problem: Ssmm) -> StreamGeometry:
    """All numbers the plan needs. The legality rules have made every division exact."""
    tile, warps, f = schedule.tile, schedule.warps, problem.format
    fold = plan_fold(schedule, problem)
    rows = tile.m // f.m * f.n if fold != "direct" else tile.m
    fragments = (rows // warps.m // FRAGMENT_ROWS, tile.n // FRAGMENT_TOKENS)
    sets = accumulator_sets(fold, f)
    groups = schedule.pipeline.stages // GROUP_STEPS
    unit = offset_columns(f.v)
    pieces = tile.n * tile.k // 8
    return StreamGeometry(
        fold=fold,
        features_per_row=f.m if fold == "prefix" else 1,
        accumulator_sets=sets,
        tiles_per_word=ceil(OFFSET_ENTRIES * unit / tile.k),
        weight_rows=rows,
        fragments_m=fragments[0],
        fragments_n=fragments[1],
        groups=groups,
        chunk_groups=tile.k // (GROUP_COLUMNS * warps.k),
        chunks=schedule.pipeline.fragments,
        chunk_bytes=2 * tile.n * tile.k,
        panel_bytes=STREAM_ROW_BYTES * tile.n,
        token_copies=ceil(pieces / warps.threads),
        token_copies_even=pieces % warps.threads == 0,
        offset_columns=unit,
        groups_per_word=OFFSET_ENTRIES * unit // GROUP_COLUMNS,
        bands_in_warp=fragments[0] * FRAGMENT_ROWS % f.n == 0,
        sum_stride=-(-tile.m // FRAGMENT_ROWS) * FRAGMENT_ROWS + 4,
        registers=register_estimate(
            matrix_atom_named(schedule.tensorize), fold, sets, fragments, groups
        ),
    )


def register_estimate(
    atom: MatrixAtom, fold: PlanFold, sets: int, fragments: tuple[int, int], groups: int
) -> int:
    """32-bit registers a thread will need, from below: sums, what is in flight, one step's tokens.

    `fragments` are those along m and along n.
    """
    along_m, along_n = fragments
    accumulators = sets * along_m * along_n * atom.d_registers
    words = 2 if fold == "direct" else 4
    flight = groups * along_m * (GROUP_STEPS * atom.a_registers + words)
    masked = atom.a_registers if fold == "expand" else 0
    return accumulators + flight + masked + atom.b_registers + ADDRESS_REGISTERS
