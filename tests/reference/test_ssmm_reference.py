"""reference.ssmm against sums written one stored entry at a time."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_entries import problems, stored_entries

from samoyeds_gen import reference
from samoyeds_gen.errors import LaunchError
from samoyeds_gen.formats import ELEMENTS, encode
from samoyeds_gen.reference.problem import Problem

INF, NAN = math.inf, math.nan


def one_by_one(w, tokens, rows):
    """Correctly rounded sums where every product is finite, IEEE addition of the others."""
    result = []
    for row in rows:
        finite, special = [[] for _ in range(w.shape[0])], [0.0] * w.shape[0]
        for output_row, column, value in stored_entries(w):
            product = value * float(tokens[row, column])
            if math.isfinite(product):
                finite[output_row].append(product)
            else:
                special[output_row] += product
        result.append([x + math.fsum(y) for x, y in zip(special, finite, strict=True)])
    return np.array(result).reshape(len(rows), w.shape[0])


@settings(deadline=None)
@given(problems(integers=True, special=True))
def test_sums_over_stored_entries(problem):
    w, tokens, selection = problem
    want = one_by_one(w, tokens, range(len(tokens)) if selection is None else selection)
    np.testing.assert_array_equal(reference.ssmm(w, tokens, selection), want)


def test_empty_selection_of_every_fold():
    w = encode(np.ones((5, 16), np.float32), n=1, m=2, v=16)
    for fold in ("exchange", "prefix", "expand"):
        tokens = np.ones((3, 16), ELEMENTS["bfloat16"])
        assert reference.bound(w, tokens, [], fold=fold).shape == (0, 5)


@settings(deadline=None)
@given(problems())
def test_real_values(problem):
    w, tokens, selection = problem
    got = reference.ssmm(w, tokens, selection)
    rows = range(len(tokens)) if selection is None else selection
    np.testing.assert_allclose(got, one_by_one(w, tokens, rows), rtol=1e-12, atol=1e-9)


@settings(deadline=None)
@given(problems(special=True))
def test_a_token_reaches_only_its_own_outputs(problem):
    w, tokens, _ = problem
    whole = reference.ssmm(w, tokens)
    for i in range(len(tokens)):
        spoiled = tokens.copy()
        spoiled[[j for j in range(len(tokens)) if j != i]] = NAN
        np.testing.assert_array_equal(reference.ssmm(w, spoiled, [i])[0], whole[i])


@settings(deadline=None)
@given(problems(special=True), st.integers(0, 2**32 - 1))
def test_selection_picks_rows(problem, seed):
    w, tokens, _ = problem
    rows = np.random.default_rng(seed).integers(0, len(tokens), 6)
    for selection in (rows, rows[::-1], rows[::2], rows.astype(np.uint8), rows.tolist()):
        got = reference.ssmm(w, tokens, selection)
        np.testing.assert_array_equal(got, reference.ssmm(w, tokens[np.asarray(selection)]))


@pytest.mark.parametrize("empty", [[], (), np.zeros(0, np.int32)])
def test_empty_selection(empty):
    w = encode(np.ones((5, 16), np.float32), n=1, m=2, v=16, dtype="fp16")
    assert reference.ssmm(w, np.ones((3, 16), np.float16), empty).shape == (0, 5)
    assert reference.ssmm(w, np.ones((0, 16), np.float16)).shape == (0, 5)


@pytest.mark.parametrize(
    ("weight", "token", "output"),
    [
        ([1, 0, 0, 0], [1, INF, 3, 4], NAN),  # the zero stored at position 1 counts
        ([1, 0, 0, 0], [1, 2, INF, NAN], 1),  # nothing is stored at positions 2 and 3
        ([1, 2, 0, 0], [INF, 1, 0, 0], INF),
        ([1, -2, 0, 0], [INF, INF, 0, 0], NAN),
        ([1, -2, 0, 0], [INF, -INF, 0, 0], INF),
        ([INF, 2, 0, 0], [0, 1, 0, 0], NAN),
        ([INF, 2, 0, 0], [-1, 1, 0, 0], -INF),
        ([INF, 2, 0, 0], [-INF, 1, 0, 0], -INF),
        ([NAN, 2, 0, 0], [0, 1, 0, 0], NAN),
        ([0, 0, 5, 0], [INF, 1, 1, 1], NAN),
        ([0, 0, 5, 0], [1, INF, 1, 1], 5),
        ([1, 1, 0, 0], [NAN, 1, 1, 1], NAN),
    ],
)
def test_infinity_and_nan(weight, token, output):
    w = encode(np.array([weight], np.float32), n=1, m=1, v=16)
    tokens = np.array([token], np.float32).astype(ELEMENTS["bfloat16"])
    np.testing.assert_array_equal(reference.ssmm(w, tokens), [[output]])


def test_an_absent_sub_row_meets_nothing():
    dense = np.array([[1] * 16, [2] * 16], np.float32)
    w = encode(dense, n=1, m=2, v=16)
    tokens = np.full((1, 16), INF, np.float32).astype(ELEMENTS["bfloat16"])
    assert reference.ssmm(w, tokens).tolist() == [[0.0, INF]]


SIMPLE = encode(np.eye(4, 16, dtype=np.float32), n=1, m=1, v=16)
TOKENS = np.array([[-2, -0.5, 0, 3] + [0] * 12] * 2, np.float32).astype(ELEMENTS["bfloat16"])


def test_epilogue_order():
    """y[i] = scale[i] * act(acc + bias)."""
    bias, scale = np.array([1, 2, -1, 4], np.float32), np.array([-2, 0.5], np.float32)
    got = reference.ssmm(SIMPLE, TOKENS, bias=bias, activation="relu", scale=scale)
    assert got.tolist() == [[0, -3, 0, -14], [0, 0.75, 0, 3.5]]


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        (None, lambda x: x),
        ("relu", lambda x: max(x, 0)),
        ("silu", lambda x: x / (1 + math.exp(-x))),
        ("gelu", lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2)))),
        (
            "gelu_tanh",
            lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        ),
    ],
)
def test_activations(name, formula):
    got = reference.ssmm(SIMPLE, TOKENS, activation=name)
    np.testing.assert_allclose(got[0], [formula(x) for x in (-2, -0.5, 0, 3)], rtol=1e-14)


@pytest.mark.parametrize("name", list(reference.ACTIVATIONS))
def test_slopes_bound_the_derivative(name):
    activation = reference.ACTIVATIONS[name]
    x = np.linspace(-12, 12, 240_001)
    slope = np.abs(np.diff(activation.apply(x)) / np.diff(x)).max()
    assert slope <= activation.slope <= slope * 1.01


@pytest.mark.parametrize("name", list(reference.ACTIVATIONS))
def test_activations_far_out(name):
    far = reference.ACTIVATIONS[name].apply(np.array([1e300, -1e5, INF, NAN]))
    assert far[0] == 1e300
    assert far[1] == 0
    assert far[2] == INF
    assert math.isnan(far[3])


@settings(deadline=None)
@given(problems(special=True))
def test_bands_join_without_a_seam(problem):
    w, tokens, selection = problem
    bias = np.arange(w.shape[0], dtype=np.float32)
    whole = reference.ssmm(w, tokens, selection, bias=bias)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("samoyeds_gen.reference.problem._CHUNK", 1)
        pieces = reference.ssmm(w, tokens, selection, bias=bias)
        np.testing.assert_allclose(pieces, whole, rtol=1e-12, atol=1e-9)
        assert len(list(Problem(w, tokens, None, None, None).bands())) == w.format.bands(w.shape[0])


@pytest.mark.torch
def test_tensors_of_the_host():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    w = encode(torch.randn(9, 40), n=1, m=2, v=16)
    tokens = torch.randn(5, 40).to(torch.bfloat16)
    bias, scale = torch.randn(9), torch.randn(3)
    rows = torch.tensor([4, 0, 4])
    got = reference.ssmm(w, tokens, rows, bias=bias, scale=scale)
    raw = tokens.view(torch.int16).numpy().view(ELEMENTS["bfloat16"])
    want = reference.ssmm(w.numpy(), raw, [4, 0, 4], bias=bias.numpy(), scale=scale.numpy())
    np.testing.assert_array_equal(got, want)


ONES = np.ones((3, 16), ELEMENTS["bfloat16"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, ONES), "the weight is a NoneType, but a SparseWeight is required; "),
        ((SIMPLE, [[1]]), "tokens is a list, but a numpy array or torch tensor is required; "),
        (
            (SIMPLE, ONES.astype(np.float32)),
            "tokens is float32 [3, 16], but bfloat16 [T, 16] is required; ",
        ),
        ((SIMPLE, ONES[:, :15]), "tokens is bfloat16 [3, 15], but bfloat16 [T, 16] is required; "),
        ((SIMPLE, ONES[0]), "tokens is bfloat16 [16], but bfloat16 [T, 16] is required; "),
        ((SIMPLE, ONES, [0, 3]), "selection[1] = 3, but tokens have rows 0..2; "),
        ((SIMPLE, ONES, [-1]), "selection[0] = -1, but tokens have rows 0..2; "),
        ((SIMPLE, ONES, [0.5]), "selection is float64 [1], but 1-D integers are required; "),
        ((SIMPLE, ONES, [[0]]), "selection is int64 [1, 1], but 1-D integers are required; "),
        ((SIMPLE, ONES, 1), "selection is int64 [], but 1-D integers are required; "),
        ((SIMPLE, ONES, [True] * 3), "selection is bool [3], but 1-D integers are required; "),
        ((SIMPLE, ONES, np.zeros(0)), "selection is float64 [0], but 1-D integers are required; "),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(LaunchError) as caught:
        reference.ssmm(*arguments)
    assert str(caught.value).startswith(message)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bias": np.zeros(3, np.float32)}, "bias is float32 [3], but float32 [4] is required; "),
        ({"bias": np.zeros(4)}, "bias is float64 [4], but float32 [4] is required; "),
        ({"bias": 1.0}, "bias is a float, but a numpy array or torch tensor is required; "),
        ({"scale": np.zeros(4, np.float32)}, "scale is float32 [4], but float32 [3] is required; "),
        ({"activation": "swish"}, "activation 'swish' is not one of silu, gelu, gelu_tanh, relu; "),
    ],
)
def test_refused_options(options, message):
    for call in (reference.ssmm, reference.bound):
        with pytest.raises(LaunchError) as caught:
            call(SIMPLE, ONES, **options)
        assert str(caught.value).startswith(message)


def test_scale_follows_the_selection():
    with pytest.raises(LaunchError, match=r"scale is float32 \[3\], but float32 \[2\] is required"):
        reference.ssmm(SIMPLE, ONES, [0, 1], scale=np.ones(3, np.float32))
