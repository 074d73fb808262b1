"""Comparison and selection rows (PTX ISA, "Comparison and Selection Instructions")."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.program import Instruction, Pair
from samoyeds_gen.simulator.rows import Modifiers, Step, alu, apply, row
from samoyeds_gen.simulator.scalars import DTYPES, Array, widen

if TYPE_CHECKING:
    from samoyeds_gen.simulator.lowering import Lowering
    from samoyeds_gen.simulator.machine import Machine


def _unordered(a: Array, b: Array) -> Array:
    return np.isnan(a) | np.isnan(b)


COMPARE: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal,
    # PTX's ordered "ne" is false for NaN; integers never are.
    "ne": lambda a, b: (a != b) & ~_unordered(a, b) if a.dtype.kind == "f" else a != b,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
    "equ": lambda a, b: (a == b) | _unordered(a, b),
    "neu": np.not_equal,
    "ltu": lambda a, b: ~(a >= b),
    "leu": lambda a, b: ~(a > b),
    "gtu": lambda a, b: ~(a <= b),
    "geu": lambda a, b: ~(a < b),
    "num": lambda a, b: ~_unordered(a, b),
    "nan": _unordered,
}
COMBINE = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def _flushed(a: Array) -> Array:
    return np.where(np.abs(a) < np.float32(2**-126), np.copysign(np.float32(0), a), a)


def comparison(modifiers: Modifiers) -> Callable[[Array, Array], Array]:
    """The comparison an opcode names, on the arrays its readers give."""
    compare, type_ = COMPARE[modifiers["cmp"]], modifiers["t"]
    if type_ in ("f16", "bf16"):
        return lambda a, b: compare(widen(a, type_), widen(b, type_))
    if "ftz" in modifiers:
        return lambda a, b: compare(_flushed(a), _flushed(b))
    return compare


def _setp(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    target, *sources = instruction.operands
    compare, type_ = comparison(modifiers), modifiers["t"]
    one, two = (lowering.read(operand, type_) for operand in sources[:2])
    combine = COMBINE.get(modifiers.get("bool", ""))
    third = lowering.read(sources[2], "pred") if combine else None
    first = target.first if isinstance(target, Pair) else target
    write = lowering.write(first, "pred")
    write_second = lowering.write(target.second, "pred") if isinstance(target, Pair) else None

    def run(m: "Machine") -> None:
        result = compare(one(m.regs), two(m.regs))
        opposite = ~result
        if combine is not None and third is not None:
            with_ = third(m.regs)
            result, opposite = combine(result, with_), combine(opposite, with_)
        write(m, result)
        if write_second is not None:
            write_second(m, opposite)

    if combine is None and write_second is None:
        return apply(compare, write, [one, two])
    return run


def _set(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    """set: all ones (or 1.0) where the comparison holds."""
    compare, combine = comparison(modifiers), COMBINE.get(modifiers.get("bool", ""))
    reads = [lowering.read(operand, modifiers["t"]) for operand in instruction.operands[1:3]]
    if combine:
        reads.append(lowering.read(instruction.operands[3], "pred"))
    out = DTYPES[modifiers["d"]]
    yes = np.ones(1, out) if out.kind == "f" else ~np.zeros(1, out)

    def function(a: Array, b: Array, c: Array | None = None) -> Array:
        holds = compare(a, b)
        if combine is not None and c is not None:
            holds = combine(holds, c)
        return np.where(holds, yes, out.type(0))

    return apply(function, lowering.write(instruction.operands[0], modifiers["d"]), reads)


def _select(a: Array, b: Array, predicate: Array) -> Array:
    return np.where(predicate, a, b)


def _select_by_sign(a: Array, b: Array, c: Array) -> Array:
    return np.where(c >= 0, a, b)


_TYPES = "BITS|INT|f16|bf16|f32|f64"
ROWS = (
    row(f"setp.<cmp:CMP>[.<bool:and|or|xor>][.<ftz:ftz>].<t:{_TYPES}>", _setp),
    row(f"set.<cmp:CMP>[.<bool:and|or|xor>][.<ftz:ftz>].<d:u32|s32|f32>.<t:{_TYPES}>", _set),
    alu(f"selp.<t:{_TYPES}>", "t t t pred", _select),
    alu(f"slct.<t:{_TYPES}>.s32", "t t t s32", _select_by_sign),
    alu(f"slct[.ftz].<t:{_TYPES}>.f32", "t t t f32", _select_by_sign),
)
