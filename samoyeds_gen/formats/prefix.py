"""The prefix fold's packing: one selector bit per output row but the last, V-block and stored row.

Decides the bit order, and that everything past the last V-block is 0, so that the last weight of
the telescoped sum needs no special case.
"""

import numpy as np

from samoyeds_gen.errors import FormatError
from samoyeds_gen.formats.arrays import to_numpy
from samoyeds_gen.formats.fragments import Words, check_multiple, round_up
from samoyeds_gen.formats.weight import SparseWeight


def selector_words(w: SparseWeight, *, row_multiple: int) -> Words:
    """Selector bits of the prefix fold, N = 1: uint32 [M-1, ceil(blocks/32)+1, rows], numpy.

    Bit j % 32 of [p, j // 32, row] says that V-block j of the stored row belongs to output row p of
    its block. The prefix fold adds (bit j - bit j+1) times the running sum after block j to output
    row p; a word's last bit reads the next word's bit 0, hence the word more than needed. Bits past
    the last block, and rows padded to `row_multiple`, are 0.

    Raises FormatError when N is not 1.
    """
    form = w.format
    if form.n != 1:
        raise FormatError(
            f"selector words exist for n = 1, but the format is {form}",
            remedy="use the expand fold",
        )
    check_multiple("row_multiple", row_multiple, 1)
    positions = to_numpy(w.positions)
    stored, blocks = positions.shape
    words = -(-blocks // 32) + 1
    bits = np.zeros((form.m - 1, round_up(stored, row_multiple), 32 * words), np.bool_)
    for place in range(form.m - 1):
        bits[place, :stored, :blocks] = positions == place
    packed = np.packbits(bits, axis=-1, bitorder="little").view("<u4")
    return np.ascontiguousarray(packed.swapaxes(1, 2), dtype=np.uint32)
