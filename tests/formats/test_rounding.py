"""Rounding to 16 bits, against every value there is."""

import bisect
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weight_cases import DTYPES, bits

from samoyeds_gen.errors import FormatError
from samoyeds_gen.formats import ELEMENTS, encode

MANTISSA = {"float16": 10, "bfloat16": 7}
BIAS = {"float16": 15, "bfloat16": 127}


def value_of(pattern, dtype):
    """Exact value of a positive finite bit pattern, from its fields."""
    exponent, mantissa = divmod(pattern, 1 << MANTISSA[dtype])
    hidden = 1 << MANTISSA[dtype] if exponent else 0
    return Fraction(mantissa + hidden) * Fraction(2) ** (
        max(exponent, 1) - BIAS[dtype] - MANTISSA[dtype]
    )


VALUES = {
    dtype: [value_of(i, dtype) for i in range((2 * BIAS[dtype] + 1) << MANTISSA[dtype])]
    for dtype in MANTISSA
}


def nearest(x, dtype):
    """Bit pattern of the nearest value, ties to even; None on overflow."""
    table = VALUES[dtype]
    size = abs(Fraction(x))
    high = bisect.bisect_left(table, size)
    if high == len(table):
        step = table[-1] - table[-2]
        return len(table) - 1 if size < table[-1] + step / 2 else None
    low = max(high - 1, 0)
    below, above = size - table[low], table[high] - size
    pattern = low if below < above or (below == above and low % 2 == 0) else high
    return pattern | (0x8000 if x < 0 and pattern else 0)


def near_ties(dtype):
    """Values at, just below and just above the middle of two neighbours."""
    top = len(VALUES[dtype]) - 2
    middles = st.integers(0, top).map(
        lambda i: float((VALUES[dtype][i] + VALUES[dtype][i + 1]) / 2)
    )
    aims = st.sampled_from([0.0, math.inf])
    return st.builds(
        lambda x, aim, move, sign: sign * (math.nextafter(x, aim) if move else x),
        middles,
        aims,
        st.booleans(),
        st.sampled_from([1, -1]),
    )


@settings(deadline=None)
@given(st.data(), DTYPES, st.sampled_from(["float64", "float32", "float16", "bfloat16"]))
def test_rounds_once_to_nearest_even(data, dtype, source):
    drawn = near_ties(dtype) | st.floats(-6e4, 6e4) | st.floats(allow_nan=False)
    kind = np.dtype(source) if source != "bfloat16" else ELEMENTS[source]
    with np.errstate(all="ignore"):
        x = np.array(data.draw(drawn)).astype(kind).reshape(1, 1)
    if not math.isfinite(float(x[0, 0])):
        return
    want = nearest(float(x[0, 0]), dtype)
    if want is None:
        with pytest.raises(FormatError, match=f"overflows {dtype}"):
            encode(x, n=1, m=1, v=16, dtype=dtype)
    else:
        got = encode(x, n=1, m=1, v=16, dtype=dtype)
        assert bits(got.data)[0, 0] == want


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_float64_is_not_rounded_twice(dtype):
    tie = float((VALUES[dtype][2048] + VALUES[dtype][2049]) / 2)
    for x in (math.nextafter(tie, 0), tie, math.nextafter(tie, 1e9)):
        got = encode(np.array([[x]]), n=1, m=1, v=16, dtype=dtype)
        assert bits(got.data)[0, 0] == nearest(x, dtype)


@pytest.mark.parametrize(
    ("value", "dtype", "fits"),
    [
        (65504.0, "float16", True),
        (65519.996, "float16", True),
        (65520.0, "float16", False),
        (-65520.0, "float16", False),
        (3.3895313892515355e38, "bfloat16", True),
        (3.3962e38, "bfloat16", False),
        (1e300, "bfloat16", False),
        (-1e300, "float16", False),
    ],
)
def test_a_finite_value_that_overflows_is_refused(value, dtype, fits):
    dense = np.zeros((3, 5))
    dense[1, 3] = value
    if fits:
        assert np.isfinite(encode(dense, n=1, m=1, v=16, dtype=dtype).decode().astype(float)).all()
        return
    with pytest.raises(FormatError) as caught:
        encode(dense, n=1, m=1, v=16, dtype=dtype)
    other = " or encode to bfloat16" if dtype == "float16" else ""
    assert str(caught.value) == (
        f"dense[1, 3] = {value!r} overflows {dtype}; scale the matrix down{other}"
    )


def test_infinity_itself_is_kept():
    dense = np.array([[np.inf, -np.inf]])
    for dtype in ("float16", "bfloat16"):
        got = encode(dense, n=1, m=1, v=16, dtype=dtype).decode()
        assert got.astype(float).tolist() == [[np.inf, -np.inf]]
