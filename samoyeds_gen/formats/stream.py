"""Packings for weights that stream from memory straight into registers, 16 bytes a lane and step.

Decides what a lane finds where: stored values as its A registers, metadata of four steps in two
neighbouring words, and how far each kept sub-row lies behind its stored row's place in the block.
"""

import numpy as np

from samoyeds_gen.formats.arrays import to_numpy
from samoyeds_gen.formats.fragments import Words, check_multiple, fragment_metadata, round_up
from samoyeds_gen.formats.lanes import CHUNK, ROWS
from samoyeds_gen.formats.weight import SparseWeight

STEP = 32
"""Dense columns of one m16n8k32 step."""

GROUP = 2 * CHUNK
"""Dense columns whose metadata is two words a lane: four steps."""

ENTRIES = 8
"""Offsets in one word, a nibble each."""


def fragment_data(w: SparseWeight, *, row_multiple: int, k_multiple: int) -> Words:
    """Stored values as registers of m16n8k32 steps: uint32 [rows/16, k/32, 32, 4], numpy.

    Word i of lane 4g+t, fragment f and step s holds two stored values of row 16f+g (of row 16f+g+8
    for i = 1, 3): those of columns 2t and 2t+1 among the 16 stored ones of the step, of 2t+8 and
    2t+9 for i = 2, 3. Rows are padded to `row_multiple` (a multiple of 16), dense columns to
    `k_multiple` (a multiple of 32), both with zeros.

    Raises FormatError for other multiples. (PTX ISA, "mma.sp.m16n8k32", fragments of A.)
    """
    check_multiple("row_multiple", row_multiple, ROWS)
    check_multiple("k_multiple", k_multiple, STEP)
    stored = np.ascontiguousarray(to_numpy(w.data)).view(np.uint16)
    rows, columns = round_up(stored.shape[0], row_multiple), round_up(w.shape[1], k_multiple, w)
    if stored.shape != (rows, columns // 2):
        full = np.zeros((rows, columns // 2), np.uint16)
        full[: stored.shape[0], : stored.shape[1]] = stored
        stored = full
    pairs = stored.view("<u4").reshape(rows // ROWS, 2, 8, columns // STEP, 2, 4)
    order = pairs.transpose(0, 3, 2, 5, 4, 1)  # fragment, step, g, t, columns, rows
    return np.ascontiguousarray(order, dtype=np.uint32).reshape(
        rows // ROWS, columns // STEP, 32, 4
    )


def paired_metadata(w: SparseWeight, *, row_multiple: int, k_multiple: int) -> Words:
    """`fragment_metadata` of stored rows with two words a lane together: uint32 [rows/16, k/128,
    32, 2], numpy, for four k32 steps each. `k_multiple` is a multiple of 128.
    """
    check_multiple("k_multiple", k_multiple, GROUP)
    words = fragment_metadata(w, rows="stored", row_multiple=row_multiple, k_multiple=k_multiple)
    pairs = words.reshape(words.shape[0], -1, 2, 32)
    return np.ascontiguousarray(pairs.swapaxes(2, 3))


def offset_columns(v: int) -> int:
    """Dense columns that share one offset: the largest power of two up to 128 that divides V."""
    return min(v & -v, GROUP)


def row_offsets(w: SparseWeight, *, row_multiple: int, k_multiple: int) -> Words:
    """Which of the output rows it may belong to a stored sub-row is: uint32 [rows/16, words, 8, 2].

    With U = `offset_columns(V)`, nibble e of [f, i, g, h] is, for stored row 16f+g+8h and dense
    columns (8i+e)U .. +U-1, the kept sub-row's position in its block less the stored row's own
    place in the band, 0..M-N. Padding is 0. `k_multiple` (a multiple of 128) pads dense columns
    before words are counted.
    """
    check_multiple("row_multiple", row_multiple, ROWS)
    check_multiple("k_multiple", k_multiple, GROUP)
    form, unit = w.format, offset_columns(w.format.v)
    positions = to_numpy(w.positions).astype(np.uint32)
    place = np.arange(positions.shape[0], dtype=np.uint32) % form.n
    offsets = (positions - place[:, None]).repeat(form.v // unit, axis=1)
    words = round_up(round_up(w.shape[1], k_multiple, w), ENTRIES * unit) // (ENTRIES * unit)
    full = np.zeros((round_up(offsets.shape[0], row_multiple), words * ENTRIES), np.uint32)
    full[: offsets.shape[0], : offsets.shape[1]] = offsets
    shifts = np.arange(ENTRIES, dtype=np.uint32) * np.uint32(4)
    packed = np.bitwise_or.reduce(full.reshape(-1, words, ENTRIES) << shifts, axis=2)
    return np.ascontiguousarray(packed.reshape(-1, 2, 8, words).transpose(0, 3, 2, 1))
