"""Bit rows: logic, shifts, fields, permutation (PTX ISA, "Logic and Shift Instructions" and the
bit parts of "Integer Arithmetic Instructions").

Shift amounts clamp at the width, as PTX says; numpy leaves them undefined.
"""

from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.program import Immediate, Instruction
from samoyeds_gen.simulator.rows import Modifiers, Step, alu, apply, row
from samoyeds_gen.simulator.scalars import Array, DType

if TYPE_CHECKING:
    from samoyeds_gen.simulator.lowering import Lowering


def shift_left(a: Array, amount: Array) -> Array:
    """Left shift; 0 when the amount reaches the width."""
    width = 8 * a.dtype.itemsize
    moved: Array = a << np.minimum(amount, width - 1).astype(a.dtype)
    return _clear_beyond(moved, amount, width)


def _clear_beyond(moved: Array, amount: Array, width: int) -> Array:
    if int(amount.max()) < width:
        return moved
    return np.where(amount < width, moved, moved.dtype.type(0))


def shift_right(a: Array, amount: Array) -> Array:
    """Right shift, arithmetic for signed types; fills when the amount reaches the width."""
    width = 8 * a.dtype.itemsize
    moved: Array = a >> np.minimum(amount, width - 1).astype(a.dtype)
    return moved if a.dtype.kind == "i" else _clear_beyond(moved, amount, width)


def funnel_left(low: Array, high: Array, amount: Array) -> Array:
    """Upper word of high:low shifted left by 0 to 32."""
    wide = (high.astype(np.uint64) << np.uint64(32)) | low
    return ((wide << amount.astype(np.uint64)) >> np.uint64(32)).astype(np.uint32)


def funnel_right(low: Array, high: Array, amount: Array) -> Array:
    """Lower word of high:low shifted right by 0 to 32."""
    wide = (high.astype(np.uint64) << np.uint64(32)) | low
    return (wide >> amount.astype(np.uint64)).astype(np.uint32)


def clamped(amount: Array) -> Array:
    """Funnel shift amounts of the clamp form."""
    return np.minimum(amount, 32)


def wrapped(amount: Array) -> Array:
    """Funnel shift amounts of the wrap form."""
    return amount & 31


_ONES = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


def population(a: Array) -> Array:
    """Number of one bits, as u32."""
    bytes_ = _ONES[np.ascontiguousarray(a).view(np.uint8)]
    ones: Array = bytes_.reshape(len(a), -1).sum(axis=1, dtype=np.uint32)
    return ones


def leading_zeros(a: Array) -> Array:
    """Number of zero bits above the highest one, as u32; the width for zero."""
    return np.uint32(8 * a.dtype.itemsize) - _length(a)


def _length(a: Array) -> Array:
    """Position of the highest one plus 1, as u32."""
    smear = a
    shift = 1
    while shift < 8 * a.dtype.itemsize:
        smear = smear | (smear >> a.dtype.type(shift))
        shift *= 2
    return population(smear)


def find_high(a: Array) -> Array:
    """Position of the highest non-sign bit, 0xffffffff if there is none."""
    bits = a
    if a.dtype.kind == "i":
        bits = np.where(a < 0, ~a, a).view(f"u{a.dtype.itemsize}")
    return _length(bits) - np.uint32(1)


def find_high_shift(a: Array) -> Array:
    """The left shift that brings that bit to the top, 0xffffffff if there is none."""
    position = find_high(a)
    top = np.uint32(8 * a.dtype.itemsize - 1)
    return np.where(position == 0xFFFFFFFF, position, top - position)


def reverse(a: Array) -> Array:
    """Bits in the opposite order."""
    width, unit = 8 * a.dtype.itemsize, a.dtype.type
    shift, mask = width // 2, (1 << width) - 1
    while shift:
        mask ^= (mask << shift) & ((1 << width) - 1)
        low = unit(mask)
        a = ((a >> unit(shift)) & low) | ((a & low) << unit(shift))
        shift //= 2
    return a


def extract(a: Array, position: Array, length: Array) -> Array:
    """bfe: `length` bits from `position`, zero- or sign-extended."""
    width = 8 * a.dtype.itemsize
    at = position & 0xFF
    count = np.minimum(length & 0xFF, width)
    bits = a.view(f"u{a.dtype.itemsize}")
    field = shift_right(bits, at) & low_mask(count, bits.dtype)
    if a.dtype.kind == "u":
        return field
    end = np.minimum(at + np.maximum(count, 1) - 1, width - 1)
    sign = (shift_right(bits, end) & bits.dtype.type(1)) != 0
    sign &= count != 0
    # Bits past the top of `a` are copies of its sign.
    have = np.minimum(count, np.maximum(width - at.astype(np.int64), 0).astype(np.uint32))
    return np.where(sign, field | ~low_mask(have, bits.dtype), field).view(a.dtype)


def low_mask(count: Array, dtype: DType) -> Array:
    """`count` low ones, 0 to the width."""
    ones = ~np.zeros(1, dtype)
    return ~shift_left(ones, count)


def insert(value: Array, into: Array, position: Array, length: Array) -> Array:
    """bfi: the low `length` bits of `value` at `position` of `into`."""
    at, count = position & 0xFF, length & 0xFF
    mask = shift_left(low_mask(np.minimum(count, 8 * into.dtype.itemsize), into.dtype), at)
    return (into & ~mask) | (shift_left(value, at) & mask)


def mask_of(position: Array, length: Array) -> Array:
    """bmsk: `length` ones from `position`, both clamped."""
    return shift_left(low_mask(np.minimum(length, 32), np.dtype(np.uint32)), position)


def permute(a: Array, b: Array, selector: Array) -> Array:
    """prmt without a mode: four bytes of b:a, each picked by a nibble, its top bit replicates."""
    wide = (b.astype(np.uint64) << np.uint64(32)) | a
    result = np.zeros(1, np.uint32)
    for place in range(4):
        nibble = (selector >> np.uint32(4 * place)) & np.uint32(15)
        shift = ((nibble & np.uint32(7)) << np.uint32(3)).astype(np.uint64)
        byte = ((wide >> shift) & np.uint64(0xFF)).astype(np.uint32)
        if (nibble > 7).any():
            sign = np.where(byte > 127, np.uint32(255), np.uint32(0))
            byte = np.where(nibble > 7, sign, byte)
        result = result | (byte << np.uint32(8 * place))
    return result


# prmt's named modes as selectors, by the low two bits of the third operand.
_MODES = {
    "f4e": (0x3210, 0x4321, 0x5432, 0x6543),
    "b4e": (0x5670, 0x6701, 0x7012, 0x0123),
    "rc8": (0x0000, 0x1111, 0x2222, 0x3333),
    "ecl": (0x3210, 0x3211, 0x3222, 0x3333),
    "ecr": (0x0000, 0x1110, 0x2210, 0x3210),
    "rc16": (0x1010, 0x3232, 0x1010, 0x3232),
}


def _permute_mode(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    table = np.array(_MODES[modifiers["mode"]], np.uint32)
    reads = [lowering.read(operand, "u32") for operand in instruction.operands[1:]]
    write = lowering.write(instruction.operands[0], "u32")
    return apply(lambda a, b, c: permute(a, b, table[c & 3]), write, reads)


def _lop3(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    """Any function of three bits, its truth table the last operand."""
    *sources, table = instruction.operands[1:]
    if not isinstance(table, Immediate):
        raise lowering.refuse(instruction, "takes an immediate truth table")
    terms = [minterm for minterm in range(8) if table.value >> minterm & 1]

    def function(a: Array, b: Array, c: Array) -> Array:
        result = np.zeros(1, np.uint32)
        for minterm in terms:
            x = a if minterm & 4 else ~a
            y = b if minterm & 2 else ~b
            z = c if minterm & 1 else ~c
            result = result | (x & y & z)
        return result

    reads = [lowering.read(operand, "u32") for operand in sources]
    return apply(function, lowering.write(instruction.operands[0], "u32"), reads)


ROWS = (
    alu("and.<t:BITS|pred>", "t t t", np.bitwise_and),
    alu("or.<t:BITS|pred>", "t t t", np.bitwise_or),
    alu("xor.<t:BITS|pred>", "t t t", np.bitwise_xor),
    alu("not.<t:BITS|pred>", "t t", np.invert),
    alu("cnot.<t:BITS>", "t t", lambda a: (a == 0).astype(a.dtype)),
    alu("shl.<t:BITS>", "t t u32", shift_left),
    alu("shr.<t:BITS|INT>", "t t u32", shift_right),
    alu("shf.l.clamp.b32", "u32 u32 u32 u32", lambda a, b, c: funnel_left(a, b, clamped(c))),
    alu("shf.l.wrap.b32", "u32 u32 u32 u32", lambda a, b, c: funnel_left(a, b, wrapped(c))),
    alu("shf.r.clamp.b32", "u32 u32 u32 u32", lambda a, b, c: funnel_right(a, b, clamped(c))),
    alu("shf.r.wrap.b32", "u32 u32 u32 u32", lambda a, b, c: funnel_right(a, b, wrapped(c))),
    alu("popc.<t:b32|b64>", "u32 t", population),
    alu("clz.<t:b32|b64>", "u32 t", leading_zeros),
    alu("bfind.<t:INT>", "u32 t", find_high),
    alu("bfind.shiftamt.<t:INT>", "u32 t", find_high_shift),
    alu("brev.<t:b32|b64>", "t t", reverse),
    alu("bfe.<t:u32|u64|s32|s64>", "t t u32 u32", extract),
    alu("bfi.<t:b32|b64>", "t t t u32 u32", insert),
    alu("bmsk.clamp.b32", "u32 u32 u32", mask_of),
    alu("prmt.b32", "u32 u32 u32 u32", permute),
    row("prmt.b32.<mode:f4e|b4e|rc8|ecl|ecr|rc16>", _permute_mode),
    row("lop3.b32", _lop3),
)
