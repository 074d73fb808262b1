"""The expand fold's packing: for each output row and 16-column unit, the stored row to read.

Decides the lane order, which is the one in which ldmatrix takes row addresses; the zeros read for
an absent sub-row are the kernel's business.
"""

import numpy as np

from samoyeds_gen.errors import FormatError
from samoyeds_gen.formats.arrays import to_numpy
from samoyeds_gen.formats.fragments import Words, check_multiple, round_up
from samoyeds_gen.formats.lanes import ROWS, UNIT
from samoyeds_gen.formats.weight import SparseWeight

ABSENT = 15
"""Slot of an output row whose sub-row is not stored in the block, and of padding."""

SPAN = 256
"""Dense columns that one word covers: eight steps of two 16-column units, a unit per half-warp."""


def expand_slots(w: SparseWeight, *, row_multiple: int, k_multiple: int = SPAN) -> Words:
    """Stored positions for the expand fold, N < M: uint32 [rows/16, k/256, 32], numpy.

    Nibble s = 0..7 of lane 16c+i, fragment f and word t describes output row 16f+i and dense
    columns 256t+32s+16c .. +15: the stored position 0..N-1 of that row's sub-row in its V-block, or
    15 when it is absent. Rows are padded to `row_multiple` (a multiple of 16) and columns to
    `k_multiple` (a multiple of 256) with 15.

    Raises FormatError for other multiples, and for N = M, where every sub-row is present. (PTX
    ISA, "ldmatrix": lanes 0..15 give the rows of the first two 8x8 tiles, lanes 16..31 the others.)
    """
    form = w.format
    if form.plain:
        raise FormatError(
            f"expand slots exist for n < m, but the format is {form}",
            remedy="read stored rows directly",
        )
    check_multiple("row_multiple", row_multiple, ROWS)
    check_multiple("k_multiple", k_multiple, SPAN)
    slots = _slots_by_block(w).repeat(form.v // UNIT, axis=1)
    full = np.full(
        (round_up(slots.shape[0], row_multiple), round_up(w.shape[1], k_multiple, w) // UNIT),
        ABSENT,
        np.uint32,
    )
    full[: slots.shape[0], : slots.shape[1]] = slots
    units = full.reshape(-1, ROWS, full.shape[1] // 16, 8, 2)
    shifts = np.arange(8, dtype=np.uint32) * np.uint32(4)
    words = np.bitwise_or.reduce(units << shifts[:, None], axis=3)
    return np.ascontiguousarray(words.transpose(0, 2, 3, 1)).reshape(words.shape[0], -1, 32)


def _slots_by_block(w: SparseWeight) -> Words:
    form = w.format
    bands, blocks = form.bands(w.shape[0]), form.blocks(w.shape[1])
    slots = np.full((bands, form.m, blocks), ABSENT, np.uint32)
    place = to_numpy(w.positions).reshape(bands, form.n, blocks)
    which = np.arange(form.n, dtype=np.uint32)[:, None]
    slots[np.arange(bands)[:, None, None], place, np.arange(blocks)] = which
    return slots.reshape(bands * form.m, blocks)
