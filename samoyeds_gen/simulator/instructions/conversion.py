"""mov, cvt and cvta rows (PTX ISA, "Data Movement and Conversion Instructions").

An integer destination saturates and takes NaN to 0; a float destination is rounded once.
"""

from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.instructions.floating import directed, flush, saturate
from samoyeds_gen.simulator.memory import LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW
from samoyeds_gen.simulator.program import Instruction, Register, Sink, Vector
from samoyeds_gen.simulator.rows import Function, Modifiers, Step, alu, alu_by, apply, row
from samoyeds_gen.simulator.scalars import (
    DTYPES,
    STORAGE,
    Array,
    bits_of,
    narrow,
    narrow_toward_zero,
    widen,
)

if TYPE_CHECKING:
    from samoyeds_gen.simulator.lowering import Lowering
    from samoyeds_gen.simulator.machine import Machine

_WHOLE = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def _to_integer(modifiers: Modifiers) -> Function:
    """Float (or integer with .sat) to integer."""
    target, source = DTYPES[modifiers["d"]], modifiers["a"]
    limits = np.iinfo(target)
    rounded = _WHOLE.get(modifiers.get("rnd", "rzi"), np.trunc)

    def run(a: Array) -> Array:
        if source[0] in "us":
            low = max(int(limits.min), int(np.iinfo(a.dtype).min))
            high = min(int(limits.max), int(np.iinfo(a.dtype).max))
            return np.clip(a, low, high).astype(target)
        values = widen(a, source) if source in ("f16", "bf16") else a
        whole = rounded(flush(values) if "ftz" in modifiers else values).astype(np.float64)
        over = whole >= float(limits.max) + (1 if limits.bits < 64 else 0)
        under = whole <= float(limits.min)
        inside = np.where(over | under | np.isnan(whole), 0, whole).astype(target)
        result = np.where(over, target.type(limits.max), inside)
        return np.where(under, target.type(limits.min), result)

    return run


def _to_float(modifiers: Modifiers) -> Function:
    """Anything to f32 or f64."""
    target, source = DTYPES[modifiers["d"]], modifiers["a"]
    mode = modifiers.get("rnd", "rn")

    def run(a: Array) -> Array:
        values = widen(a, source) if source in ("f16", "bf16") else a
        if "ftz" in modifiers and values.dtype == np.float32:
            values = flush(values)
        if mode in _WHOLE:
            values = _WHOLE[mode](values)
        if mode in ("rz", "rm", "rp") and target == np.float32:
            double = values.astype(np.float64)
            result = directed(double, (values - double.astype(values.dtype)).astype(float), mode)
        else:
            result = values.astype(target)
        if "ftz" in modifiers and target == np.float32:
            result = flush(result)
        return saturate(result) if "sat" in modifiers else result

    return run


def _to_half(modifiers: Modifiers) -> Function:
    """Anything to f16 or bf16."""
    target, source = modifiers["d"], modifiers["a"]
    mode = modifiers.get("rnd", "rn")

    def run(a: Array) -> Array:
        values = widen(a, source) if source in ("f16", "bf16") else a
        if values.dtype.kind != "f":
            values = values.astype(np.float64)
        if mode in _WHOLE:
            values = _WHOLE[mode](values)
        if "relu" in modifiers:
            values = np.maximum(values, 0)
        if "sat" in modifiers:
            values = saturate(values)
        return narrow_toward_zero(values, target) if mode == "rz" else narrow(values, target)

    return run


def _pack(modifiers: Modifiers) -> Function:
    """Two f32 to a pair; the first source is the upper half."""
    element = modifiers["d"].removesuffix("x2")
    convert = narrow_toward_zero if modifiers["rnd"] == "rz" else narrow

    def run(high: Array, low: Array) -> Array:
        if "relu" in modifiers:
            high, low = np.maximum(high, 0), np.maximum(low, 0)
        upper = convert(high, element).astype(np.uint32) << np.uint32(16)
        return upper | convert(low, element)

    return run


def _to_tf32(a: Array) -> Array:
    """Round to nearest, ties away, keeping ten bits of fraction."""
    bits = a.view(np.uint32)
    return np.where(np.isfinite(a), (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000), bits)


def _resize(modifiers: Modifiers) -> Function:
    target = DTYPES[modifiers["d"]]
    return lambda a: a.astype(target)


def _move(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    target, source = instruction.operands
    if isinstance(target, Vector):
        return _unpack(lowering, target, source, modifiers["t"])  # type: ignore[arg-type]
    if isinstance(source, Vector):
        return _gather(lowering, target, source, modifiers["t"])  # type: ignore[arg-type]
    type_ = modifiers["t"]
    return apply(lambda a: a, lowering.write(target, type_), [lowering.read(source, type_)])


def _part_type(vector: Vector, whole: str) -> str:
    return f"b{bits_of(whole) // len(vector.items)}" if whole != "b128" else "b64"


def _unpack(lowering: "Lowering", target: Vector, source: Register, whole: str) -> Step:
    """mov {a, b}, c: the first element is the least significant."""
    part = _part_type(target, whole)
    read, count = lowering.read(source, whole), len(target.items)
    writes = [
        (number, lowering.write(item, part))
        for number, item in enumerate(target.items)
        if not isinstance(item, Sink)
    ]

    def run(m: "Machine") -> None:
        parts = np.ascontiguousarray(read(m.regs)).view(STORAGE[part]).reshape(-1, count)
        for number, write in writes:
            write(m, parts[:, number].copy())

    return run


def _gather(lowering: "Lowering", target: Register, source: Vector, whole: str) -> Step:
    part = _part_type(source, whole)
    reads = [lowering.read(item, part) for item in source.items]
    write = lowering.write(target, whole)

    def run(m: "Machine") -> None:
        columns = np.broadcast_arrays(*[read(m.regs) for read in reads])
        write(m, np.stack(columns, axis=1).view(STORAGE[whole]).reshape(-1))

    return run


_WINDOWS = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW, "param": PARAM_WINDOW}


def _to_generic(modifiers: Modifiers) -> Function:
    window = np.uint64(_WINDOWS.get(modifiers["space"].split("::")[0], 0))
    return lambda a: a.astype(np.uint64) | window


def _from_generic(modifiers: Modifiers) -> Function:
    window = np.uint64(_WINDOWS.get(modifiers["space"].split("::")[0], 0))
    return lambda a: a.astype(np.uint64) ^ window


_SPACE = "<space:global|shared|shared::cta|shared::cluster|local|const|param>"
_SOURCE = "f16|bf16|f32|f64|INT8"
ROWS = (
    row("mov.<t:pred|BITS|b128|INT|f16|bf16|f32|f64>", _move),
    alu_by(f"cvta.{_SPACE}.<t:u64|u32>", "t t", _to_generic),
    alu_by(f"cvta.to.{_SPACE}.<t:u64|u32>", "t t", _from_generic),
    alu_by("cvt.<d:INT8>.<a:INT8>", "d a", _resize),
    alu_by("cvt.<sat:sat>.<d:INT8>.<a:INT8>", "d a", _to_integer),
    alu_by(
        "cvt.<rnd:rni|rzi|rmi|rpi>[.<ftz:ftz>][.<sat:sat>].<d:INT8>.<a:f16|bf16|f32|f64>",
        "d a",
        _to_integer,
    ),
    alu_by(
        f"cvt[.<rnd:RND|rni|rzi|rmi|rpi>][.<ftz:ftz>][.<sat:sat>].<d:f32|f64>.<a:{_SOURCE}>",
        "d a",
        _to_float,
    ),
    alu_by(
        "cvt[.<rnd:rn|rz|rni|rzi|rmi|rpi>][.<ftz:ftz>][.<sat:sat>][.<relu:relu>]"
        f".<d:f16|bf16>.<a:{_SOURCE}>",
        "d a",
        _to_half,
    ),
    alu_by("cvt.<rnd:rn|rz>[.<relu:relu>].<d:f16x2|bf16x2>.f32", "d f32 f32", _pack),
    alu("cvt.rna.tf32.f32", "b32 f32", _to_tf32),
)
