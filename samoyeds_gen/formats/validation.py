"""Contents of a weight's arrays: what makes stored metadata, positions and padding legal.

Decides the faults and their messages; types and shapes were checked when the weight was made.
"""

from samoyeds_gen.errors import FormatError
from samoyeds_gen.formats.arrays import Array, arrays_of
from samoyeds_gen.formats.format import Format
from samoyeds_gen.formats.pattern import GROUP, unpack_nibbles
from samoyeds_gen.formats.rounding import MAGNITUDE

_REMEDY = "encode the weight again"


def validate_contents(
    form: Format, shape: tuple[int, int], data: Array, metadata: Array, positions: Array
) -> None:
    """Raise FormatError for the first fault in the arrays of a weight (see SparseWeight)."""
    _metadata(metadata)
    _positions(form, positions)
    _padding(form, shape, data, metadata, positions)


def _metadata(metadata: Array) -> None:
    arrays = arrays_of(metadata)
    nibbles = unpack_nibbles(arrays, metadata)
    first, second = nibbles & 3, nibbles >> 2
    at = _first(first >= second)
    if at is not None:
        row, group = at
        pair = (int(first[row, group]), int(second[row, group]))
        raise FormatError(
            f"metadata of stored row {row}, columns {GROUP * group}..{GROUP * group + 3} holds "
            f"positions {pair}, but two increasing positions are required",
            remedy=_REMEDY,
        )


def _positions(form: Format, positions: Array) -> None:
    at = _first(positions >= form.m)
    if at is not None:
        row, block = at
        raise FormatError(
            f"indices[{row}, {block}] = {int(positions[row, block])}, but positions lie in "
            f"0..{form.m - 1}",
            remedy=_REMEDY,
        )
    stacked = positions.reshape(-1, form.n, positions.shape[1])
    at = _first(stacked[:, 1:] <= stacked[:, :-1])
    if at is not None:
        band, j, block = at
        raise FormatError(
            f"indices of stored rows {band * form.n + j} and {band * form.n + j + 1} in V-block "
            f"{block} are {int(stacked[band, j, block])} and {int(stacked[band, j + 1, block])}, "
            "but they must increase",
            remedy=_REMEDY,
        )


def _padding(
    form: Format, shape: tuple[int, int], data: Array, metadata: Array, positions: Array
) -> None:
    """Values stored for columns >= k (last block only) or rows >= m (last band only) are zero."""
    arrays = arrays_of(data)
    rows, k = shape
    occupied = (arrays.view(data, "int16") & MAGNITUDE) != 0
    nibbles = unpack_nibbles(arrays, arrays.here(metadata))[:, : form.padded_k(k) // GROUP]
    first_group = k // GROUP
    tail = nibbles[:, first_group:]
    group = arrays.arange(tail.shape[1]).reshape(1, -1) + first_group
    columns = arrays.stack([group * GROUP + (tail & 3), group * GROUP + (tail >> 2)])
    columns = columns.reshape(tail.shape[0], -1)
    at = _first(occupied[:, 2 * first_group :] & (columns >= k))
    if at is not None:
        raise FormatError(
            f"stored row {at[0]} holds a value at column {int(columns[at])}, but k is {k}",
            remedy=_REMEDY,
        )
    last = form.stored_rows(rows) - form.n
    places = arrays.cast(arrays.here(positions[last:]), "int64")
    outputs = (form.bands(rows) - 1) * form.m + places
    held = occupied[last:].reshape(form.n, form.blocks(k), form.v // 2).any(-1)
    at = _first(held & (outputs >= rows))
    if at is not None:
        raise FormatError(
            f"stored row {last + at[0]} holds a value of output row {int(outputs[at])}, "
            f"but m is {rows}",
            remedy=_REMEDY,
        )


def _first(mask: Array) -> tuple[int, ...] | None:
    """Index of the first true element, or None."""
    if not bool(mask.any()):
        return None
    flat = int(arrays_of(mask).nonzero(mask)[0])
    index: list[int] = []
    for size in reversed(mask.shape):
        flat, place = divmod(flat, int(size))
        index.insert(0, place)
    return tuple(index)
