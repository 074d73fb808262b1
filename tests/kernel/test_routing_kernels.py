"""Routing kernels in the simulator equal the reference to the bit, whatever is routed."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from routing_cases import LOGITS, drawn_routings, logits_of, names, options

from samoyeds_gen import reference
from samoyeds_gen.compiler.routing import MOST_ALONE, chunk_of
from samoyeds_gen.kernel.routing import RoutingKernel, combine, compile_routing
from samoyeds_gen.language import Routing, target_named

SM80 = target_named("sm_80")
ROUTINGS = {
    "smallest": Routing(1, 1, "sigmoid_grouped", True, shared=1),
    "two": Routing(2, 1, "softmax_topk", False),
    "mixtral": Routing(8, 2, "topk_softmax", True),
    "qwen2": Routing(60, 4, "softmax_topk", True, shared=2),
    "warp": Routing(32, 16, "softmax_topk", False, bias=True, scaling=0.7),
    "grouped": Routing(40, 6, "softmax_topk", False, groups=8, top_groups=3),
    "deepseek": Routing(
        72, 8, "sigmoid_grouped", True, scaling=2.5, groups=6, top_groups=2, bias=True, shared=1
    ),
    "sums": Routing(
        48, 5, "softmax_topk", True, groups=4, top_groups=2, group_score="top2_sum", bias=True
    ),
    "widest": Routing(512, 16, "sigmoid_grouped", False),
}
TOKENS = st.one_of(st.integers(0, 4), st.integers(30, 34), st.integers(0, 100))
cases = st.tuples(TOKENS, st.sampled_from(LOGITS), st.integers(0, 99))
routings = st.sampled_from(list(ROUTINGS.values()))
chunked = st.sampled_from([ROUTINGS[name] for name in ("two", "qwen2", "deepseek", "widest")])


def require_equal(routed, wanted):
    for name, got, want in zip(wanted._fields, routed, wanted, strict=True):
        assert got.dtype == want.dtype, name
        np.testing.assert_array_equal(got, want, err_msg=name)


def require_routed(routing, case, alone, dtype="float32"):
    tokens, kind, seed = case
    logits = logits_of(kind, tokens, routing, seed, dtype)
    bias, gate = options(routing, tokens, seed)
    kernel = RoutingKernel(routing, SM80, alone=alone)
    wanted = reference.route(logits, routing, bias, gate)
    require_equal(kernel(logits, bias, gate, device="cpu"), wanted)
    return kernel


@settings(max_examples=60)
@given(routings, cases)
def test_one_cta(routing, case):
    kernel = require_routed(routing, case, MOST_ALONE)
    assert [report.ctas for report in kernel.last_reports] == [1]


@settings(max_examples=40)
@given(chunked, cases)
def test_chunks_of_tokens(routing, case):
    kernel = require_routed(routing, case, 0)
    blocks = -(-case[0] // 32)
    assert [report.ctas for report in kernel.last_reports] == ([blocks] * 2 if blocks else [1])


@settings(max_examples=4)
@given(drawn_routings(most=300), cases, st.booleans())
def test_any_routing(routing, case, alone):
    require_routed(routing, case, MOST_ALONE if alone else 0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_logits(dtype):
    for kind in LOGITS:
        require_routed(ROUTINGS["deepseek"], (40, kind, 5), MOST_ALONE, dtype)


@pytest.mark.parametrize("tokens", [255, 256, 257])
def test_both_sides_of_one_cta(tokens):
    require_routed(ROUTINGS["qwen2"], (tokens, "zipf", 2), MOST_ALONE)


@pytest.mark.parametrize("tokens", [4097, 9000])
def test_chunks_of_several_words(tokens):
    """More tokens than chunks of 32: a chunk's bits take several words."""
    assert chunk_of(tokens) > 32
    require_routed(ROUTINGS["mixtral"], (tokens, "ties", 3), 0)


def test_chunks_cover_tokens():
    for tokens in (0, 1, 32, 33, 4096, 4097, 16384, 10**6):
        chunk = chunk_of(tokens)
        assert chunk % 32 == 0
        assert 32 <= chunk <= 1024
        assert chunk == 1024 or -(-tokens // chunk) <= 128


def test_results_do_not_change_from_run_to_run():
    routing = ROUTINGS["deepseek"]
    logits, bias = logits_of("ties", 90, routing, 0), np.zeros(72, np.float32)
    kernel = RoutingKernel(routing, SM80, alone=0)
    first, second = (kernel(logits, bias, device="cpu") for _ in range(2))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True))


@settings(max_examples=40)
@given(
    st.just(ROUTINGS["qwen2"]), TOKENS, st.booleans(),
    st.sampled_from(["int32", "int64"]), st.sampled_from(["float32", "bfloat16"]),
    st.integers(0, 99),
)  # fmt: skip
def test_sort_alone(routing, tokens, alone, index, dtype, seed):
    rng = np.random.default_rng(seed)
    every = np.tile(np.arange(routing.experts), (tokens, 1))
    experts = rng.permuted(every, axis=1)[:, : routing.top_k].astype(index)
    weights = rng.standard_normal((tokens, routing.top_k)).astype(names[dtype])
    _, gate = options(routing, tokens, seed)
    kernel = RoutingKernel(routing, SM80, alone=MOST_ALONE if alone else 0)
    wanted = reference.dispatch(experts, weights, routing, gate)
    require_equal(kernel.sort(experts, weights, gate, device="cpu"), wanted)


def test_sorting_a_route_again_changes_nothing():
    kernel = compile_routing(ROUTINGS["qwen2"], "sm_80")
    routed = kernel(logits_of("normal", 50, kernel.routing, 1), device="cpu")
    require_equal(kernel.sort(routed.experts, routed.weights, device="cpu"), routed)


@settings(max_examples=30)
@given(
    st.sampled_from(["float32", "bfloat16", "float16"]), st.sampled_from([1, 2, 3, 9, 11]),
    st.integers(0, 40), st.sampled_from([1, 2, 8, 12, 40, 130]), st.booleans(),
    st.integers(0, 99),
)  # fmt: skip
@example("bfloat16", 9, 40, 512, True, 0)
def test_combine(dtype, choices, tokens, columns, weighted, seed):
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((tokens * choices, columns)).astype(names[dtype])
    if y.size:
        y[0, 0] = rng.choice(np.array([np.nan, np.inf, -0.0])).astype(names[dtype])
    slots = rng.permutation(len(y)).reshape(tokens, choices).astype(np.int32)
    scale = rng.standard_normal(len(y)).astype(np.float32) if weighted else None
    if weighted and y.size:
        scale[-1] = rng.choice(np.array([0, -0.0, np.inf, np.nan], np.float32))
    got, want = combine(y, slots, scale, device="cpu"), reference.combine(y, slots, scale)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    got, want = got.astype(np.float32), want.astype(np.float32)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got) & (got == 0), np.signbit(want) & (want == 0))


def test_given_results_are_filled():
    routing = ROUTINGS["qwen2"]
    kernel = compile_routing(routing, "sm_80")
    logits = logits_of("normal", 7, routing, 0)
    out = kernel.empty(7, logits)
    assert kernel(logits, out=out, device="cpu") is out
    require_equal(out, reference.route(logits, routing))
    y = np.ones((7 * routing.choices, 3), np.float32)
    sums = np.zeros((7, 3), np.float32)
    assert combine(y, out.slots, out=sums, device="cpu") is sums
    assert (sums == routing.choices).all()


@pytest.mark.torch
def test_torch_tensors_give_torch_tensors():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    routing = ROUTINGS["qwen2"]
    kernel = compile_routing(routing, "sm_80")
    logits = torch.randn(9, 120, generator=torch.Generator().manual_seed(0)).bfloat16()[:, ::2]
    logits = torch.cat([logits, logits], dim=1)[:, :60]  # rows at a distance
    routed = kernel(logits, device="cpu")
    wanted = reference.route(logits, routing)
    for name, got, want in zip(wanted._fields, routed, wanted, strict=True):
        assert isinstance(got, torch.Tensor)
        np.testing.assert_array_equal(got.numpy(), want, err_msg=name)
    y = torch.ones(9 * routing.choices, 4, dtype=torch.bfloat16)
    assert combine(y, routed.slots, device="cpu").tolist() == [[float(routing.choices)] * 4] * 9
