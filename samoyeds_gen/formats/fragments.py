"""Metadata in the order in which the lanes of a warp read it, one coalesced word a lane.

Decides the padding of rows and columns (positions 0 and 1, never 0b0000); the lane maps themselves
are in lanes.py.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from samoyeds_gen.errors import FormatError
from samoyeds_gen.formats.arrays import to_numpy
from samoyeds_gen.formats.lanes import CHUNK, ROWS, UNIT
from samoyeds_gen.formats.weight import SparseWeight

ABSENT = 0x4444
"""Metadata of a 16-column unit in which nothing is stored."""

Words = npt.NDArray[np.uint32]


def fragment_metadata(
    w: SparseWeight, *, rows: Literal["stored", "output"], row_multiple: int, k_multiple: int
) -> Words:
    """Metadata as mma.sp on 16-bit types wants it: uint32 [rows/16, k/64, 32], numpy.

    Lane 4g+q of fragment f and chunk t holds, for dense columns 64t+16q .. 64t+16q+15, the bits of
    row 16f+g in its low half-word and those of row 16f+g+8 in its high one. With rows="stored" a
    row is a stored row; with rows="output" it is an output row, and one whose sub-row is not kept
    in that V-block holds 0x4444. Rows are padded to `row_multiple` (a multiple of 16) and columns
    to `k_multiple` (a multiple of 64) with 0x4444.

    Raises FormatError for other multiples. (PTX ISA, "mma.sp", sparsity metadata.)
    """
    check_multiple("row_multiple", row_multiple, ROWS)
    check_multiple("k_multiple", k_multiple, CHUNK)
    units = half_words(w) if rows == "stored" else _output_half_words(w)
    full = np.full(
        (round_up(units.shape[0], row_multiple), round_up(w.shape[1], k_multiple, w) // UNIT),
        ABSENT,
        np.uint32,
    )
    full[: units.shape[0], : units.shape[1]] = units
    halves = full.reshape(-1, 2, 8, full.shape[1] // 4, 4)
    words = halves[:, 0] | halves[:, 1] << np.uint32(16)
    return np.ascontiguousarray(words.transpose(0, 2, 1, 3)).reshape(words.shape[0], -1, 32)


def half_words(w: SparseWeight) -> npt.NDArray[np.uint16]:
    """Metadata of a weight by 16-column units: uint16 [stored rows, padded k / 16]."""
    words = np.ascontiguousarray(to_numpy(w.metadata))
    return words.view(np.uint16)[:, : w.format.padded_k(w.shape[1]) // UNIT]


def check_multiple(name: str, value: int, unit: int) -> None:
    """Refuse a padding multiple that is not a positive multiple of `unit`."""
    if value < unit or value % unit:
        raise FormatError(
            f"{name}={value} is not a positive multiple of {unit}",
            remedy=f"pad to a multiple of {unit}",
        )


def round_up(size: int, multiple: int, w: SparseWeight | None = None) -> int:
    """`size` rounded up to `multiple`; with a weight, `size` is k and counts whole V-blocks."""
    size = size if w is None else w.format.padded_k(size)
    return -(-size // multiple) * multiple


def _output_half_words(w: SparseWeight) -> npt.NDArray[np.uint16]:
    form = w.format
    bands, blocks = form.bands(w.shape[0]), form.blocks(w.shape[1])
    stored = half_words(w).reshape(bands, form.n, blocks, form.v // UNIT)
    output = np.full((bands, form.m, blocks, form.v // UNIT), ABSENT, np.uint16)
    place = to_numpy(w.positions).reshape(bands, form.n, blocks)
    output[np.arange(bands)[:, None, None], place, np.arange(blocks)] = stored
    return output.reshape(bands * form.m, -1)
