"""encode: the nearest matrix of the pattern, and every rule about ties, zeros and NaN."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_format import encode_one_by_one, pair_of
from weight_cases import DTYPES, SHIPPED, bits, formats, matrices, rounded, same_bits, shapes

from samoyeds_gen.formats import ELEMENTS, Format, encode

PAIRS = list(itertools.combinations(range(4), 2))


def encode_as(form, dense, dtype="bfloat16"):
    return encode(dense, n=form.n, m=form.m, v=form.v, dtype=dtype)


@st.composite
def cases(draw, special=True):
    form = draw(formats())
    return form, draw(matrices(draw(shapes(form)), special=special)), draw(DTYPES)


@settings(deadline=None)
@given(cases())
def test_agrees_with_one_element_at_a_time(case):
    form, dense, dtype = case
    w = encode_as(form, dense, dtype)
    w.validate()
    data, pairs, indices = encode_one_by_one(
        rounded(dense, dtype).astype(float).tolist(), *numbers(form)
    )
    np.testing.assert_array_equal(w.data.astype(np.float64), data)
    assert np.array_equal(w.positions, indices)
    read = [[pair_of(w, r, g) for g in range(len(pairs[r]))] for r in range(len(pairs))]
    assert read == pairs


def numbers(form):
    return form.n, form.m, form.v


@settings(deadline=None)
@given(cases(special=False))
def test_is_the_nearest_matrix_of_the_pattern(case):
    """No choice of sub-rows, and of pairs in each group, leaves a smaller squared error."""
    form, dense, dtype = case
    if form.m > 8:
        form = Format(min(form.n, 8), 8, form.v)
    exact = rounded(dense, dtype).astype(np.float64)
    got = encode_as(form, dense, dtype).decode().astype(np.float64)
    rows, columns = form.bands(dense.shape[0]) * form.m, form.padded_k(dense.shape[1])
    source, result = np.zeros((rows, columns)), np.zeros((rows, columns))
    source[: exact.shape[0], : exact.shape[1]] = exact
    result[: exact.shape[0], : exact.shape[1]] = got
    squares = source.reshape(rows // form.m, form.m, -1, form.v // 4, 4) ** 2
    kept = np.max([squares[..., pair].sum(-1) for pair in PAIRS], axis=0).sum(-1)
    subsets = itertools.combinations(range(form.m), form.n)
    best = np.max([kept[:, subset].sum(1) for subset in subsets], axis=0)
    lost = (squares.sum((1, 3, 4)) - best).sum()
    np.testing.assert_allclose(((source - result) ** 2).sum(), lost, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_no_other_single_block_is_nearer(m, seed):
    """Every one of the 6^4 * m matrices of a (1, m, 16) block, tried."""
    dense = np.random.default_rng(seed).integers(-3, 4, (m, 16)).astype(np.float64)
    got = encode(dense, n=1, m=m, v=16).decode().astype(np.float64)
    total = (dense**2).sum()
    errors = [
        total - sum((dense[row, 4 * g + np.array(pair)] ** 2).sum() for g, pair in enumerate(quad))
        for row in range(m)
        for quad in itertools.product(PAIRS, repeat=4)
    ]
    assert ((dense - got) ** 2).sum() == min(errors)


@settings(deadline=None)
@given(cases())
def test_decoding_and_encoding_again_changes_nothing(case):
    form, dense, dtype = case
    w = encode_as(form, dense, dtype)
    again = encode_as(form, w.decode(), dtype)
    assert again == w
    assert same_bits(again.decode(), w.decode())


@settings(deadline=None)
@given(cases())
def test_kept_values_are_the_rounded_ones(case):
    form, dense, dtype = case
    got, want = encode_as(form, dense, dtype).decode(), rounded(dense, dtype)
    assert got.dtype == ELEMENTS[dtype]
    assert got.shape == dense.shape
    kept = (got != 0) | np.isnan(got.astype(np.float32))
    np.testing.assert_array_equal(got[kept].astype(np.float32), want[kept].astype(np.float32))


@settings(deadline=None)
@given(cases())
def test_stored_bytes(case):
    form, dense, dtype = case
    w = encode_as(form, dense, dtype)
    m, k = dense.shape
    rows, columns = -(-m // form.m) * form.n, -(-k // form.v) * form.v
    assert w.data.shape == (rows, columns // 2)
    assert w.metadata.shape == (rows, -(-columns // 32))
    indices = 0 if form.n == form.m else rows * columns // form.v
    assert w.nbytes == rows * columns + rows * -(-columns // 32) * 4 + indices


@pytest.mark.parametrize("v", [16, 32, 64, 128])
@pytest.mark.parametrize(("n", "m"), [*SHIPPED, (3, 7)])
def test_shipped_formats(n, m, v):
    dense = np.random.default_rng(0).standard_normal((2 * m + 1, 2 * v + 3), np.float32)
    w = encode(dense, n=n, m=m, v=v)
    w.validate()
    dense16 = dense.astype(ELEMENTS["bfloat16"]).astype(np.float64)
    data, _, indices = encode_one_by_one(dense16.tolist(), n, m, v)
    np.testing.assert_array_equal(w.data.astype(np.float64), data)
    np.testing.assert_array_equal(w.positions, indices)


NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("group", "positions", "values"),
    [
        ([0, 0, 0, 0], (0, 1), (0, 0)),
        ([-0.0, -0.0, -0.0, -0.0], (0, 1), (0, 0)),
        ([5, 0, 0, 0], (0, 1), (5, 0)),
        ([0, 5, 0, 0], (0, 1), (0, 5)),
        ([0, 0, 5, 0], (0, 2), (0, 5)),
        ([0, 0, 0, 5], (0, 3), (0, 5)),
        ([-0.0, 0, 0, 5], (0, 3), (0, 5)),
        ([0, -0.0, 5, 0], (0, 2), (0, 5)),
        ([1, 1, 1, 1], (0, 1), (1, 1)),
        ([1, -2, 2, 2], (1, 2), (-2, 2)),
        ([2, 1, 3, 1], (0, 2), (2, 3)),
        ([1, 2, 1, -3], (1, 3), (2, -3)),
        ([INF, NAN, NAN, INF], (1, 2), (NAN, NAN)),
        ([-INF, 1, INF, NAN], (0, 3), (-INF, NAN)),
        ([1, INF, -INF, INF], (1, 2), (INF, -INF)),
        ([1e-30, 1, 0, 0], (0, 1), (1e-30, 1)),
    ],
)
def test_positions_of_a_group(group, positions, values):
    w = encode(np.array([group], np.float32), n=1, m=1, v=16)
    assert pair_of(w, 0, 0) == positions
    expected = np.array(values, np.float32).astype(ELEMENTS["bfloat16"])
    np.testing.assert_array_equal(w.data[0, :2].astype(np.float32), expected.astype(np.float32))
    assert int(w.metadata[0, 0]) >> 4 == 0x444_4444


@pytest.mark.parametrize(
    ("scores", "n", "kept"),
    [
        ([1, 1], 1, [0]),
        ([1, 2], 1, [1]),
        ([0, 0, 0], 2, [0, 1]),
        ([3, 1, 3, 3], 2, [0, 2]),
        ([1, 4, 2, 4, 3], 3, [1, 3, 4]),
        ([1, INF, NAN], 1, [2]),
        ([1, INF, NAN], 2, [1, 2]),
        ([INF, INF, INF], 1, [0]),
        ([NAN, INF, NAN, NAN], 2, [0, 2]),
        ([3e38, INF, 3e38], 2, [0, 1]),
        ([1e-38, 0, 0], 1, [0]),
    ],
)
def test_positions_of_sub_rows(scores, n, kept):
    dense = np.zeros((len(scores), 16), np.float32)
    dense[:, 6] = scores
    w = encode(dense, n=n, m=len(scores), v=16)
    assert w.positions[:, 0].tolist() == kept


def test_every_zero_and_nan_is_stored_in_one_way():
    raw = np.array([[0x8000, 0x7FC1, 0xFFC0, 0x7F81]], np.uint16)
    w = encode(raw.view(ELEMENTS["bfloat16"]), n=1, m=1, v=16)
    assert bits(w.data)[0, :2].tolist() == [0x7FC0, 0x7FC0]
    zeros = encode(np.full((3, 5), -0.0, np.float32), n=1, m=1, v=16, dtype="fp16")
    assert not bits(zeros.data).any()
    assert not bits(zeros.decode()).any()


def test_absent_rows_are_kept_only_when_rows_run_out():
    w = encode(np.ones((9, 16), np.float32), n=3, m=4, v=16)
    assert w.indices[:, 0].tolist() == [0, 1, 2] * 3
    assert not bits(w.data[7:]).any()


def test_the_argument_is_left_alone_whatever_its_strides():
    dense = np.asfortranarray(np.random.default_rng(1).standard_normal((20, 70)))
    before = dense.copy()
    w = encode(dense[::-1, ::-1], n=1, m=2, v=32)
    assert w == encode(np.ascontiguousarray(before[::-1, ::-1]), n=1, m=2, v=32)
    assert w == encode(before[::-1, ::-1].astype(">f8"), n=1, m=2, v=32)
    np.testing.assert_array_equal(dense, before)
    own = before.astype(np.float16)
    kept = encode(own, n=1, m=1, v=16, dtype="fp16").data.copy()
    own[:] = 0
    assert kept.any()


def test_large_matrices_are_cut_without_a_seam(monkeypatch):
    from samoyeds_gen.formats.arrays import NumpyArrays

    dense = np.random.default_rng(2).standard_normal((61, 100))
    whole = encode(dense, n=2, m=3, v=48)
    decoded = whole.decode()
    for chunk in (1, 500, 1000, 3000):
        monkeypatch.setattr(NumpyArrays, "chunk", chunk)
        assert encode(dense, n=2, m=3, v=48) == whole
        assert same_bits(whole.decode(), decoded)
