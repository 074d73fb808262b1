"""Lane maps of sparse metadata for mma.sp with 16-bit types: which lane and bit holds an entry.

PTX ISA, "Warp-level matrix multiply-accumulate instructions", section "mma.sp instruction with
sparse matrix A": sparsity metadata of m16n8k16 and m16n8k32, .f16 and .bf16. Packing whole weights
in this order is done in fragments.py.
"""

ROWS = 16
"""Rows of a fragment."""

CHUNK = 64
"""Dense columns whose metadata one word per lane covers."""

UNIT = 16
"""Dense columns whose metadata is one half-word of one row."""


def metadata_lane(row: int, column: int) -> int:
    """Lane 0..31 whose word holds the entry of fragment row 0..15 and dense column 0..63.

    Rows g and g + 8 share the quad 4g..4g+3; the lane of the quad is the 16-column unit. The
    quad lane is the selector F of an m16n8k16 step over that unit; an m16n8k32 step over columns
    32F..32F+31 reads lanes 2F and 2F+1 of the quad with selector F.
    """
    return 4 * (row % 8) + column // UNIT


def metadata_shift(row: int, column: int) -> int:
    """Bit offset, inside that lane's word, of the nibble of the group of four around `column`.

    Rows 0..7 use the low half-word and rows 8..15 the high one; inside it, groups go upwards. The
    nibble is first | second << 2.
    """
    return 16 * (row // 8) + column % UNIT // 4 * 4


def selector_k16(chunk_column: int) -> int:
    """Selector 0..3 of the m16n8k16 step that starts at this column (multiple of 16) of a chunk."""
    return chunk_column // UNIT


def selector_k32(chunk_column: int) -> int:
    """Selector 0..1 of the m16n8k32 step that starts at this column (multiple of 32) of a chunk."""
    return chunk_column // (2 * UNIT)
