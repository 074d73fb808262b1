"""Problems for the reference, and a weight's stored entries listed one at a time."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from samoyeds_gen.formats import ELEMENTS, Format, encode

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan]


def stored_entries(w):
    """(output row, column, value) of everything stored inside the matrix."""
    form, (m, k) = w.format, w.shape
    for row in range(w.data.shape[0]):
        for i, value in enumerate(w.data[row].astype(np.float64).tolist()):
            group = i // 2
            nibble = int(w.metadata[row, group // 8]) >> 4 * (group % 8) & 15
            column = 4 * group + (nibble >> 2 * (i % 2) & 3)
            place = row % form.n if w.indices is None else int(w.indices[row, column // form.v])
            output = row // form.n * form.m + place
            if output < m and column < k:
                yield output, column, value


@st.composite
def formats(draw):
    m = draw(st.integers(1, 8))
    return Format(draw(st.integers(1, m)), m, 16 * draw(st.integers(1, 4)))


@st.composite
def values(draw, shape, dtype, integers, special):
    if integers and draw(st.booleans()):
        small = st.integers(-4, 4).map(float)
        elements = small | st.sampled_from(SPECIAL) if special else small
        return draw(hnp.arrays(np.float32, shape, elements=elements)).astype(ELEMENTS[dtype])
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    matrix = rng.integers(-4, 5, shape) if integers else rng.standard_normal(shape)
    matrix = matrix.astype(np.float32)
    for value in draw(st.lists(st.sampled_from(SPECIAL), max_size=4)) if special else []:
        if matrix.size:
            matrix[rng.integers(shape[0]), rng.integers(shape[1])] = value
    return matrix.astype(ELEMENTS[dtype])


@st.composite
def problems(draw, integers=False, special=False):
    """A weight, tokens of its dtype, and a selection or None."""
    form = draw(formats())
    dtype = draw(st.sampled_from(["bfloat16", "float16"]))
    m, k = draw(st.integers(1, 2 * form.m + 1)), draw(st.integers(1, 2 * form.v + 3))
    tokens = draw(st.integers(1, 4))
    dense = draw(values((m, k), dtype, integers, special))
    w = encode(dense, n=form.n, m=form.m, v=form.v, dtype=dtype)
    table = draw(values((tokens, k), dtype, integers, special))
    rows = st.lists(st.integers(0, tokens - 1), max_size=4)
    return w, table, draw(st.none() | rows)
