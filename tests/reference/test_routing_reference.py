"""The routing reference against formulas written once more, token by token and in float64."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_cases import LOGITS, drawn_routings, logits_of, names, options

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.language import Routing
from samoyeds_gen.reference.exponential import LEAST, exponential, lane_sum, sigmoid
from samoyeds_gen.reference.routing import chooses_by_logit, combine, dispatch, rank, route

ULP = 2.0**-23
MOST_ULPS = 6  # of a weight: two exponentials, a sum, a quotient, scaling


def naive_scores(row, routing):
    if routing.kind == "sigmoid_grouped":
        return [1 / (1 + math.exp(-x)) for x in row]
    if routing.kind == "topk_softmax":
        return list(row)
    largest = max(row)
    powers = [math.exp(x - largest) for x in row]
    return [power / sum(powers) for power in powers]


def naive_route(row, routing, bias):
    """Chosen experts and weights of one token whose scores do not tie."""
    scores = naive_scores(row, routing)
    choice = [score + add for score, add in zip(scores, bias, strict=True)]
    size = routing.experts // routing.groups
    groups = []
    for g in range(routing.groups):
        members = sorted(choice[g * size : (g + 1) * size], reverse=True)
        groups.append(sum(members[:2]) if routing.group_score == "top2_sum" else members[0])
    kept = sorted(range(routing.groups), key=lambda g: -groups[g])[: routing.top_groups]
    allowed = [e for e in range(routing.experts) if e // size in kept]
    chosen = sorted(allowed, key=lambda e: -choice[e])[: routing.top_k]
    if routing.kind == "topk_softmax":
        total = sum(math.exp(row[e]) for e in chosen)
        weights = [math.exp(row[e]) / total for e in chosen]
    else:
        weights = [scores[e] for e in chosen]
        if routing.renormalise:
            total = sum(weights)
            weights = [weight / total for weight in weights]
    return chosen, [weight * routing.scaling for weight in weights]


@settings(max_examples=150)
@given(drawn_routings(most=64), st.integers(0, 9), st.integers(0, 2**32 - 1))
def test_route_is_the_formula(routing, tokens, seed):
    rng = np.random.default_rng(seed)
    # Logits of eighths, far enough apart for float32 and float64 to order scores alike.
    order = np.tile(np.arange(routing.experts, dtype=np.float32), (tokens, 1))
    logits = rng.permuted(order, axis=1) / 8
    bias = rng.permutation(routing.experts).astype(np.float32) * 4 if routing.bias else None
    routed = route(logits, routing, bias)
    adds = np.zeros(routing.experts) if bias is None else bias
    for token in range(tokens):
        chosen, weights = naive_route(logits[token].tolist(), routing, adds.tolist())
        assert routed.experts[token].tolist() == chosen
        bound = MOST_ULPS * ULP * np.abs(weights) + 2.0**-120
        assert (np.abs(routed.weights[token] - np.array(weights)) <= bound).all()


@settings(max_examples=100)
@given(drawn_routings(most=64), st.integers(0, 40), st.sampled_from(LOGITS), st.integers(0, 999))
def test_dispatch_is_a_stable_sort(routing, tokens, kind, seed):
    logits = logits_of(kind, tokens, routing, seed)
    bias, gate = options(routing, tokens, seed)
    routed = route(logits, routing, bias, gate)
    total = tokens * routing.choices
    assert routed.offsets.shape == (routing.experts + routing.shared + 1,)
    assert (routed.offsets[0], routed.offsets[-1]) == (0, total)
    assert (np.diff(routed.offsets) >= 0).all()
    assert sorted(routed.slots.ravel().tolist()) == list(range(total))
    assert routed.selection[routed.slots].tolist() == [[t] * routing.choices for t in range(tokens)]
    for expert, (first, end) in enumerate(zip(routed.offsets, routed.offsets[1:], strict=False)):
        mine = routed.selection[first:end]
        assert (np.diff(mine) > 0).all(), "tokens of an expert are in order, and different"
        if expert >= routing.experts:
            assert mine.tolist() == list(range(tokens))
            wanted = np.ones(tokens, np.float32) if gate is None else gate.astype(np.float32)
            assert routed.scale[first:end].tobytes() == wanted.tobytes()
        else:
            assert (routed.experts[mine] == expert).sum() == len(mine)
    chosen = routed.slots[:, : routing.top_k]
    assert routed.scale[chosen].tobytes() == routed.weights.tobytes()
    again = dispatch(routed.experts.astype(np.int64), routed.weights, routing, gate)
    for name, array in zip(routed._fields, routed, strict=True):
        assert getattr(again, name).tobytes() == array.tobytes(), name


@given(drawn_routings(most=40), st.integers(1, 9), st.sampled_from(LOGITS), st.integers(0, 999))
def test_experts_of_a_token_are_different_and_exist(routing, tokens, kind, seed):
    routed = route(logits_of(kind, tokens, routing, seed), routing, *options(routing, tokens, seed))
    for row in routed.experts:
        assert len(set(row.tolist())) == routing.top_k
        assert set(row.tolist()) <= set(range(routing.experts))


def test_ties_go_to_the_lower_expert():
    for kind in ("softmax_topk", "topk_softmax", "sigmoid_grouped"):
        routing = Routing(40, 3, kind, True)
        assert route(np.zeros((2, 40), np.float32), routing).experts.tolist() == [[0, 1, 2]] * 2
    logits = np.array([[0, 2, -0.0, 2, 1, 2]], np.float32)
    assert route(logits, Routing(6, 5, "topk_softmax", True)).experts.tolist() == [[1, 3, 5, 4, 0]]
    grouped = Routing(6, 2, "softmax_topk", False, groups=3, top_groups=1)
    assert route(logits, grouped).experts.tolist() == [[1, 0]]
    signs = np.array([[-0.0, 0.0]], np.float32)
    assert route(signs, Routing(2, 2, "topk_softmax", True)).experts.tolist() == [[0, 1]]


@pytest.mark.parametrize("kind", ["softmax_topk", "topk_softmax", "sigmoid_grouped"])
def test_nan_ranks_last_and_shows_in_the_weights(kind):
    logits = np.array([[np.nan, -3, 1, np.nan], [0, 1, 2, 3]], np.float32)
    routed = route(logits, Routing(4, 3, kind, True))
    assert routed.experts.tolist() == [[2, 1, 0], [3, 2, 1]]
    assert np.isnan(routed.weights[0]).all()
    assert np.isfinite(routed.weights[1]).all()
    everything = route(np.full((1, 4), np.nan, np.float32), Routing(4, 3, kind, True))
    assert everything.experts.tolist() == [[0, 1, 2]]
    assert np.isnan(everything.weights).all()


def test_a_bias_chooses_but_does_not_weigh():
    logits = np.array([[3, 2, 1, 0]], np.float32)
    bias = np.array([0, 0, 0, 10], np.float32)
    routed = route(logits, Routing(4, 2, "sigmoid_grouped", False, bias=True), bias)
    assert routed.experts.tolist() == [[3, 0]]
    assert routed.weights.tolist() == [sigmoid(np.float32([0, 3])).tolist()]


def test_logits_choose_where_softmax_keeps_their_order():
    assert chooses_by_logit(Routing(8, 2, "topk_softmax", True, bias=True))
    assert chooses_by_logit(Routing(8, 2, "softmax_topk", False, groups=4, top_groups=2))
    assert not chooses_by_logit(Routing(8, 2, "softmax_topk", False, bias=True))
    assert not chooses_by_logit(Routing(8, 2, "sigmoid_grouped", True))


@given(st.lists(st.floats(width=32), min_size=2, max_size=2))
def test_ranks_are_in_the_order_of_scores(pair):
    a, b = np.array(pair, np.float32)
    low, high = (int(rank(np.array([x]))[0]) for x in (a, b))
    assert low > 0
    assert high > 0
    known = [-np.inf if np.isnan(x) else x for x in (a, b)]
    assert (low < high, low == high) == (known[0] < known[1], known[0] == known[1])


def test_the_exponential_is_close():
    x = -np.concatenate([np.linspace(0, 87, 200_001), np.geomspace(1e-30, 87, 50_000)])
    x = x.astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    assert (np.abs(exponential(x) - exact) <= 1.5 * ULP * exact).all()
    edge = np.array([0, -0.0, LEAST, np.nextafter(LEAST, np.float32(-100)), -np.inf, np.nan])
    got = exponential(edge.astype(np.float32))
    assert got[[0, 1, 3, 4]].tolist() == [1, 1, 0, 0]
    assert got[2] > 0
    assert np.isnan(got[5])


def test_the_sigmoid_is_close():
    x = np.linspace(-87, 87, 100_001).astype(np.float32)
    exact = 1 / (1 + np.exp(-x.astype(np.float64)))
    assert (np.abs(sigmoid(x) - exact) <= 3 * ULP * exact).all()
    assert sigmoid(np.float32([-np.inf, np.inf, -1000, 1000])).tolist() == [0, 1, 0, 1]


@given(st.integers(1, 100), st.integers(0, 99))
def test_the_order_of_a_sum_is_exact_on_small_integers(columns, seed):
    values = np.random.default_rng(seed).integers(-50, 50, (3, columns)).astype(np.float32)
    assert lane_sum(values).tolist() == values.sum(axis=1).tolist()


@given(st.sampled_from(["float32", "bfloat16", "float16"]), st.integers(0, 5), st.integers(1, 4),
       st.integers(0, 9), st.integers(0, 99))  # fmt: skip
def test_combine_adds_rows(dtype, tokens, choices, columns, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(-8, 8, (tokens * choices, columns)).astype(names[dtype])
    slots = rng.permutation(tokens * choices).reshape(tokens, choices).astype(np.int32)
    out = combine(y, slots)
    assert out.dtype == y.dtype
    assert out.astype(float).tolist() == y[slots].astype(float).sum(axis=1).tolist()


def test_combine_adds_in_order_and_rounds_once():
    y = np.array([[2.0**24], [1], [1], [-(2.0**24)]], np.float32)
    assert combine(y, np.array([[0, 1, 2, 3], [1, 2, 0, 3]], np.int32)).tolist() == [[0], [2]]
    half = np.array([[256], [1], [1]], names["bfloat16"])  # 257 is no bfloat16
    assert combine(half, np.array([[0, 1, 2]], np.int32)).astype(float).tolist() == [[258]]


EIGHT = Routing(8, 2, "softmax_topk", True)
ZEROS = np.zeros((3, 8), np.float32)
IDS = np.array([[0, 1], [2, 3]], np.int32)
ONES = np.ones((2, 2), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: route(ZEROS[:, :7], EIGHT), "logits is float32 [3, 7], but float16 or"),
        (lambda: route(ZEROS.astype(float), EIGHT), "logits is float64 [3, 8], but float16 or"),
        (lambda: route([[0.0]], EIGHT), "logits is a list, but a numpy array or torch tensor"),
        (lambda: route(ZEROS, EIGHT, ZEROS[0]), "bias is given, the routing has bias=False; "),
        (lambda: route(ZEROS, Routing(8, 2, "sigmoid_grouped", True, bias=True)),
         "bias is missing, the routing has bias=True; "),
        (lambda: route(ZEROS, EIGHT, None, ZEROS[0]), "shared_weight is float32 [8], but float16"),
        (lambda: dispatch(IDS + 6, ONES, EIGHT), "experts[1, 0] is 8, experts are 0 to 7; "),
        (lambda: dispatch(IDS - 1, ONES, EIGHT), "experts[0, 0] is -1, experts are 0 to 7; "),
        (lambda: dispatch(IDS // 2, ONES, EIGHT), "token 0 has expert 0 twice; "),
        (lambda: dispatch(IDS.astype(np.int16), ONES, EIGHT), "experts is int16 [2, 2], but int32"),
        (lambda: dispatch(IDS, ONES[:1], EIGHT), "weights is float32 [1, 2], but float16 or"),
        (lambda: combine(ZEROS, IDS), "slots[1, 1] is 3, y has 3 rows; "),
        (lambda: combine(ZEROS, IDS.astype(np.int64)), "slots is int64 [2, 2], but int32 [any"),
    ],
)  # fmt: skip
def test_refuses(call, message):
    with pytest.raises(LaunchError) as caught:
        call()
    assert str(caught.value).startswith(message)
    assert caught.value.remedy
