"""The (N, M, V) sub-row format with 2:4 inside: encode, decode, validate, save, load and pack.

Decides everything about stored bits; which packing a kernel wants is decided by its schedule.
"""

from samoyeds_gen.formats.element import ELEMENTS, canonical_dtype
from samoyeds_gen.formats.encoding import encode
from samoyeds_gen.formats.exchange import swap_codes
from samoyeds_gen.formats.expand import expand_slots
from samoyeds_gen.formats.format import Format
from samoyeds_gen.formats.fragments import fragment_metadata
from samoyeds_gen.formats.prefix import selector_words
from samoyeds_gen.formats.rows import (
    deinterleave_rows,
    gate_block,
    interleave_rows,
    stack_weights,
    take_rows,
)
from samoyeds_gen.formats.stream import (
    fragment_data,
    offset_columns,
    paired_metadata,
    row_offsets,
)
from samoyeds_gen.formats.warpgroup import warpgroup_words
from samoyeds_gen.formats.weight import SparseWeight, load

__all__ = [
    "ELEMENTS",
    "Format",
    "SparseWeight",
    "canonical_dtype",
    "deinterleave_rows",
    "encode",
    "expand_slots",
    "fragment_data",
    "fragment_metadata",
    "gate_block",
    "interleave_rows",
    "load",
    "offset_columns",
    "paired_metadata",
    "row_offsets",
    "selector_words",
    "stack_weights",
    "swap_codes",
    "take_rows",
    "warpgroup_words",
]
