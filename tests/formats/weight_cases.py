"""Strategies: formats, shapes and matrices, shrinking to the smallest of each."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from samoyeds_gen.formats import ELEMENTS, Format, encode

DTYPES = st.sampled_from(["bfloat16", "float16"])
SHIPPED = [(1, 1), (1, 2), (2, 4), (1, 4), (4, 8), (8, 16)]


@st.composite
def formats(draw, n=None, largest_m=16, plain=None):
    least = 2 if plain is False else 1
    m = draw(st.integers(least, largest_m))
    kept = n or draw(st.integers(1, m - 1 if plain is False else m))
    return Format(kept, m, draw(st.sampled_from([16, 32, 48, 64, 128])))


@st.composite
def shapes(draw, form):
    return draw(st.integers(1, 2 * form.m + 1)), draw(st.integers(1, 2 * form.v + 3))


SPECIAL = st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan])


@st.composite
def matrices(draw, shape, dtype=np.float32, special=False):
    """Small integers with many ties, or normal values from a seed; perhaps special values."""
    if draw(st.booleans()):
        small = st.integers(-4, 4).map(float)
        elements = small | SPECIAL if special else small
        return draw(hnp.arrays(dtype, shape, elements=elements))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    matrix = rng.standard_normal(shape).astype(dtype)
    if special:
        for value in draw(st.lists(SPECIAL, max_size=6)):
            matrix[rng.integers(shape[0]), rng.integers(shape[1])] = value
    return matrix


@st.composite
def weights(draw, special=False, integers=False, **options):
    form = draw(formats(**options))
    shape = draw(shapes(form))
    dtype = draw(DTYPES)
    if integers:
        matrix = draw(hnp.arrays(np.float32, shape, elements=st.integers(-4, 4).map(float)))
        if draw(st.booleans()):
            seed = draw(st.integers(0, 2**32 - 1))
            matrix = np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)
    else:
        matrix = draw(matrices(shape, special=special))
    return encode(matrix, n=form.n, m=form.m, v=form.v, dtype=dtype)


def bits(array):
    return np.asarray(array).view(np.uint16)


def same_bits(left, right):
    return left.dtype == right.dtype and np.array_equal(bits(left), bits(right))


def rounded(matrix, dtype):
    return matrix.astype(ELEMENTS[dtype])
