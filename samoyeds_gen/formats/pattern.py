"""Which entries the format keeps: two of every group of four, then N sub-rows of every block.

Decides order and ties (lower position first; NaN above infinity); rounding comes before it, and a
pruning method with another score calls the same two choices in the same order.
"""

import sys

from samoyeds_gen.formats.arrays import Array, Arrays
from samoyeds_gen.formats.rounding import MAGNITUDE

GROUP = 4
ABSENT_NIBBLE = 0x4
"""Positions (0, 1): what an all-zero group stores, and what padding holds; never 0."""

ORDERED_NIBBLES = (0x4, 0x8, 0xC, 0x9, 0xD, 0xE)
"""first | second << 2 for the six pairs of increasing positions."""

_LARGEST = sys.float_info.max


def keep_pairs(arrays: Arrays, bits: Array) -> tuple[Array, Array]:
    """Keep the two largest magnitudes of every group of four.

    `bits` int16 [..., k], canonical bits of a 16-bit float; k a multiple of 4. Returns (data int16
    [..., k/2], nibbles uint8 [..., k/4]) with nibble = first | second << 2, first < second. Equal
    magnitudes go to the lower position, so a lone non-zero takes the lowest free position beside it
    and an all-zero group stores (0, 1).
    """
    x0, x1, x2, x3 = (bits[..., i::GROUP] for i in range(GROUP))
    # Magnitude bits order as magnitudes do, and the canonical NaN lies above infinity.
    a, b, c, d = (x & MAGNITUDE for x in (x0, x1, x2, x3))
    ab, ac, ad, bc, bd, cd = a >= b, a >= c, a >= d, b >= c, b >= d, c >= d
    keep0 = _two_of_three(ab, ac, ad)
    keep1 = _two_of_three(~ab, bc, bd)
    keep2 = _two_of_three(~ac, ~bc, cd)
    keep3 = _two_of_three(~ad, ~bd, ~cd)
    low = arrays.where(keep0, x0, arrays.where(keep1, x1, x2))
    high = arrays.where(keep3, x3, arrays.where(keep2, x2, x1))
    first = arrays.cast(~keep0, "uint8") + arrays.cast(~(keep0 | keep1), "uint8")
    second = arrays.cast(keep2 | keep3, "uint8") + arrays.cast(keep3, "uint8") + 1
    data = arrays.stack([low, high]).reshape(*bits.shape[:-1], bits.shape[-1] // 2)
    return data, first | (second << 2)


def sum_of_squares(arrays: Arrays, data: Array, dtype: str) -> Array:
    """Sum of squares over the last axis of `data` (int16 bits of `dtype`), float64 [...].

    The last axis is a multiple of 8.
    """
    values = arrays.cast(arrays.cast(arrays.view(data, dtype), "float32"), "float64")
    return sum_in_order(values * values)


def sum_in_order(terms: Array) -> Array:
    """Sum over the last axis of `terms` (float64 [..., c], c a multiple of 8).

    The order of the additions is fixed (eight running sums, then a tree), so that numpy and torch
    agree to the last bit and hence on every tie.
    """
    terms = terms.reshape(*terms.shape[:-1], terms.shape[-1] // 8, 8)
    total = terms[..., 0, :]
    for i in range(1, terms.shape[-2]):
        total = total + terms[..., i, :]
    while total.shape[-1] > 1:
        total = total[..., 0::2] + total[..., 1::2]
    return total[..., 0]


def choose_sub_rows(arrays: Arrays, scores: Array, n: int) -> Array:
    """Positions of the `n` sub-rows with the largest score of every block.

    `scores` float64 [bands, M, blocks]; NaN ranks above infinity, ties go to the lower position.
    Returns uint8 [bands, n, blocks], increasing over axis 1.
    """
    bands, m, blocks = scores.shape
    infinity = arrays.full((1,), float("inf"), "float64")
    scores = arrays.where(scores == infinity, arrays.full((1,), _LARGEST, "float64"), scores)
    scores = arrays.where(scores != scores, infinity, scores)
    beaten = arrays.full((bands, m, blocks), 0, "uint8")
    for i in range(m):
        for j in range(i + 1, m):
            i_first = scores[:, i] >= scores[:, j]
            beaten[:, j] += arrays.cast(i_first, "uint8")
            beaten[:, i] += arrays.cast(~i_first, "uint8")
    kept = arrays.stack([beaten[:, i] < n for i in range(m)])
    positions = arrays.nonzero(kept).reshape(bands, blocks, n) % m
    return arrays.cast(arrays.stack([positions[..., t] for t in range(n)]), "uint8").swapaxes(1, 2)


def pack_nibbles(arrays: Arrays, nibbles: Array) -> Array:
    """Pack nibbles uint8 [rows, groups] into words uint32 [rows, ceil(groups / 8)], low first.

    Groups beyond the last hold 0x4. `groups` is even.
    """
    rows, groups = nibbles.shape
    packed = arrays.full((rows, -(-groups // 8) * 4), ABSENT_NIBBLE * 0x11, "uint8")
    packed[:, : groups // 2] = nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)
    return arrays.view(packed, "uint32")


def unpack_nibbles(arrays: Arrays, words: Array) -> Array:
    """Inverse of `pack_nibbles`: uint8 [rows, 8 * words] with the padding nibbles included."""
    packed = arrays.view(words, "uint8")
    return arrays.stack([packed & 0xF, packed >> 4]).reshape(words.shape[0], -1)


def _two_of_three(x: Array, y: Array, z: Array) -> Array:
    return (x & (y | z)) | (y & z)
