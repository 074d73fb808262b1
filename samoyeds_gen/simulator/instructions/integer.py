"""Integer arithmetic rows (PTX ISA, "Integer Arithmetic Instructions").

Signed add, sub and low multiply are their unsigned forms: two's complement does not mind.
"""

from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.program import Instruction
from samoyeds_gen.simulator.rows import Build, Function, Modifiers, Step, alu, row
from samoyeds_gen.simulator.scalars import DTYPES, Array, DType

if TYPE_CHECKING:
    from samoyeds_gen.simulator.lowering import Lowering
    from samoyeds_gen.simulator.machine import Machine

CARRY = "%carry"


def _wide(dtype: DType) -> DType:
    return np.dtype(f"{dtype.kind}{2 * dtype.itemsize}")


def multiply_wide(a: Array, b: Array) -> Array:
    """Full product of 16- or 32-bit integers, twice as wide."""
    wide = _wide(a.dtype)
    product: Array = a.astype(wide) * b.astype(wide)
    return product


def multiply_high(a: Array, b: Array) -> Array:
    """Upper half of the full product, any width."""
    if a.dtype.itemsize < 8:
        return (multiply_wide(a, b) >> (8 * a.dtype.itemsize)).astype(a.dtype)
    x, y = a.view(np.uint64), b.view(np.uint64)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    x0, x1, y0, y1 = x & low, x >> half, y & low, y >> half
    middle = x1 * y0 + ((x0 * y0) >> half)
    carry = x0 * y1 + (middle & low)
    high = x1 * y1 + (middle >> half) + (carry >> half)
    if a.dtype.kind == "i":
        zero = np.uint64(0)
        high = high - np.where(a < 0, y, zero) - np.where(b < 0, x, zero)
    upper: Array = high.view(a.dtype)
    return upper


def divide(a: Array, b: Array) -> Array:
    """Quotient truncated toward zero; all ones where the divisor is zero, as the hardware gives."""
    zero = b == 0
    if a.dtype.kind == "u":
        return np.where(zero, ~np.zeros(1, a.dtype), a // np.where(zero, 1, b).astype(a.dtype))
    unsigned = np.dtype(f"u{a.dtype.itemsize}")
    magnitude = divide(magnitude_of(a), magnitude_of(np.where(zero, 1, b).astype(b.dtype)))
    signed = np.where((a < 0) != (b < 0), (~magnitude) + unsigned.type(1), magnitude).view(a.dtype)
    return np.where(zero, ~np.zeros(1, a.dtype), signed)


def remainder(a: Array, b: Array) -> Array:
    """a minus b times the truncated quotient; a where the divisor is zero."""
    return np.where(b == 0, a, a - divide(a, b) * b)


def magnitude_of(a: Array) -> Array:
    """|a| as unsigned, exact for the most negative number too."""
    unsigned = np.dtype(f"u{a.dtype.itemsize}")
    bits = a.view(unsigned)
    return np.where(a < 0, ~bits + unsigned.type(1), bits)


def add_saturated(a: Array, b: Array) -> Array:
    """s32 sum clamped to the type."""
    wide = a.astype(np.int64) + b.astype(np.int64)
    return np.clip(wide, -(1 << 31), (1 << 31) - 1).astype(np.int32)


def subtract_saturated(a: Array, b: Array) -> Array:
    """s32 difference clamped to the type."""
    wide = a.astype(np.int64) - b.astype(np.int64)
    return np.clip(wide, -(1 << 31), (1 << 31) - 1).astype(np.int32)


def mul24(a: Array, b: Array) -> Array:
    """Low 32 bits of the product of the low 24 bits, sign-extended for s32."""
    eight = a.dtype.type(8)
    product: Array = ((a << eight) >> eight) * ((b << eight) >> eight)
    return product


def sum_of_differences(a: Array, b: Array, c: Array) -> Array:
    """c + |a - b|."""
    return c + np.where(a < b, b - a, a - b)


def _carry(name: str, *, taken: bool) -> Build:
    """Forms of add, sub and mad that set (`.cc`) or take the carry flag."""

    def build(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
        unsigned = f"u{DTYPES[modifiers['t']].itemsize * 8}"
        write = lowering.write(instruction.operands[0], unsigned)
        reads = [lowering.read(operand, unsigned) for operand in instruction.operands[1:]]
        flag = lowering.slot(CARRY, np.dtype(np.bool_))
        out, high = taken is False or "out" in modifiers, modifiers.get("part") == "hi"

        def run(m: "Machine") -> None:
            a, b = reads[0](m.regs), reads[1](m.regs)
            if name == "mad":
                a, b = (multiply_high(a, b) if high else a * b), reads[2](m.regs)
            incoming = m.regs[flag] if taken else np.zeros(1, bool)
            result, carry = _with_carry(a, b, incoming, name == "sub")
            write(m, result)
            if out:
                m.regs[flag] = carry if m.everyone else np.where(m.mask, carry, m.regs[flag])

        return run

    return build


def _with_carry(a: Array, b: Array, incoming: Array, subtract: bool) -> tuple[Array, Array]:
    """a + b + carry or a - b - borrow, and the carry or borrow out."""
    more = incoming.astype(a.dtype)
    if subtract:
        return a - b - more, (a < b) | ((a == b) & incoming)
    result = a + b + more
    return result, (result < a) | ((result == a) & incoming & (b != 0))


def _dot_bytes(a: Array, b: Array, c: Array) -> Array:
    """dp4a: four byte products added to c."""
    x = a.view(np.int8 if a.dtype.kind == "i" else np.uint8).reshape(-1, 4).astype(np.int64)
    y = b.view(np.int8 if b.dtype.kind == "i" else np.uint8).reshape(-1, 4).astype(np.int64)
    total = c.astype(np.int64) + (x * y).sum(axis=1)
    low: Array = total.astype(np.uint32).view(c.dtype)
    return low


def _dot_halves(first: int) -> Function:
    """dp2a: two products of a half-word with a byte, from byte `first` on, added to c."""

    def run(a: Array, b: Array, c: Array) -> Array:
        x = a.view(np.int16 if a.dtype.kind == "i" else np.uint16).reshape(-1, 2)
        y = b.view(np.int8 if b.dtype.kind == "i" else np.uint8).reshape(-1, 4)
        products = x.astype(np.int64) * y[:, first : first + 2].astype(np.int64)
        total = c.astype(np.int64) + products.sum(axis=1)
        low: Array = total.astype(np.uint32).view(c.dtype)
        return low

    return run


def _halves(function: Function) -> Function:
    """A function of 16-bit integers on the halves of 32-bit words; signed as the words are."""

    def run(a: Array, b: Array) -> Array:
        half = np.dtype(f"{a.dtype.kind}2")
        x, y = (np.ascontiguousarray(v).view(half).reshape(-1, 2) for v in (a, b))
        return np.ascontiguousarray(function(x, y)).view(a.dtype).reshape(-1)

    return run


ROWS = (
    alu("add.u16x2", "u32 u32 u32", _halves(np.add)),
    alu("add.s16x2", "u32 u32 u32", _halves(np.add)),
    alu("sub.u16x2", "u32 u32 u32", _halves(np.subtract)),
    alu("sub.s16x2", "u32 u32 u32", _halves(np.subtract)),
    alu("min.u16x2", "u32 u32 u32", _halves(np.minimum)),
    alu("min.s16x2", "s32 s32 s32", _halves(np.minimum)),
    alu("max.u16x2", "u32 u32 u32", _halves(np.maximum)),
    alu("max.s16x2", "s32 s32 s32", _halves(np.maximum)),
    alu("add.<t:INT>", "u u u", np.add),
    alu("sub.<t:INT>", "u u u", np.subtract),
    alu("add.sat.s32", "s32 s32 s32", add_saturated),
    alu("sub.sat.s32", "s32 s32 s32", subtract_saturated),
    alu("mul.lo.<t:INT>", "u u u", np.multiply),
    alu("mul.hi.<t:INT>", "t t t", multiply_high),
    alu("mul.wide.<t:u16|s16|u32|s32>", "w t t", multiply_wide),
    alu("mul24.lo.<t:u32|s32>", "t t t", mul24),
    alu("mad.lo.<t:INT>", "u u u u", lambda a, b, c: a * b + c),
    alu("mad.hi.<t:INT>", "t t t t", lambda a, b, c: multiply_high(a, b) + c),
    alu("mad.wide.<t:u16|s16|u32|s32>", "w t t w", lambda a, b, c: multiply_wide(a, b) + c),
    alu("mad24.lo.<t:u32|s32>", "t t t t", lambda a, b, c: mul24(a, b) + c),
    alu("div.<t:INT>", "t t t", divide),
    alu("rem.<t:INT>", "t t t", remainder),
    alu("abs.<t:SINT>", "t t", np.abs),
    alu("neg.<t:SINT>", "t t", np.negative),
    alu("min.<t:INT>", "t t t", np.minimum),
    alu("max.<t:INT>", "t t t", np.maximum),
    alu("min.relu.s32", "s32 s32 s32", lambda a, b: np.maximum(np.minimum(a, b), 0)),
    alu("max.relu.s32", "s32 s32 s32", lambda a, b: np.maximum(np.maximum(a, b), 0)),
    alu("sad.<t:INT>", "t t t u", sum_of_differences),
    alu("dp4a.<t:u32|s32>.<v:u32|s32>", "t t v t", _dot_bytes),
    alu("dp2a.lo.<t:u32|s32>.<v:u32|s32>", "t t v t", _dot_halves(0)),
    alu("dp2a.hi.<t:u32|s32>.<v:u32|s32>", "t t v t", _dot_halves(2)),
    row("add.cc.<t:INT>", _carry("add", taken=False), family="add.cc"),
    row("sub.cc.<t:INT>", _carry("sub", taken=False), family="add.cc"),
    row("addc[.<out:cc>].<t:INT>", _carry("add", taken=True), family="add.cc"),
    row("subc[.<out:cc>].<t:INT>", _carry("sub", taken=True), family="add.cc"),
    row("mad.<part:lo|hi>.cc.<t:INT>", _carry("mad", taken=False), family="mad.cc"),
    row("madc.<part:lo|hi>[.<out:cc>].<t:INT>", _carry("mad", taken=True), family="mad.cc"),
)
