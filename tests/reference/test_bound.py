"""The bound holds for float32 kernels of every fold, and notices one product left out."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_entries import problems, stored_entries

from samoyeds_gen import reference
from samoyeds_gen.errors import FormatError, LaunchError
from samoyeds_gen.formats import ELEMENTS, encode

FOLDS = ["exchange", "prefix", "expand"]
OUTPUTS = st.sampled_from(["float16", "bfloat16", "float32"])
F32 = np.float32


def truncate(x):
    """Float64 to float32 towards zero, as matrix units do."""
    near = F32(x)
    return np.nextafter(near, F32(0)) if abs(float(near)) > abs(x) else near


def float32_sums(w, token, fold):
    """One token through a fold whose every addition truncates to float32."""
    form = w.format
    order = sorted(stored_entries(w), key=lambda entry: entry[1])
    if fold != "prefix":
        sums = [F32(0)] * w.shape[0]
        for row, column, value in order:
            sums[row] = truncate(float(sums[row]) + value * float(token[column]))
        return np.array(sums)
    running, sums = {}, np.zeros(form.bands(w.shape[0]) * form.m, F32)
    blocks = form.blocks(w.shape[1])
    for block in range(blocks):
        for row, column, value in order:
            if column // form.v == block:
                band = row // form.m
                total = float(running.get(band, F32(0))) + value * float(token[column])
                running[band] = truncate(total)
        for band in range(form.bands(w.shape[0])):
            here, after = owner(w, band, block), owner(w, band, block + 1)
            if here != after:
                for row, sign in ((here, 1), (after, -1)):
                    if row is not None:
                        at = band * form.m + row
                        total = float(sums[at]) + sign * float(running.get(band, F32(0)))
                        sums[at] = F32(total)
    return sums[: w.shape[0]]


def owner(w, band, block):
    if block >= w.positions.shape[1]:
        return None
    return int(w.positions[band, block])


def epilogue(sums, bias, activation, scale, out_dtype):
    """Float32 arithmetic, one rounding an operation; the reference formula inside activations."""
    x = sums if bias is None else (sums + bias).astype(F32)
    if activation is not None:
        x = reference.ACTIVATIONS[activation].apply(x.astype(np.float64)).astype(F32)
    if scale is not None:
        x = (scale * x).astype(F32)
    return x.astype(ELEMENTS[out_dtype]).astype(np.float64)


@pytest.mark.parametrize("fold", FOLDS)
@settings(deadline=None)
@given(
    problem=problems(),
    activation=st.none() | st.sampled_from(list(reference.ACTIVATIONS)),
    seed=st.none() | st.integers(0, 2**32 - 1),
    out_dtype=OUTPUTS,
)
def test_holds_for_float32_kernels(fold, problem, activation, seed, out_dtype):
    w, tokens, _ = problem
    if fold == "prefix" and w.format.n != 1:
        return
    bias = scale = None
    if seed is not None:
        rng = np.random.default_rng(seed)
        bias, scale = rng.standard_normal(w.shape[0], F32), rng.standard_normal(len(tokens), F32)
    options = {"bias": bias, "activation": activation, "scale": scale}
    value, bound = reference.ssmm_with_bound(w, tokens, fold=fold, out_dtype=out_dtype, **options)
    assert np.isfinite(bound).all()
    np.testing.assert_array_equal(value, reference.ssmm(w, tokens, **options))
    for i, token in enumerate(tokens):
        sums = float32_sums(w, token, fold)
        got = epilogue(sums, bias, activation, None if scale is None else scale[i], out_dtype)
        assert (np.abs(got - value[i]) <= bound[i]).all()


@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize("k", [16, 250, 1024])
def test_notices_a_product_left_out(fold, k):
    """Leaving out any stored product of like sizes is an error in float32 output."""
    rng = np.random.default_rng(k)
    dense = rng.choice([-1, 1], (8, k)) * rng.uniform(0.8, 1.0, (8, k))
    w = encode(dense, n=1, m=2, v=16)
    tokens = rng.choice([-1, 1], (4, k)) * rng.uniform(0.8, 1.0, (4, k))
    tokens = tokens.astype(ELEMENTS["bfloat16"])
    bound = reference.bound(w, tokens, fold=fold, out_dtype="float32")
    smallest = min(abs(value) for _, _, value in stored_entries(w) if value) * 0.79
    assert (bound < smallest).all()


def test_own_row_or_block():
    """A row of zeros beside a large one: prefix carries the large row's error, exchange not."""
    dense = np.zeros((2, 32), F32)
    dense[0, :16], dense[1, 16:] = 1000, 1
    w = encode(dense, n=1, m=2, v=16)
    ones = np.ones((1, 32), ELEMENTS["bfloat16"])
    bounds = {f: reference.bound(w, ones, fold=f, out_dtype="float32")[0] for f in FOLDS}
    np.testing.assert_array_equal(bounds["exchange"], bounds["expand"])
    assert bounds["exchange"][1] < bounds["exchange"][0] / 500
    assert bounds["prefix"][1] > bounds["exchange"][0]


def test_output_rounding():
    w = encode(np.eye(1, 16, dtype=F32), n=1, m=1, v=16)
    token = np.eye(1, 16, dtype=F32).astype(ELEMENTS["bfloat16"])
    for dtype, unit in (("float16", 2**-11), ("bfloat16", 2**-8), ("float32", 2**-24)):
        bound = float(reference.bound(w, token, out_dtype=dtype)[0, 0])
        assert unit < bound < unit + 20 * 2**-23
    default = reference.bound(w, token)
    np.testing.assert_array_equal(default, reference.bound(w, token, out_dtype="bf16"))


NAN_WEIGHT = np.zeros((4, 32), F32)
NAN_WEIGHT[0, :16], NAN_WEIGHT[1, 16:], NAN_WEIGHT[2], NAN_WEIGHT[3] = 1, 1, 2, 1


def open_elements(fold, tokens, dense=NAN_WEIGHT):
    w = encode(dense, n=1, m=2, v=16)
    value, bound = reference.ssmm_with_bound(w, tokens.astype(ELEMENTS["bfloat16"]), fold=fold)
    assert not np.isnan(bound).any()
    assert np.isinf(bound[~np.isfinite(value)]).all()
    return np.isinf(bound).tolist()


@pytest.mark.parametrize(
    ("fold", "first"),
    [
        ("exchange", [True, False, True, False]),
        ("prefix", [True, True, True, True]),
        ("expand", [True, True, True, True]),
    ],
)
def test_what_a_nan_token_leaves_open(fold, first):
    """Token 0 has NaN in V-block 0: stored by rows 0 and 2; token 1 stays asked everywhere."""
    tokens = np.ones((2, 32), F32)
    tokens[0, 0] = math.nan
    assert open_elements(fold, tokens) == [first, [False] * 4]


@pytest.mark.parametrize(("fold", "row1"), [("exchange", False), ("prefix", True)])
def test_what_a_nan_weight_leaves_open(fold, row1):
    dense = NAN_WEIGHT.copy()
    dense[0, 0] = math.inf
    tokens = np.ones((2, 32), F32)
    assert open_elements(fold, tokens, dense) == [[True, row1, False, False]] * 2


def test_a_token_that_is_not_stored_leaves_only_expand_open():
    """Column 2 is stored by no row: positions 0 and 1 of every group are kept."""
    tokens = np.ones((1, 32), F32)
    tokens[0, 2] = math.inf
    assert open_elements("exchange", tokens) == open_elements("prefix", tokens) == [[False] * 4]
    assert open_elements("expand", tokens) == [[True] * 4]


def test_overflow_leaves_the_value_open():
    w = encode(np.full((1, 16), 1e20), n=1, m=1, v=16)
    big = np.full((1, 16), 1e20, F32).astype(ELEMENTS["bfloat16"])
    assert np.isinf(reference.bound(w, big)).all()
    small = np.full((1, 16), 1e-18, F32).astype(ELEMENTS["bfloat16"])
    assert np.isfinite(reference.bound(w, small)).all()
    w16 = encode(np.full((1, 16), 300.0), n=1, m=1, v=16, dtype="fp16")
    tokens = np.full((1, 16), 300, np.float16)
    assert np.isinf(reference.bound(w16, tokens)).all()
    assert np.isfinite(reference.bound(w16, tokens, out_dtype="float32")).all()


def test_underflow_is_allowed_for():
    w = encode(np.full((1, 16), 1e-30), n=1, m=1, v=16)
    tokens = np.full((1, 16), 1e-30, F32).astype(ELEMENTS["bfloat16"])
    value, bound = reference.ssmm_with_bound(w, tokens)
    assert 0 < value[0, 0] < bound[0, 0] < 1e-39


@pytest.mark.parametrize("fold", FOLDS)
def test_covers_the_most_that_truncation_loses(fold):
    """One, then products just below its last bit: adding each in turn changes nothing."""
    k = 2048
    w = encode(np.ones((1, k), F32), n=1, m=1, v=16)
    tokens = np.full((1, k), 2.0**-23 * (1 - 2.0**-8), F32)
    tokens[0, 0] = 1
    tokens = tokens.astype(ELEMENTS["bfloat16"])
    got = float32_sums(w, tokens[0], fold)[0]
    value, bound = reference.ssmm_with_bound(w, tokens, fold=fold, out_dtype="float32")
    assert got == 1
    assert 0 < value[0, 0] - got <= bound[0, 0] < 2 * (value[0, 0] - got)


def test_covers_sums_of_products_below_float32():
    w = encode(np.full((1, 1024), 2.0**-75), n=1, m=1, v=16)
    tokens = np.full((1, 1024), 2.0**-75, F32).astype(ELEMENTS["bfloat16"])
    value, bound = reference.ssmm_with_bound(w, tokens, out_dtype="float32")
    assert value[0, 0] == 2.0**-141 < bound[0, 0] < 2.0**-138


def test_infinite_scale_asks_nothing():
    w = encode(np.ones((1, 16), F32), n=1, m=1, v=16)
    tokens = np.ones((2, 16), ELEMENTS["bfloat16"])
    scale = np.array([math.inf, 0], F32)
    bound = reference.bound(w, tokens, scale=scale)
    assert math.isinf(bound[0, 0])
    assert bound[1, 0] < 1e-38


@settings(deadline=None)
@given(problems(integers=True), st.sampled_from(FOLDS))
def test_bands_join_without_a_seam(problem, fold):
    w, tokens, selection = problem
    whole = reference.bound(w, tokens, selection, fold=fold)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("samoyeds_gen.reference.problem._CHUNK", 1)
        pieces = reference.bound(w, tokens, selection, fold=fold)
    np.testing.assert_allclose(pieces, whole, rtol=1e-6)


def test_refusals():
    w = encode(np.ones((1, 16), F32), n=1, m=1, v=16)
    tokens = np.ones((2, 16), ELEMENTS["bfloat16"])
    with pytest.raises(LaunchError, match="fold 'split' is not one of exchange, prefix, expand; "):
        reference.bound(w, tokens, fold="split")
    with pytest.raises(FormatError, match="dtype 'float64' is not one of float16, bfloat16, float"):
        reference.bound(w, tokens, out_dtype="float64")
