"""The exchange fold's packing: which accumulator slots trade places before each V-block.

Decides the sequence of swaps; how many registers a swap costs is the schedule's business.
"""

import numpy as np
import numpy.typing as npt

from samoyeds_gen.errors import FormatError
from samoyeds_gen.formats.arrays import to_numpy
from samoyeds_gen.formats.fragments import Words, check_multiple, round_up
from samoyeds_gen.formats.weight import SparseWeight

LARGEST_M = 8
"""A placement of M nibbles must fit one 32-bit word."""


def swap_codes(w: SparseWeight, *, row_multiple: int) -> tuple[Words, Words]:
    """Swaps of the exchange fold, N = 1 and M <= 8: codes and final placement, numpy uint32.

    Every stored row owns M accumulator slots; slot s starts as output row s of its block, and
    slot 0 is the one that accumulates. Just before V-block j, slot 0 trades places with slot c, so
    that slot 0 belongs to output row indices[row, j]; c = 0 means no trade.

    Returns `codes` [ceil(blocks/8), rows], where nibble j % 8 of codes[j // 8, row] is c, and
    `placement` [rows], where nibble s is the output row that slot s belongs to after the last
    block (nibbles M..7 are 0). Rows are padded to `row_multiple` with codes 0 and the identity.

    Raises FormatError when N is not 1 or M exceeds 8. (Samoyeds, EuroSys'25, section 4.3.)
    """
    form = w.format
    if form.n != 1 or form.m > LARGEST_M:
        raise FormatError(
            f"swap codes exist for n = 1 and m <= {LARGEST_M}, but the format is {form}",
            remedy="use the expand fold",
        )
    check_multiple("row_multiple", row_multiple, 1)
    wanted = to_numpy(w.positions)
    stored, blocks = wanted.shape
    rows = round_up(stored, row_multiple)
    owner = np.tile(np.arange(form.m, dtype=np.uint32), (rows, 1))
    codes = np.zeros((-(-blocks // 8), rows), np.uint32)
    row = np.arange(stored)
    for block in range(blocks):
        slot = np.argmax(owner[:stored] == wanted[:, block, None], axis=1)
        codes[block // 8, :stored] |= slot.astype(np.uint32) << np.uint32(4 * (block % 8))
        owner[row, slot], owner[row, 0] = owner[row, 0], owner[row, slot]
    return codes, _nibbles(owner)


def _nibbles(owner: Words) -> Words:
    shifts = np.arange(owner.shape[1], dtype=np.uint32) * np.uint32(4)
    packed: npt.NDArray[np.uint32] = np.bitwise_or.reduce(owner << shifts, axis=1)
    return packed
