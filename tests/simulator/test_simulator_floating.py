"""Floating-point instructions and conversions against exact fractions, rounded bit by bit."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator_oracles import encode, signed, unsigned, value_of
from simulator_toolchain import evaluate, width

LANES = 32
BITS = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64}
EDGES = {
    "f16": [0x0000, 0x8000, 0x3C00, 0x7C00, 0xFC00, 0x7E00, 0x0001, 0x7BFF, 0x0400],
    "bf16": [0x0000, 0x8000, 0x3F80, 0x7F80, 0xFF80, 0x7FC0, 0x0001, 0x7F7F, 0x0080],
    "f32": [
        *[0x00000000, 0x80000000, 0x3F800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x1, 0x7F7FFFFF],
        *[0x00800000, 0x3F800001, 0x4B000001, 0x3F808000, 0x3F818000, 0x477FF000, 0x4F000000],
    ],
    "f64": [0, 1 << 63, 0x3FF << 52, 0x7FF << 52, 0x3FF0000010000000, 0x3FF0000030000000],
}


def words(kind):
    near_one = st.integers(0, 2 ** (BITS[kind] - 6)).map(
        lambda low: (encode(1.0, kind) & ~0xFF) ^ low if kind != "f64" else low
    )
    whole = st.integers(0, 2 ** BITS[kind] - 1)
    small = st.integers(-40, 40).map(lambda value: encode(float(value), kind))
    return st.one_of(st.sampled_from(EDGES[kind]), whole, near_one, small)


def column(kind):
    return st.lists(words(kind), min_size=LANES, max_size=LANES)


def exact(function):
    """Apply to fractions where all operands are finite, else to Python floats."""

    def apply(*values):
        if all(math.isfinite(value) for value in values):
            return function(*map(Fraction, values))
        return function(*values)

    return apply


def zero_sign(name, values, mode):
    """Whether an exact zero result is negative (IEEE 754, 6.3)."""
    signs = [math.copysign(1, value) < 0 for value in values]
    if name == "mul":
        return signs[0] != signs[1]
    terms = [signs[0], signs[1]]
    if name == "sub":
        terms[1] = not terms[1]
    if name == "fma":
        terms = [signs[0] != signs[1], signs[2]]
    return terms[0] if terms[0] == terms[1] else mode == "rm"


def same(got, expected, kind):
    """Equal words, or both NaN."""
    for position, (one, two) in enumerate(zip(got, expected, strict=True)):
        if math.isnan(value_of(two, kind)):
            assert math.isnan(value_of(one, kind)), position
        else:
            assert one == two, (position, hex(one), hex(two))


OPERATIONS = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "fma": lambda a, b, c: a * b + c,
}


def python_result(name, values, mode, kind):
    try:
        result = exact(OPERATIONS[name])(*values)
    except OverflowError:
        return None
    if isinstance(result, Fraction) and result == 0:
        exact_zero_product = name == "fma" and (values[0] == 0 or values[1] == 0)
        negative = zero_sign(name, values, mode)
        if name == "fma" and not exact_zero_product and values[2] != 0:
            negative = mode == "rm"
        return encode(Fraction(0), kind, mode, negative_zero=negative)
    return encode(result, kind, mode)


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("name", ["add", "sub", "mul", "fma"])
@settings(max_examples=12, deadline=None)
@given(data=st.data(), floats=st.booleans())
def test_f32_arithmetic_is_rounded_once(name, mode, data, floats):
    count = 3 if name == "fma" else 2
    sources = [data.draw(column("f32")) for _ in range(count)]
    types = " ".join(["f32"] * (count + 1))
    line = f"{name}.{mode}.f32 %d, {', '.join(['%a', '%b', '%c'][:count])};"
    out = evaluate(line, types, *[np.array(s, np.uint32) for s in sources], floats=floats)
    expected = [
        python_result(name, [value_of(word, "f32") for word in row], mode, "f32")
        for row in zip(*sources, strict=True)
    ]
    same(out.tolist(), expected, "f32")


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_packed_f32_is_two_f32(data):
    drawn = [data.draw(column("f32")) for _ in range(3)]
    arrays = [np.array(words, np.uint32) for words in drawn]
    single = evaluate("fma.rn.f32 %d, %a, %b, %c;", "f32 f32 f32 f32", *arrays)
    packed = [array.view(np.uint64) for array in arrays]
    out = evaluate("fma.rn.f32x2 %d, %a, %b, %c;", "b64 b64 b64 b64", *packed)
    same(out.view(np.uint32).tolist(), single.tolist(), "f32")


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@settings(max_examples=10, deadline=None)
@given(drawn=column("f32"))
def test_square_roots_are_rounded_once(mode, drawn):
    out = evaluate(f"sqrt.{mode}.f32 %d, %a;", "f32 f32", np.array(drawn, np.uint32))
    for got, word in zip(out.tolist(), drawn, strict=True):
        value = value_of(word, "f32")
        if not value > 0 or math.isinf(value):
            continue
        # The root to 80 bits, with a sticky bit, rounds like the root itself.
        scaled = Fraction(value) * Fraction(4) ** 160
        root = math.isqrt(scaled.numerator // scaled.denominator)
        exact_root = Fraction(2 * root + (root * root != scaled)) / 2 / Fraction(2) ** 160
        assert got == encode(exact_root, "f32", mode)


def test_fma_beats_double_rounding():
    # 1 + 2^-23 + 2^-24 exactly half way in float32, plus a term far below float64's last bit.
    a = np.array([encode(1 + 2.0**-23, "f32")] * 2, np.uint32)
    b = np.array([encode(1.0, "f32")] * 2, np.uint32)
    c = np.array([encode(2.0**-24 + 2.0**-47, "f32"), encode(2.0**-24, "f32")], np.uint32)
    out = evaluate("fma.rn.f32 %d, %a, %b, %c;", "f32 f32 f32 f32", a, b, c)
    assert out.tolist() == [
        encode(Fraction(1) + Fraction(2) ** -23 + Fraction(2) ** -24 + Fraction(2) ** -47, "f32"),
        encode(Fraction(1) + Fraction(2) ** -23 + Fraction(2) ** -24, "f32"),
    ]
    tiny = np.array([encode(2.0**-60, "f32")], np.uint32)
    big = np.array([encode(1 + 2.0**-12, "f32")], np.uint32)
    square = Fraction(value_of(int(big[0]), "f32")) ** 2
    out = evaluate("fma.rn.f32 %d, %a, %b, %c;", "f32 f32 f32 f32", big, big, tiny)
    assert out.tolist() == [encode(square + Fraction(2) ** -60, "f32")]


@settings(max_examples=15, deadline=None)
@given(a=column("f32"), b=column("f32"))
def test_f32_division_is_correctly_rounded(a, b):
    out = evaluate(
        "div.rn.f32 %d, %a, %b;", "f32 f32 f32", np.array(a, np.uint32), np.array(b, np.uint32)
    )
    for got, x, y in zip(out.tolist(), a, b, strict=True):
        one, two = value_of(x, "f32"), value_of(y, "f32")
        if not (math.isfinite(one) and math.isfinite(two)) or one == 0 or two == 0:
            continue
        expected = encode(Fraction(one) / Fraction(two), "f32")
        # A quotient that is subnormal may be rounded twice.
        assert got == expected or (expected & 0x7F800000 == 0 and abs(got - expected) <= 1)


@pytest.mark.parametrize("flavour", ["f16", "bf16", "f16x2", "bf16x2"])
@pytest.mark.parametrize("name", ["add", "sub", "mul", "fma"])
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_half_precision_arithmetic_is_rounded_once(name, flavour, data):
    kind = flavour.removesuffix("x2")
    count, lanes = (3 if name == "fma" else 2), (2 if flavour.endswith("x2") else 1)
    sources = [data.draw(column(kind)) for _ in range(count)]
    line = f"{name}.rn.{flavour} %d, {', '.join(['%a', '%b', '%c'][:count])};"
    arrays = [np.array(s, np.uint16).view(f"u{2 * lanes}") for s in sources]
    out = evaluate(line, " ".join([flavour] * (count + 1)), *arrays).view(np.uint16)
    expected = [
        python_result(name, [value_of(word, kind) for word in row], "rn", kind)
        for row in zip(*sources, strict=True)
    ]
    same(out.tolist(), expected, kind)


@pytest.mark.parametrize("mode", ["rn", "rz"])
@pytest.mark.parametrize("kind", ["f16", "bf16"])
@settings(max_examples=15, deadline=None)
@given(a=column("f32"), b=column("f32"))
def test_narrowing_rounds_each_number_and_packs_the_first_high(kind, mode, a, b):
    one, two = np.array(a, np.uint32), np.array(b, np.uint32)
    out = evaluate(f"cvt.{mode}.{kind}x2.f32 %d, %a, %b;", f"{kind}x2 f32 f32", one, two)
    single = evaluate(f"cvt.{mode}.{kind}.f32 %d, %a;", f"{kind} f32", one)
    high = [encode(value_of(word, "f32"), kind, mode) for word in a]
    low = [encode(value_of(word, "f32"), kind, mode) for word in b]
    same((out >> 16).tolist(), high, kind)
    same((out & 0xFFFF).tolist(), low, kind)
    same(single.tolist(), high, kind)


@pytest.mark.parametrize(
    ("target", "source"), [("f32", "f16"), ("f32", "bf16"), ("f64", "f32"), ("f32", "f64")]
)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_float_to_float(target, source, data):
    drawn = data.draw(column(source))
    array = np.array(drawn, f"u{BITS[source] // 8}")
    rounding = ".rn" if (target, source) == ("f32", "f64") else ""
    out = evaluate(f"cvt{rounding}.{target}.{source} %d, %a;", f"{target} {source}", array)
    same(out.tolist(), [encode(value_of(w, source), target) for w in drawn], target)


@pytest.mark.parametrize("integer", ["s32", "u32", "s64", "u64", "s16", "u8"])
@pytest.mark.parametrize("mode", ["rni", "rzi", "rmi", "rpi"])
@settings(max_examples=8, deadline=None)
@given(drawn=column("f32"))
def test_float_to_integer_saturates(integer, mode, drawn):
    bits = int(integer[1:])
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if integer[0] == "s" else (0, 2**bits - 1)
    whole = {"rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil}[mode]
    container = integer if bits > 8 else "u16"
    out = evaluate(
        f"cvt.{mode}.{integer}.f32 %d, %a;", f"{container} f32", np.array(drawn, np.uint32)
    )
    for got, word in zip(out.tolist(), drawn, strict=True):
        value = value_of(word, "f32")
        if math.isnan(value):
            assert got == 0
            continue
        limited = high if value == math.inf else low if value == -math.inf else whole(value)
        assert got == unsigned(max(low, min(high, limited)), 8 * width(container))


@pytest.mark.parametrize("integer", ["s32", "u32", "s64", "u64"])
@settings(max_examples=10, deadline=None)
@given(drawn=st.lists(st.integers(0, 2**64 - 1), min_size=LANES, max_size=LANES))
def test_integer_to_float_rounds_to_nearest_even(integer, drawn):
    bits = int(integer[1:])
    array = np.array([unsigned(word, bits) for word in drawn], f"u{bits // 8}")
    out = evaluate(f"cvt.rn.f32.{integer} %d, %a;", f"f32 {integer}", array)
    numbers = [signed(word, bits) if integer[0] == "s" else word for word in array.tolist()]
    assert out.tolist() == [encode(Fraction(number), "f32") for number in numbers]


COMPARISONS = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b and not (math.isnan(a) or math.isnan(b)),
    "lt": lambda a, b: a < b,
    "ge": lambda a, b: a >= b,
    "neu": lambda a, b: a != b,
    "ltu": lambda a, b: not a >= b,
    "gtu": lambda a, b: not a <= b,
    "equ": lambda a, b: a == b or math.isnan(a) or math.isnan(b),
    "num": lambda a, b: not (math.isnan(a) or math.isnan(b)),
    "nan": lambda a, b: math.isnan(a) or math.isnan(b),
}


@pytest.mark.parametrize("name", COMPARISONS)
@settings(max_examples=6, deadline=None)
@given(a=column("f32"), b=column("f32"), floats=st.booleans())
def test_comparisons_with_nan(name, a, b, floats):
    out = evaluate(
        f"setp.{name}.f32 %d, %a, %b;",
        "pred f32 f32",
        np.array(a, np.uint32),
        np.array(b, np.uint32),
        floats=floats,
    )
    rows = zip(a, b, strict=True)
    expected = [COMPARISONS[name](value_of(x, "f32"), value_of(y, "f32")) for x, y in rows]
    assert out.tolist() == expected


@pytest.mark.parametrize(("name", "pick"), [("min", min), ("max", max)])
@settings(max_examples=10, deadline=None)
@given(a=column("f32"), b=column("f32"))
def test_minimum_and_maximum_prefer_numbers_and_order_zeros(name, pick, a, b):
    one, two = np.array(a, np.uint32), np.array(b, np.uint32)
    out = evaluate(f"{name}.f32 %d, %a, %b;", "f32 f32 f32", one, two)
    expected = []
    for x, y in zip(a, b, strict=True):
        values = [
            (v, math.copysign(1, v), w) for w in (x, y) if not math.isnan(v := value_of(w, "f32"))
        ]
        expected.append(pick(values)[2] if values else 0x7FFFFFFF)
    same(out.tolist(), expected, "f32")


@pytest.mark.parametrize(
    ("line", "function", "low", "high"),
    [
        ("ex2.approx.f32", lambda x: 2.0**x, -100, 100),
        ("ex2.approx.ftz.f32", lambda x: 2.0**x, -100, 100),
        ("lg2.approx.f32", math.log2, 1e-3, 1e6),
        ("rcp.approx.ftz.f32", lambda x: 1 / x, 1e-3, 1e6),
        ("rsqrt.approx.f32", lambda x: x**-0.5, 1e-3, 1e6),
        ("sqrt.approx.f32", math.sqrt, 1e-3, 1e6),
        ("tanh.approx.f32", math.tanh, -8, 8),
        ("sin.approx.f32", math.sin, -3, 3),
        ("cos.approx.f32", math.cos, -3, 3),
    ],
)
def test_approximate_functions_stay_inside_their_documented_error(line, function, low, high):
    x = np.linspace(low, high, 256, dtype=np.float32)
    out = evaluate(f"{line} %d, %a;", "f32 f32", x.view(np.uint32)).view(np.float32)
    expected = np.array([function(float(value)) for value in x])
    assert np.abs(out - expected).max() <= 2.0**-20 * max(1.0, np.abs(expected).max())


def test_flush_to_zero_and_saturation():
    tiny = np.array([1, 0x80000001, encode(2.0, "f32"), encode(-3.0, "f32"), 0x7FC00000], np.uint32)
    one = np.full(5, encode(1.0, "f32"), np.uint32)
    out = evaluate("mul.ftz.f32 %d, %a, %b;", "f32 f32 f32", tiny, one)
    assert out[:3].tolist() == [0, 0x80000000, encode(2.0, "f32")]
    out = evaluate("mul.sat.f32 %d, %a, %b;", "f32 f32 f32", tiny, one)
    assert out.tolist() == [1, 0, encode(1.0, "f32"), 0, 0]


def test_sign_instructions_touch_only_the_sign():
    x = np.array([0x7FC00001, 0x80000000, 0x3F800000, 0xFF800000], np.uint32)
    y = np.array([0x80000000, 0x0, 0x80000000, 0x0], np.uint32)
    assert evaluate("neg.f32 %d, %a;", "f32 f32", x)[1:].tolist() == [0, 0xBF800000, 0x7F800000]
    assert evaluate("abs.f32 %d, %a;", "f32 f32", x)[1:].tolist() == [0, 0x3F800000, 0x7F800000]
    out = evaluate("copysign.f32 %d, %b, %a;", "f32 f32 f32", x, y)
    assert out[1:].tolist() == [0, 0xBF800000, 0x7F800000]
    pair = np.array([0x80003C00, 0xFC007E00], np.uint32)
    assert evaluate("neg.f16x2 %d, %a;", "f16x2 f16x2", pair).tolist() == [0xBC00, 0x7C00FE00]
    assert evaluate("abs.bf16x2 %d, %a;", "bf16x2 bf16x2", pair).tolist() == [0x3C00, 0x7C007E00]
