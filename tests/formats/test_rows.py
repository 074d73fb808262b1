"""Rows of encoded weights move as whole bands: decode commutes with stacking and interleaving."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weight_cases import DTYPES, SHIPPED, bits, formats, matrices

from samoyeds_gen.errors import FormatError
from samoyeds_gen.formats import (
    Format,
    deinterleave_rows,
    encode,
    gate_block,
    interleave_rows,
    stack_weights,
    take_rows,
)
from samoyeds_gen.formats.arrays import to_numpy


def as_torch(weights, wanted):
    """The weights as tensors, where torch is there and wanted."""
    if not wanted:
        return weights
    try:
        import torch  # noqa: F401
    except ImportError:
        return weights
    return [each.torch() for each in weights]


@st.composite
def alike(draw, count, bands=None, last_ragged=False):
    """`count` weights of one format, dtype and k, of whole bands; perhaps the last is ragged."""
    form, dtype = draw(formats()), draw(DTYPES)
    k = draw(st.integers(1, 2 * form.v + 3))
    made = []
    for place in range(count):
        rows = (bands or draw(st.integers(1, 4))) * form.m
        if last_ragged and place == count - 1:
            rows -= draw(st.integers(0, form.m - 1))
        matrix = draw(matrices((rows, k)))
        made.append(encode(matrix, n=form.n, m=form.m, v=form.v, dtype=dtype))
    return made


def dense(w):
    return bits(to_numpy(w.decode()))


@given(st.integers(1, 4).flatmap(lambda c: alike(c, last_ragged=True)), st.booleans())
def test_decode_commutes_with_stacking(weights, tensors):
    weights = as_torch(weights, tensors)
    whole = stack_weights(weights)
    whole.validate()
    assert np.array_equal(dense(whole), np.concatenate([dense(each) for each in weights]))
    start = 0
    for each in weights:
        stop = start + each.shape[0]
        assert take_rows(whole, start, stop) == each
        start = stop


@given(
    st.integers(1, 4).flatmap(lambda b: st.tuples(alike(2, bands=b), st.just(b))),
    st.booleans(),
    st.data(),
)
def test_decode_commutes_with_interleaving(case, tensors, data):
    weights, bands = case
    gate, up = as_torch(weights, tensors)
    form = gate.format
    block = form.m * data.draw(st.sampled_from([b for b in range(1, bands + 1) if bands % b == 0]))
    woven = interleave_rows(gate, up, block)
    woven.validate()
    rows = dense(woven)
    for i in range(gate.shape[0]):
        at = i // block * 2 * block + i % block
        assert np.array_equal(rows[at], dense(gate)[i])
        assert np.array_equal(rows[at + block], dense(up)[i])
    back = deinterleave_rows(woven, block)
    assert back[0] == gate
    assert back[1] == up


@given(st.sampled_from([(n, m, v) for n, m in SHIPPED[:-1] for v in (16, 32, 64, 128)]))
def test_interleaving_stacks_is_stacking_what_was_interleaved(nmv):
    form = Format(*nmv)
    block = gate_block(form)
    rng = np.random.default_rng(0)
    gates, ups = (
        [
            encode(rng.standard_normal((2 * block, 40)), n=form.n, m=form.m, v=form.v)
            for _ in range(3)
        ]
        for _ in range(2)
    )
    one = interleave_rows(stack_weights(gates), stack_weights(ups), block)
    other = stack_weights([interleave_rows(g, u, block) for g, u in zip(gates, ups, strict=True)])
    assert one == other


@pytest.mark.parametrize(
    ("form", "rows"),
    [
        ((1, 2, 128), 16),
        ((1, 2, 64), 16),
        ((1, 2, 32), 16),
        ((1, 2, 256), 16),
        ((1, 4, 64), 32),
        ((1, 2, 16), 8),  # a sub-row ends inside what a matrix instruction takes
        ((1, 2, 96), 8),
        ((1, 8, 64), 8),
        ((2, 4, 128), 8),
        ((4, 8, 32), 8),
        ((1, 1, 128), 8),
        ((2, 2, 64), 8),
    ],
)
def test_gate_block(form, rows):
    assert gate_block(Format(*form)) == rows


@pytest.mark.parametrize("form", [(8, 16, 64), (1, 3, 64), (3, 3, 16)])
def test_formats_that_have_no_gate_block(form):
    with pytest.raises(FormatError, match=r"since M = \d+ does not divide 8; choose M = 1, 2, 4 "):
        gate_block(Format(*form))


def made(rows=8, k=40, n=1, m=2, v=16, dtype="bfloat16"):
    return encode(np.ones((rows, k), np.float32), n=n, m=m, v=v, dtype=dtype)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stack_weights([]), "no weights are given to stack; pass at least one"),
        (
            lambda: stack_weights([made(7), made()]),
            "weights[0] has 7 rows, but whole bands of 2 are required before another weight; ",
        ),
        (
            lambda: stack_weights([made(), made(v=32)]),
            "weights[0] has format 1,2,16 and weights[1] has 1,2,32, but one format is required; ",
        ),
        (
            lambda: stack_weights([made(), made(dtype="fp16")]),
            "weights[0] has dtype bfloat16 and weights[1] has float16, but one dtype is required",
        ),
        (
            lambda: stack_weights([made(), made(k=41)]),
            "weights[0] has k 40 and weights[1] has 41, but one k is required",
        ),
        (
            lambda: take_rows(made(), 0, 9),
            "rows 0 to 9 are asked for, but 0 <= start < stop <= 8 is required; take rows that ",
        ),
        (lambda: take_rows(made(), 2, 2), "rows 2 to 2 are asked for, but 0 <= start < stop <= 8"),
        (lambda: take_rows(made(), 1, 4), "rows 1 to 4 cut a band of 2 rows; cut at multiples of"),
        (lambda: take_rows(made(), 0, 3), "rows 0 to 3 cut a band of 2 rows; cut at multiples of"),
        (
            lambda: interleave_rows(made(), made(4), 4),
            "gate has 8 rows and up 4, but as many are required; interleave the two halves of one",
        ),
        (
            lambda: interleave_rows(made(), made(), 3),
            "8 rows of format 1,2,16 cannot be interleaved by 3, but a multiple of 2 that divides "
            "8 is required; ",
        ),
        (lambda: interleave_rows(made(), made(), 0), "8 rows of format 1,2,16 cannot be interleav"),
        (lambda: interleave_rows(made(), made(), 16), "8 rows of format 1,2,16 cannot be interlea"),
        (lambda: deinterleave_rows(made(7), 2), "a weight of 7 rows is not two interleaved halves"),
        (lambda: deinterleave_rows(made(), 8), "4 rows of format 1,2,16 cannot be interleaved by"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(FormatError) as caught:
        call()
    assert str(caught.value).startswith(message)
    assert caught.value.remedy


@pytest.mark.torch
def test_weights_in_two_places_are_refused():
    pytest.importorskip("torch", reason="torch is not installed")
    with pytest.raises(FormatError, match=r"has place numpy and weights\[1\] has cpu, but one pl"):
        stack_weights([made(), made().torch()])
