"""Element types as data: their PTX spelling, size, and how CUDA holds them.

Kernels keep 16-bit elements as raw `unsigned short`, so that emitted files include no header.
"""

from dataclasses import dataclass

from samoyeds_gen.errors import ScheduleError


@dataclass(frozen=True, slots=True)
class DType:
    """One element type: `ptx` is its suffix in instructions, `nan` the bits of its quiet NaN."""

    name: str
    short: str
    ptx: str
    bytes: int
    storage: str
    nan: str


BFLOAT16 = DType("bfloat16", "bf16", "bf16", 2, "unsigned short", "0x7fff7fffu")
FLOAT16 = DType("float16", "f16", "f16", 2, "unsigned short", "0x7fff7fffu")
FLOAT32 = DType("float32", "f32", "f32", 4, "float", "0x7fffffffu")

OPERAND_TYPES = (FLOAT16, BFLOAT16)
OUTPUT_TYPES = (FLOAT16, BFLOAT16, FLOAT32)

_SPELLINGS = {
    spelling: dtype
    for dtype in OUTPUT_TYPES
    for spelling in (dtype.name, dtype.short, dtype.name.replace("float", "fp"))
} | {"bf16": BFLOAT16, "half": FLOAT16}


def dtype_named(name: str, *, operand: bool = False) -> DType:
    """Look a dtype up by name ("bfloat16", "bf16", ...); `operand` leaves out float32.

    Raises `ScheduleError` naming the allowed types.
    """
    allowed = OPERAND_TYPES if operand else OUTPUT_TYPES
    dtype = _SPELLINGS.get(name)
    if dtype is None or dtype not in allowed:
        names = ", ".join(each.name for each in allowed)
        raise ScheduleError(
            f"dtype {name!r} is not one of {names}", rule="dtype", remedy=f"use one of {names}"
        )
    return dtype
