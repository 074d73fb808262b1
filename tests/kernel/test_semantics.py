"""The semantics on which honest developers would differ, each on every fold (docs: semantics)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import compiled, exactly, integers, weight

import samoyeds_gen as sg
from samoyeds_gen.formats import Format, SparseWeight

FOLDS = [
    ("exchange", Format(1, 2, 32)),
    ("exchange", Format(1, 4, 16)),
    ("prefix", Format(1, 2, 32)),
    ("prefix", Format(1, 4, 64)),
    ("expand", Format(1, 2, 16)),
    ("expand", Format(2, 4, 32)),
    ("expand", Format(3, 7, 48)),
    ("expand", Format(2, 2, 32)),
    ("stream-prefix", Format(1, 2, 32)),
    ("stream-prefix", Format(1, 4, 64)),
    ("stream-expand", Format(1, 2, 16)),
    ("stream-expand", Format(2, 4, 32)),
    ("stream-expand", Format(3, 7, 48)),
    ("stream-expand", Format(2, 2, 32)),
]
KERNELS = {}
SPECIAL = [np.nan, np.inf, -np.inf]


def kernel_of(fold, format):
    if (fold, format) not in KERNELS:
        KERNELS[fold, format] = compiled(fold, format)
    return KERNELS[fold, format]


@pytest.mark.parametrize(("fold", "format"), FOLDS, ids=str)
@pytest.mark.parametrize("special", SPECIAL, ids=str)
def test_a_token_never_reaches_another_tokens_output(fold, format, special):
    kernel, w, x = kernel_of(fold, format), weight(21, 70, format), integers((9, 70), 3)
    clean = kernel(w, x, device="cpu")
    selected = [0, 4, 8, 4]
    clean_selected = kernel(w, x, selected, device="cpu")
    for row in range(9):
        dirty = x.copy()
        dirty[row, row::9] = special
        rest = np.arange(9) != row
        assert np.array_equal(kernel(w, dirty, device="cpu")[rest], clean[rest])
        others = np.array(selected) != row
        got = kernel(w, dirty, selected, device="cpu")
        assert np.array_equal(got[others], clean_selected[others])


@pytest.mark.parametrize(("fold", "format"), FOLDS, ids=str)
@pytest.mark.parametrize("special", SPECIAL, ids=str)
def test_a_weight_never_reaches_another_blocks_output(fold, format, special):
    kernel, w, x = kernel_of(fold, format), weight(28, 70, format), integers((3, 70), 3)
    clean = kernel(w, x, device="cpu")
    for band in range(w.format.bands(28)):
        data = w.data.copy()
        data[band * format.n, 0] = special
        dirty = SparseWeight(format, "bfloat16", w.shape, data, w.metadata, w.indices)
        rest = np.arange(28) // format.m != band
        assert np.array_equal(kernel(dirty, x, device="cpu")[:, rest], clean[:, rest])


@pytest.mark.parametrize(("fold", "format"), FOLDS, ids=str)
@given(data=st.data())
@settings(max_examples=15)
def test_non_finite_products_show_and_exchange_agrees(fold, format, data):
    """Not finite where a stored entry makes it so; exchange and N = M agree on which value."""
    w, x = weight(14, 50, format, seed=data.draw(st.integers(0, 9))), integers((4, 50), 5)
    token, column = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 49))
    x[token, column] = data.draw(st.sampled_from(SPECIAL))
    got = kernel_of(fold, format)(w, x, device="cpu")
    expected = sg.reference.ssmm(w, x)
    lost = ~np.isfinite(expected)
    assert not np.isfinite(got.astype(np.float64)[lost]).any()
    if fold == "exchange" or format.plain:
        assert exactly(got, expected)
    finite = np.isfinite(x.astype(np.float64)).all(axis=1)
    assert exactly(got[finite], expected[finite])


@pytest.mark.parametrize(("fold", "format"), FOLDS, ids=str)
def test_minus_zero_is_a_zero(fold, format):
    w, x = weight(9, 40, format), integers((3, 40), 2)
    negative = np.where(x == 0, -x, x).astype(x.dtype)
    assert np.signbit(negative.astype(np.float32)).sum() > np.signbit(x.astype(np.float32)).sum()
    kernel = kernel_of(fold, format)
    assert np.array_equal(kernel(w, negative, device="cpu"), kernel(w, x, device="cpu"))


@pytest.mark.parametrize(("fold", "format"), FOLDS, ids=str)
def test_largest_finite_values_do_not_become_nan(fold, format):
    w, x = weight(6, 33, format), np.zeros((2, 33), integers(1).dtype)
    x[0, :4] = np.finfo(np.float32).max / 64
    got = kernel_of(fold, format)(w, x, out_dtype="float32", device="cpu")
    assert np.isfinite(got).all()
    assert (got[1] == 0).all()


@pytest.mark.parametrize(("fold", "format"), FOLDS, ids=str)
def test_a_selection_out_of_range_gives_rows_of_nan_where_it_is_not_checked(fold, format):
    """What a device array, which is not checked at the call, leads to."""
    from samoyeds_gen.kernel.arguments import describe_call
    from samoyeds_gen.kernel.simulated import simulate

    w, x = weight(9, 40, format), integers((3, 40), 2)
    rows = np.array([1, -1, 3, 2, 2**31 - 1, -(2**31)], np.int32)
    for index in (np.int32, np.int64):
        variant = kernel_of(fold, format).variant(index=np.dtype(index).name, bias=True)
        bias = np.ones(9, np.float32)
        call = describe_call(w, format, "bfloat16", x, rows.astype(index), bias, None)
        got, _ = simulate(variant.plan, variant.build, call, check=False)
        inside = (rows >= 0) & (rows < 3)
        assert np.isnan(got.astype(np.float32)[~inside]).all()
        assert exactly(got[inside], sg.reference.ssmm(w, x, rows[inside], bias=bias))


@pytest.mark.parametrize(("fold", "format"), FOLDS, ids=str)
def test_scale_and_bias_belong_to_their_token_and_feature(fold, format):
    w, x = weight(21, 40, format), integers((9, 40), 2)
    bias = np.arange(21, dtype=np.float32) / 4
    scale = 2.0 ** np.arange(-4, 5, dtype=np.float32)
    order = np.random.default_rng(0).permutation(9)
    kernel = kernel_of(fold, format)
    got = kernel(w, x, order, bias=bias, scale=scale, out_dtype="float32", device="cpu")
    assert exactly(got, sg.reference.ssmm(w, x, order, bias=bias, scale=scale))
    poisoned = scale.copy()
    poisoned[4] = np.nan
    dirty = kernel(w, x, order, bias=bias, scale=poisoned, out_dtype="float32", device="cpu")
    assert np.isnan(dirty[4]).all()
    assert np.array_equal(np.delete(dirty, 4, 0), np.delete(got, 4, 0))
