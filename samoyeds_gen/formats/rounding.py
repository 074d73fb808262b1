"""Rounding dense values to a 16-bit element type, once, to nearest even, as canonical bits.

Decides that a finite value that overflows is refused, that -0.0 becomes 0.0 and that every NaN
becomes the one quiet NaN of its type; who keeps which value is decided in pattern.py.
"""

from samoyeds_gen.errors import FormatError
from samoyeds_gen.formats.arrays import Array, Arrays
from samoyeds_gen.formats.element import BITS

MAGNITUDE = 0x7FFF


def to_bits(arrays: Arrays, dense: Array, *, source: str, dtype: str, first_row: int) -> Array:
    """Round `dense` of type `source` to `dtype`, as int16 bit patterns of the same shape.

    `first_row` is the row number of dense[0], for the message. Raises FormatError when a finite
    value rounds to infinity.
    """
    if source == dtype:
        bits = arrays.view(dense, "int16")
    else:
        exact = source != "float64"
        single = arrays.cast(dense, "float32") if exact else _round_to_odd(arrays, dense)
        bits = arrays.view(arrays.cast(single, dtype), "int16")
        overflow = ((bits & MAGNITUDE) == BITS[dtype].infinity) & (abs(single) < float("inf"))
        if overflow.any():
            _refuse(arrays, dense, overflow, dtype, first_row)
    return _canonical(arrays, bits, dtype)


def _round_to_odd(arrays: Arrays, dense: Array) -> Array:
    """Float64 to float32 so that a second rounding, to 16 bits, gives what one rounding would.

    An inexact result takes the neighbour with an odd last bit: it then never lies on a tie of a
    type at least two bits narrower.
    """
    single = arrays.cast(dense, "float32")
    back = arrays.cast(single, "float64")
    bits = arrays.view(single, "int32")
    inexact = (back != dense) & (dense == dense) & ((bits & 1) == 0)
    outward = arrays.cast(abs(back) < abs(dense), "int32") * 2 - 1
    # A zero rounded from a tiny negative value is -0.0, so adding one to the bits keeps the sign.
    return arrays.view(bits + outward * arrays.cast(inexact, "int32"), "float32")


def _canonical(arrays: Arrays, bits: Array, dtype: str) -> Array:
    magnitude = bits & MAGNITUDE
    zero, nan = magnitude == 0, magnitude > BITS[dtype].infinity
    bits = bits * arrays.cast(~zero, "int16")
    if nan.any():
        bits = arrays.where(nan, arrays.full((1,), BITS[dtype].nan, "int16"), bits)
    return bits


def _refuse(arrays: Arrays, dense: Array, overflow: Array, dtype: str, first_row: int) -> None:
    row, column = divmod(int(arrays.nonzero(overflow)[0]), dense.shape[1])
    raise FormatError(
        f"dense[{first_row + row}, {column}] = {float(dense[row, column])!r} overflows {dtype}",
        remedy="scale the matrix down" + (" or encode to bfloat16" if dtype == "float16" else ""),
    )
