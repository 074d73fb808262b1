"""Names of element types, and the numpy type and float limits behind each name.

Decides which spellings are accepted; who may use which type is decided by the caller.
"""

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from samoyeds_gen.errors import FormatError

ELEMENTS: dict[str, np.dtype] = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
}
STORED = ("float16", "bfloat16")

_ALIASES = {
    "bf16": "bfloat16",
    "f16": "float16",
    "fp16": "float16",
    "half": "float16",
    "f32": "float32",
    "fp32": "float32",
    "float": "float32",
}


@dataclass(frozen=True, slots=True)
class Bits:
    """Bit patterns of a 16-bit float type without its sign: infinity and the canonical NaN."""

    infinity: int
    nan: int


BITS = {"float16": Bits(0x7C00, 0x7E00), "bfloat16": Bits(0x7F80, 0x7FC0)}


def canonical_dtype(dtype: object, *, allowed: tuple[str, ...] = tuple(ELEMENTS)) -> str:
    """Name of an element type: "float16", "bfloat16" or "float32".

    `dtype` is a name ("bfloat16"), a short name ("bf16", "fp16", "half", ...), a numpy or ml_dtypes
    type, or a torch dtype. Raises FormatError for a type that is not in `allowed`.
    """
    name = _name(dtype)
    name = _ALIASES.get(name, name)
    if name not in allowed:
        raise FormatError(
            f"dtype {name!r} is not one of {', '.join(allowed)}",
            remedy=f"pass dtype={allowed[-1]!r} or convert the array",
        )
    return name


def _name(dtype: object) -> str:
    if isinstance(dtype, str):
        return dtype.removeprefix("torch.")
    text = str(dtype)
    if text.startswith("torch."):
        return text.removeprefix("torch.")
    try:
        return np.dtype(dtype).name  # type: ignore[call-overload, no-any-return]
    except TypeError:
        return text
