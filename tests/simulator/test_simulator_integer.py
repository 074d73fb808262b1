"""Integer and bit instructions against exact Python arithmetic, in both register habits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator_oracles import signed, unsigned
from simulator_toolchain import HEADER, evaluate, launch_ptx, width, written

LANES = 32
EDGES = [0, 1, 2, 31, 32, 33, 63, 64, 127, 128, 255, 0x7FFF, 0x8000, 0xFFFF]
EDGES += [2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]


def truncated(a, b):
    return abs(a) // abs(b) * (-1 if (a < 0) != (b < 0) else 1)


def quotient(a, b):
    return truncated(a, b) if b else -1


def remainder(a, b):
    return a - truncated(a, b) * b if b else a


def shift_left(width_):
    return lambda a, n: a << n if n < width_ else 0


def shift_right(a, n):
    return a >> n


def bfe(width_, is_signed):
    def extract(a, position, length):
        position, length = position & 255, length & 255
        bits = unsigned(a, width_)
        sign = (
            0
            if not is_signed or length == 0
            else bits >> min(position + length - 1, width_ - 1) & 1
        )
        result = 0
        for i in range(width_):
            inside = i < length and position + i < width_
            result |= (bits >> (position + i) & 1 if inside else sign) << i
        return result

    return extract


def bfi(width_):
    def insert(a, b, position, length):
        position, length = position & 255, length & 255
        result = b
        for i in range(length):
            if position + i < width_:
                bit = a >> i & 1 if i < width_ else 0
                result = result & ~(1 << (position + i)) | bit << (position + i)
        return result

    return insert


def prmt(a, b, selector):
    data = (b << 32 | a).to_bytes(8, "little")
    result = 0
    for i in range(4):
        nibble = selector >> 4 * i & 15
        byte = data[nibble & 7]
        result |= (byte if nibble < 8 else 255 * (byte >> 7)) << 8 * i
    return result


def lop3(table):
    def look_up(a, b, c):
        index = [(a >> i & 1) << 2 | (b >> i & 1) << 1 | c >> i & 1 for i in range(32)]
        return sum((table >> index[i] & 1) << i for i in range(32))

    return look_up


def bfind(bits):
    def find(a):
        value = ~a if a < 0 else a
        return value.bit_length() - 1 if value else -1

    return find


def bfind_shift(bits):
    return lambda a: bits - 1 - bfind(bits)(a) if bfind(bits)(a) >= 0 else -1


def reverse(bits):
    return lambda a: int(f"{a:0{bits}b}"[::-1], 2)


def dp4a(a, b, c):
    x, y = (unsigned(word, 32).to_bytes(4, "little") for word in (a, b))
    return c + sum(signed(x[i], 8) * signed(y[i], 8) for i in range(4))


def dp2a(first, is_signed):
    number = signed if is_signed else unsigned

    def dot(a, b, c):
        x = [number(unsigned(a, 32) >> 16 * i & 0xFFFF, 16) for i in range(2)]
        y = [number(unsigned(b, 32) >> 8 * (first + i) & 0xFF, 8) for i in range(2)]
        return c + x[0] * y[0] + x[1] * y[1]

    return dot


def halves(function, is_signed):
    def apply(a, b):
        result = 0
        for shift in (0, 16):
            x, y = a >> shift & 0xFFFF, b >> shift & 0xFFFF
            if is_signed:
                x, y = signed(x, 16), signed(y, 16)
            result |= unsigned(function(x, y), 16) << shift
        return result

    return apply


def mul24(a, b):
    return signed(a, 24) * signed(b, 24)


# opcode with operands, types of d a b c, meaning on Python integers of those types
ROWS = [
    ("add.s32", "s32 s32 s32", lambda a, b: a + b),
    ("add.u16", "u16 u16 u16", lambda a, b: a + b),
    ("add.s64", "s64 s64 s64", lambda a, b: a + b),
    ("add.sat.s32", "s32 s32 s32", lambda a, b: max(min(a + b, 2**31 - 1), -(2**31))),
    ("sub.u32", "u32 u32 u32", lambda a, b: a - b),
    ("sub.s64", "s64 s64 s64", lambda a, b: a - b),
    ("mul.lo.s32", "s32 s32 s32", lambda a, b: a * b),
    ("mul.lo.u64", "u64 u64 u64", lambda a, b: a * b),
    ("mul.hi.s32", "s32 s32 s32", lambda a, b: a * b >> 32),
    ("mul.hi.u32", "u32 u32 u32", lambda a, b: a * b >> 32),
    ("mul.hi.s64", "s64 s64 s64", lambda a, b: a * b >> 64),
    ("mul.hi.u64", "u64 u64 u64", lambda a, b: a * b >> 64),
    ("mul.wide.s32", "s64 s32 s32", lambda a, b: a * b),
    ("mul.wide.u16", "u32 u16 u16", lambda a, b: a * b),
    ("mul24.lo.s32", "s32 s32 s32", mul24),
    ("mad.lo.s32", "s32 s32 s32 s32", lambda a, b, c: a * b + c),
    ("mad.hi.u32", "u32 u32 u32 u32", lambda a, b, c: (a * b >> 32) + c),
    ("mad.wide.s32", "s64 s32 s32 s64", lambda a, b, c: a * b + c),
    ("mad.wide.u16", "u32 u16 u16 u32", lambda a, b, c: a * b + c),
    ("div.s32", "s32 s32 s32", quotient),
    ("div.u32", "u32 u32 u32", quotient),
    ("div.s64", "s64 s64 s64", quotient),
    ("div.u64", "u64 u64 u64", quotient),
    ("rem.s32", "s32 s32 s32", remainder),
    ("rem.u64", "u64 u64 u64", remainder),
    ("abs.s32", "s32 s32", abs),
    ("neg.s64", "s64 s64", lambda a: -a),
    ("min.s32", "s32 s32 s32", min),
    ("max.u64", "u64 u64 u64", max),
    ("sad.s32", "u32 s32 s32 u32", lambda a, b, c: abs(a - b) + c),
    ("dp4a.s32.s32", "s32 s32 s32 s32", dp4a),
    ("dp2a.lo.u32.u32", "u32 u32 u32 u32", dp2a(0, False)),
    ("dp2a.hi.u32.u32", "u32 u32 u32 u32", dp2a(2, False)),
    ("dp2a.lo.s32.s32", "s32 s32 s32 s32", dp2a(0, True)),
    ("dp2a.hi.s32.s32", "s32 s32 s32 s32", dp2a(2, True)),
    ("add.u16x2", "u32 u32 u32", halves(lambda a, b: a + b, False)),
    ("min.u16x2", "u32 u32 u32", halves(min, False)),
    ("max.s16x2", "u32 u32 u32", halves(max, True)),
    ("and.b32", "u32 u32 u32", lambda a, b: a & b),
    ("or.b64", "u64 u64 u64", lambda a, b: a | b),
    ("xor.b16", "u16 u16 u16", lambda a, b: a ^ b),
    ("not.b32", "u32 u32", lambda a: ~a),
    ("cnot.b32", "u32 u32", lambda a: int(a == 0)),
    ("shl.b32", "u32 u32 u32", shift_left(32)),
    ("shl.b64", "u64 u64 u32", shift_left(64)),
    ("shr.u32", "u32 u32 u32", shift_right),
    ("shr.s32", "s32 s32 u32", shift_right),
    ("shr.s64", "s64 s64 u32", shift_right),
    ("shr.u16", "u16 u16 u32", shift_right),
    ("shf.l.wrap.b32", "u32 u32 u32 u32", lambda a, b, c: (b << 32 | a) << (c & 31) >> 32),
    ("shf.l.clamp.b32", "u32 u32 u32 u32", lambda a, b, c: (b << 32 | a) << min(c, 32) >> 32),
    ("shf.r.wrap.b32", "u32 u32 u32 u32", lambda a, b, c: (b << 32 | a) >> (c & 31)),
    ("shf.r.clamp.b32", "u32 u32 u32 u32", lambda a, b, c: (b << 32 | a) >> min(c, 32)),
    ("popc.b32", "u32 u32", lambda a: bin(a).count("1")),
    ("popc.b64", "u32 u64", lambda a: bin(a).count("1")),
    ("clz.b32", "u32 u32", lambda a: 32 - a.bit_length()),
    ("clz.b64", "u32 u64", lambda a: 64 - a.bit_length()),
    ("bfind.u32", "u32 u32", bfind(32)),
    ("bfind.s64", "u32 s64", bfind(64)),
    ("bfind.shiftamt.u32", "u32 u32", bfind_shift(32)),
    ("bfind.shiftamt.s32", "u32 s32", bfind_shift(32)),
    ("brev.b32", "u32 u32", reverse(32)),
    ("brev.b64", "u64 u64", reverse(64)),
    ("bfe.u32", "u32 u32 u32 u32", bfe(32, False)),
    ("bfe.s32", "s32 s32 u32 u32", bfe(32, True)),
    ("bfe.s64", "s64 s64 u32 u32", bfe(64, True)),
    ("prmt.b32", "u32 u32 u32 u32", prmt),
    ("selp.b32", "u32 u32 u32 pred", lambda a, b, c: a if c else b),
    ("slct.u32.s32", "u32 u32 u32 s32", lambda a, b, c: a if c >= 0 else b),
    ("setp.lt.s32", "pred s32 s32", lambda a, b: a < b),
    ("setp.hi.u32", "pred u32 u32", lambda a, b: a > b),
    ("setp.ne.b64", "pred u64 u64", lambda a, b: a != b),
    ("setp.ge.and.s64", "pred s64 s64 pred", lambda a, b, c: a >= b and c),
    ("setp.le.xor.u32", "pred u32 u32 pred", lambda a, b, c: (a <= b) != bool(c)),
    ("set.eq.u32.s32", "u32 s32 s32", lambda a, b: -(a == b)),
    ("cvt.u32.u16", "u32 u16", lambda a: a),
    ("cvt.s64.s32", "s64 s32", lambda a: a),
    ("cvt.u16.u32", "u16 u32", lambda a: a),
    ("cvt.s32.s8", "s32 s32", lambda a: signed(a, 8)),
    ("cvt.sat.s16.s32", "s16 s32", lambda a: max(min(a, 2**15 - 1), -(2**15))),
    ("cvt.sat.u32.s32", "u32 s32", lambda a: max(a, 0)),
    ("cvt.sat.s32.u64", "s32 u64", lambda a: min(a, 2**31 - 1)),
]


def operands(type_, draw_words):
    """LANES words of a type, as the memory holds them, and as Python numbers."""
    if type_ == "pred":
        words = [word & 1 for word in draw_words]
        return np.array(words, np.uint8), words
    bits = 8 * width(type_)
    words = [unsigned(word, bits) for word in draw_words]
    numbers = [signed(word, bits) for word in words] if type_[0] == "s" else words
    return np.array(words, f"u{bits // 8}"), numbers


words = st.one_of(
    st.sampled_from(EDGES), st.integers(0, 2**64 - 1), st.integers(0, 70), st.integers(0, 2**32)
)
columns = st.lists(words, min_size=LANES, max_size=LANES)


@pytest.mark.parametrize(("opcode", "types", "meaning"), ROWS, ids=[row[0] for row in ROWS])
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_integer_instruction_equals_its_arithmetic(opcode, types, meaning, data):
    sources = types.split()[1:]
    drawn = [operands(type_, data.draw(columns)) for type_ in sources]
    line = f"{opcode} %d, {', '.join('%' + name for name in 'abc'[: len(sources)])};"
    out = evaluate(line, types, *[words for words, _ in drawn])
    bits = 8 * out.itemsize
    numbers = zip(*[numbers for _, numbers in drawn], strict=True)
    expected = [unsigned(int(meaning(*row)), bits) for row in numbers]
    assert out.tolist() == expected


@pytest.mark.parametrize("table", [0x96, 0xE8, 0x80, 0xCA, 0x00, 0xFF, 0x1D])
@settings(max_examples=5, deadline=None)
@given(a=columns, b=columns, c=columns)
def test_lop3_looks_up_its_truth_table(table, a, b, c):
    sources = [operands("u32", column)[0] for column in (a, b, c)]
    out = evaluate(f"lop3.b32 %d, %a, %b, %c, {table};", "u32 u32 u32 u32", *sources)
    rows = zip(*[source.tolist() for source in sources], strict=True)
    assert out.tolist() == [lop3(table)(*row) for row in rows]


@pytest.mark.parametrize(("opcode", "bits"), [("bfi.b32", 32), ("bfi.b64", 64)])
@settings(max_examples=8, deadline=None)
@given(a=columns, b=columns, position=st.integers(0, 80), length=st.integers(0, 80))
def test_bit_field_insert(opcode, bits, a, b, position, length):
    one, two = (operands(f"u{bits}", column)[0] for column in (a, b))
    out = evaluate(
        f"{opcode} %d, %a, %b, {position}, {length};", f"u{bits} u{bits} u{bits}", one, two
    )
    rows = zip(one.tolist(), two.tolist(), strict=True)
    assert out.tolist() == [bfi(bits)(x, y, position, length) for x, y in rows]


@settings(max_examples=10, deadline=None)
@given(a=columns, b=columns)
def test_carry_chain_adds_and_subtracts_128_bits(a, b):
    lines = (
        "{ .reg .b32 %x<4>, %y<4>;\n"
        "mov.b64 {%x0, %x1}, %a; mov.b64 {%y0, %y1}, %b;\n"
        "add.cc.u32 %x2, %x0, %y0; addc.u32 %x3, %x1, %y1;\n"
        "sub.cc.u32 %x2, %x2, %y1; subc.u32 %x3, %x3, %y0;\n"
        "mov.b64 %d, {%x2, %x3}; }"
    )
    one, two = (operands("u64", column)[0] for column in (a, b))
    out = evaluate(lines, "u64 u64 u64", one, two)
    swapped = [(y >> 32) | (y & 0xFFFFFFFF) << 32 for y in two.tolist()]
    rows = zip(one.tolist(), two.tolist(), swapped, strict=True)
    assert out.tolist() == [unsigned(x + y - z, 64) for x, y, z in rows]


def test_guarded_instruction_leaves_the_other_lanes_alone():
    text = HEADER.format(target="sm_80") + (
        ".visible .entry k(.param .u64 k_0) {\n"
        ".reg .b32 %r<4>; .reg .b64 %rd<2>; .reg .pred %p<3>;\n"
        "mov.u32 %r0, %tid.x; ld.param.u64 %rd0, [k_0]; mad.wide.u32 %rd0, %r0, 4, %rd0;\n"
        "setp.lt.u32 %p0|%p1, %r0, 10; mov.u32 %r1, 7;\n"
        "@%p0 mov.u32 %r1, 1; @!%p0 add.u32 %r1, %r1, %r0; @%p1 add.u32 %r1, %r1, 100;\n"
        "st.global.u32 [%rd0], %r1; ret; }"
    )
    out = np.zeros(40, np.uint32)
    launch_ptx(text, "k", written(out), threads=40)
    lane = np.arange(40)
    assert (out == np.where(lane < 10, 1, 107 + lane)).all()
