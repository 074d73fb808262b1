"""Metadata and fold words of one warpgroup and k tile, in the bytes one bulk copy brings.

Decides the order inside a block; the lane maps are in lanes.py. A block lies where the warpgroup's
64 rows and `tile_k` columns meet; all blocks of a row of blocks follow one another along k.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from samoyeds_gen.errors import FormatError
from samoyeds_gen.formats.arrays import to_numpy
from samoyeds_gen.formats.expand import SPAN, expand_slots
from samoyeds_gen.formats.fragments import check_multiple, fragment_metadata, round_up
from samoyeds_gen.formats.lanes import CHUNK
from samoyeds_gen.formats.weight import SparseWeight

GROUP_ROWS = 64
WARPS = 4

Bytes = npt.NDArray[np.uint8]
WordFold = Literal["direct", "prefix", "expand"]


def warpgroup_words(w: SparseWeight, *, fold: WordFold, row_multiple: int, tile_k: int) -> Bytes:
    """What a warpgroup needs beside values: uint8 [rows/64, k tiles, bytes], numpy.

    Rows are stored rows, for the expand fold output rows, padded to `row_multiple`, a multiple of
    64. A block holds first the metadata, uint32 [128 threads, tile_k/64], as wgmma.sp takes it (PTX
    ISA, "wgmma.mma_async.sp", sparse matrix storage: as mma.sp, a warp a fragment of 16 rows).
    Behind it
      prefix: uint8 [M-1, 64 rows]; bit b says that V-block b of the tile belongs to output row p of
        its block, and the bit behind the tile's last V-block says it of the V-block after. Where a
        V-block spans several tiles, its last tile has these bits and the others zeros.
      expand: uint16 [128 threads]; nibble s is the stored position for k32 step s of row 16 w + i
        and half c of its columns, for lane 16 c + i of warp w; 15 where the sub-row is absent.

    Raises FormatError for a tile_k that is not 64 or 128, and for a format the fold does not take.
    """
    if tile_k not in (CHUNK, 2 * CHUNK):
        raise FormatError(f"tile_k={tile_k} is not 64 or 128", remedy="use 64 or 128")
    check_multiple("row_multiple", row_multiple, GROUP_ROWS)
    rows: Literal["stored", "output"] = "output" if fold == "expand" else "stored"
    metadata = fragment_metadata(w, rows=rows, row_multiple=row_multiple, k_multiple=tile_k)
    groups, words = metadata.shape[0] // WARPS, tile_k // CHUNK
    split = metadata.reshape(groups, WARPS, -1, words, 32).transpose(0, 2, 1, 4, 3)
    blocks = np.ascontiguousarray(split).view(np.uint8).reshape(*split.shape[:2], -1)
    if fold == "direct":
        return blocks
    more = _selectors(w, groups, tile_k) if fold == "prefix" else _slots(w, groups, tile_k)
    return np.concatenate([blocks, more], axis=2)


def _selectors(w: SparseWeight, groups: int, tile_k: int) -> Bytes:
    """The prefix fold's bytes: [groups, k tiles, (M-1) * 64]."""
    form = w.format
    if form.n != 1 or (form.v % tile_k and tile_k % form.v):
        raise FormatError(
            f"prefix words of {tile_k} columns do not exist for the format {form}",
            remedy="use the expand fold",
        )
    positions = to_numpy(w.positions)
    stored, blocks = positions.shape
    per_tile, span = max(1, tile_k // form.v), max(1, form.v // tile_k)
    tiles = round_up(w.shape[1], tile_k, w) // tile_k
    selected = np.zeros((form.m - 1, groups * GROUP_ROWS, tiles * per_tile // span + 1), np.uint8)
    for place in range(form.m - 1):
        selected[place, :stored, :blocks] = positions == place
    words = np.zeros((form.m - 1, groups * GROUP_ROWS, tiles), np.uint8)
    for bit in range(per_tile + 1):
        last = selected[:, :, bit : bit + (tiles // span - 1) * per_tile + 1 : per_tile]
        words[:, :, span - 1 :: span] |= last << np.uint8(bit)
    split = words.reshape(form.m - 1, groups, GROUP_ROWS, tiles).transpose(1, 3, 0, 2)
    return np.ascontiguousarray(split).reshape(groups, tiles, -1)


def _slots(w: SparseWeight, groups: int, tile_k: int) -> Bytes:
    """The expand fold's bytes: [groups, k tiles, 256]."""
    slots = expand_slots(w, row_multiple=groups * GROUP_ROWS)
    tiles, per_word = round_up(w.shape[1], tile_k, w) // tile_k, SPAN // tile_k
    shifts = np.arange(per_word, dtype=np.uint32) * np.uint32(4 * (tile_k // 32))
    mask = np.uint32((1 << 4 * (tile_k // 32)) - 1)
    pieces = (slots[:, :, None, :] >> shifts[None, None, :, None]) & mask
    flat = pieces.reshape(groups, WARPS, -1, 32)[:, :, :tiles].astype(np.uint16)
    return (
        np.ascontiguousarray(flat.transpose(0, 2, 1, 3)).view(np.uint8).reshape(groups, tiles, -1)
    )
