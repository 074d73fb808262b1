"""From the arrays of a SparseWeight back to the dense matrix, with the same bits.

Decides where each stored value lands; assumes arrays that `SparseWeight.validate` accepts.
"""

from samoyeds_gen.formats.arrays import Array, arrays_of
from samoyeds_gen.formats.format import Format
from samoyeds_gen.formats.pattern import GROUP, unpack_nibbles


def decode_arrays(
    form: Format, shape: tuple[int, int], data: Array, metadata: Array, positions: Array
) -> Array:
    """Dense matrix [m, k] of `data`'s type, on its device, zero where nothing is stored.

    `positions` uint8 [stored rows, blocks] gives the place of each stored sub-row in its block.
    `metadata` and `positions` of tensors may lie elsewhere: what is worked on is moved.
    """
    arrays = arrays_of(data)
    kind = str(data.dtype).removeprefix("torch.")
    rows, k = shape
    bands, blocks = form.bands(rows), form.blocks(k)
    dense = arrays.full((rows, k), 0, "int16")
    bits = arrays.view(data, "int16")
    step = max(1, arrays.chunk // (form.m * form.padded_k(k)))
    for band in range(0, bands, step):
        stored = slice(band * form.n, (band + step) * form.n)
        words = arrays.here(metadata[stored])
        nibbles = unpack_nibbles(arrays, words)[:, : form.padded_k(k) // GROUP]
        groups = _spread(bits[stored], nibbles)
        count = min(step, bands - band)
        block_rows = arrays.full((count, form.m, blocks, form.v), 0, "int16")
        at = arrays.cast(arrays.here(positions[stored]), "int64").reshape(count, form.n, blocks)
        band_axis = arrays.arange(count).reshape(count, 1, 1)
        block_axis = arrays.arange(blocks).reshape(1, 1, blocks)
        block_rows[band_axis, at, block_axis] = groups.reshape(count, form.n, blocks, form.v)
        first = band * form.m
        part = block_rows.reshape(count * form.m, form.padded_k(k))
        dense[first : first + count * form.m] = part[: rows - first, :k]
    return arrays.view(dense, kind)


def _spread(bits: Array, nibbles: Array) -> Array:
    """Put the two values of every group at their positions among four: int16 [rows, groups, 4]."""
    arrays = arrays_of(bits)
    first, second = nibbles & 3, nibbles >> 2
    low, high = bits[:, 0::2], bits[:, 1::2]
    return arrays.stack(
        [
            low * arrays.cast(first == place, "int16")
            + high * arrays.cast(second == place, "int16")
            for place in range(GROUP)
        ]
    )
