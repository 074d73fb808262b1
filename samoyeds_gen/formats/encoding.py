"""From a dense matrix to a SparseWeight: round, keep two of four, keep N of M sub-rows, pack.

Decides which inputs are accepted and how the work is cut; the choices are made in pattern.py.
"""

import numpy as np

from samoyeds_gen.errors import FormatError
from samoyeds_gen.formats.arrays import Array, Arrays, arrays_of, is_tensor
from samoyeds_gen.formats.element import STORED, canonical_dtype
from samoyeds_gen.formats.format import Format
from samoyeds_gen.formats.pattern import (
    choose_sub_rows,
    keep_pairs,
    pack_nibbles,
    sum_of_squares,
)
from samoyeds_gen.formats.rounding import to_bits
from samoyeds_gen.formats.weight import SparseWeight

SOURCES = ("float64", "float32", "float16", "bfloat16")


def encode(dense: Array, *, n: int, m: int, v: int, dtype: object = "bfloat16") -> SparseWeight:
    """Round `dense` to `dtype` and return the nearest matrix of the (n, m, v) pattern.

    `dense` [m, k] is a numpy (float16, float32, float64, bfloat16) array or a torch tensor of the
    same types on any device; a tensor is encoded on its device and gives tensors, with the same
    bits. `dtype` is "bfloat16" or "float16". Nearest is meant in the Frobenius norm: in each group
    of 4 the two largest magnitudes, then in each block the n sub-rows with the largest sum of
    squares (float64). Ties go to the lower position, NaN ranks above infinity, -0.0 is a zero and
    is stored as 0.0; every NaN is stored as the quiet NaN of the type.

    Raises FormatError for another shape, type or format, and for a finite value that overflows.
    (Samoyeds, EuroSys'25, section 4.1.)
    """
    form = Format(n, m, v)
    dtype = canonical_dtype(dtype, allowed=STORED)
    source = _source(dense)
    if is_tensor(dense):
        dense = dense.detach()
    elif not dense.dtype.isnative:
        dense = dense.astype(dense.dtype.newbyteorder("="))
    arrays = arrays_of(dense)
    rows, k = dense.shape
    data, nibbles, indices = _allocate(arrays, form, rows, k)
    step = max(1, arrays.chunk // (form.m * form.padded_k(k)))
    for band in range(0, form.bands(rows), step):
        first = band * form.m
        part = dense[first : first + step * form.m]
        bits = to_bits(arrays, part, source=source, dtype=dtype, first_row=first)
        stored = slice(band * form.n, (band + step) * form.n)
        data[stored], nibbles[stored], indices[stored] = _encode_bands(arrays, form, dtype, bits)
    return SparseWeight(
        format=form,
        dtype=dtype,
        shape=(rows, k),
        data=arrays.view(data, dtype),
        metadata=pack_nibbles(arrays, nibbles),
        indices=None if form.plain else indices,
    )


def _source(dense: Array) -> str:
    if not is_tensor(dense) and not isinstance(dense, np.ndarray):
        raise FormatError(
            f"dense is a {type(dense).__name__}, but a numpy array or a torch tensor is required",
            remedy="pass numpy.asarray(dense, dtype=numpy.float32)",
        )
    if is_tensor(dense) and str(dense.layout) != "torch.strided":
        layout = str(dense.layout).removeprefix("torch.")
        raise FormatError(
            f"dense is a {layout} tensor, but a strided one is required",
            remedy="pass dense.to_dense()",
        )
    if dense.ndim != 2 or 0 in dense.shape:
        raise FormatError(
            f"dense has shape {tuple(dense.shape)}, but [m, k] with m, k >= 1 is required",
            remedy="pass one matrix of output features by input features",
        )
    name = str(dense.dtype).removeprefix("torch.") if is_tensor(dense) else dense.dtype.name
    if name not in SOURCES:
        raise FormatError(
            f"dense has dtype {name}, but one of {', '.join(SOURCES)} is required",
            remedy="convert it to float32 first",
        )
    return name


def _allocate(arrays: Arrays, form: Format, rows: int, k: int) -> tuple[Array, Array, Array]:
    stored, columns = form.stored_rows(rows), form.padded_k(k)
    return (
        arrays.full((stored, columns // 2), 0, "int16"),
        arrays.full((stored, columns // 4), 0, "uint8"),
        arrays.full((stored, form.blocks(k)), 0, "uint8"),
    )


def _encode_bands(
    arrays: Arrays, form: Format, dtype: str, bits: Array
) -> tuple[Array, Array, Array]:
    """Encode whole bands of M rows (the last may be ragged): data, nibbles and indices of them."""
    rows, k = bits.shape
    bands, blocks = form.bands(rows), form.blocks(k)
    padded = arrays.full((bands * form.m, form.padded_k(k)), 0, "int16")
    padded[:rows, :k] = bits
    data, nibbles = keep_pairs(arrays, padded.reshape(bands, form.m, blocks, form.v))
    scores = sum_of_squares(arrays, data, dtype)
    kept = choose_sub_rows(arrays, scores, form.n)
    if not form.plain:
        chosen = _chosen(arrays, kept)
        data, nibbles = data[chosen], nibbles[chosen]
    stored = bands * form.n
    return data.reshape(stored, -1), nibbles.reshape(stored, -1), kept.reshape(stored, blocks)


def _chosen(arrays: Arrays, kept: Array) -> tuple[Array, Array, Array]:
    bands, _, blocks = kept.shape
    band = arrays.arange(bands).reshape(bands, 1, 1)
    block = arrays.arange(blocks).reshape(1, 1, blocks)
    return band, arrays.cast(kept, "int64"), block
