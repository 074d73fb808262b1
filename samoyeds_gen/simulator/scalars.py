"""PTX scalar types as numpy types, and the 16-bit floats numpy lacks.

Registers hold unsigned words (f32 and f64 registers hold floats, predicates bools); rows view them
as the type an opcode names.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
DType = np.dtype[Any]

DTYPES: dict[str, DType] = {
    "pred": np.dtype(np.bool_),
    **{f"{k}{n}": np.dtype(f"u{n // 8}") for k in "bu" for n in (8, 16, 32, 64)},
    **{f"s{n}": np.dtype(f"i{n // 8}") for n in (8, 16, 32, 64)},
    "f16": np.dtype(np.uint16),
    "bf16": np.dtype(np.uint16),
    "f16x2": np.dtype(np.uint32),
    "bf16x2": np.dtype(np.uint32),
    "f32": np.dtype(np.float32),
    "tf32": np.dtype(np.uint32),
    "f64": np.dtype(np.float64),
}

# What a register declared with a type holds.
STORAGE: dict[str, DType] = {
    **{
        name: np.dtype(f"u{dtype.itemsize}") if dtype.kind == "i" else dtype
        for name, dtype in DTYPES.items()
    },
    "b128": np.dtype(np.complex128),
}


def bits_of(type_: str) -> int:
    """Width of a PTX type in bits; a predicate counts as 1."""
    return 1 if type_ == "pred" else DTYPES[type_].itemsize * 8


def widen(bits: Array, type_: str) -> Array:
    """uint16 words of f16 or bf16 as float32, exactly."""
    if type_ == "f16":
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << 16).view(np.float32)


def narrow(values: Array, type_: str) -> Array:
    """float32 or float64 values rounded to nearest even f16 or bf16, as uint16 words.

    NaN becomes the canonical 0x7fff, as cvt does (PTX ISA, "cvt").
    """
    if type_ == "f16":
        bits = values.astype(np.float16).view(np.uint16)
    else:
        words = (values if values.dtype == np.float32 else odd_float32(values)).view(np.uint32)
        bits = ((words + (0x7FFF + ((words >> 16) & 1))) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FFF), bits)


def odd_float32(values: Array) -> Array:
    """float64 to float32 rounded to odd, so that a second rounding to fewer bits is exact."""
    single = values.astype(np.float32)
    toward_zero = single.view(np.int32) - (np.abs(single.astype(np.float64)) > np.abs(values))
    odd = toward_zero | (single.astype(np.float64) != values)
    return (
        np.where(np.isfinite(values), odd, single.view(np.int32)).astype(np.int32).view(np.float32)
    )


def narrow_toward_zero(values: Array, type_: str) -> Array:
    """float32 values truncated to f16 or bf16, as uint16 words."""
    if type_ == "bf16":
        bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    else:
        half = values.astype(np.float16)
        away = np.abs(half.astype(np.float32)) > np.abs(values)
        bits = half.view(np.uint16) - away.astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FFF), bits)
