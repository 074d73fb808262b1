"""Grouped kernels and whole layers of experts on a GPU, every element, against the reference."""

import time

import numpy as np
import pytest

import samoyeds_gen as sg
from samoyeds_gen.formats import Format, gate_block, interleave_rows, stack_weights
from samoyeds_gen.reference import grouped_with_bound
from samoyeds_gen.runtime import device_target, driver_present, driver_problem

torch = pytest.importorskip("torch", reason="buffers and checks are torch's")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not driver_present(), reason=driver_problem() or "no GPU"),
    pytest.mark.timeout(300),
]

FORMATS = (
    Format(1, 2, 128),
    Format(1, 2, 32),
    Format(2, 4, 64),
    Format(1, 1, 32),
    Format(4, 8, 32),
)
SCHEDULES = ("ssmm_sm90", "ssmm_sm80_prefix", "ssmm_sm80_exchange", "ssmm_sm80_expand")
COUNTS = ((5, 0, 200, 1, 0, 33), (0, 0, 300), (1,), (7,) * 40)


def stacked(form, experts, rows, k, dtype, block=0):
    def one(rows):
        dense = torch.randn(rows, k, device="cuda") * k**-0.5
        return sg.encode(dense, n=form.n, m=form.m, v=form.v, dtype=dtype)

    if block:
        return stack_weights([interleave_rows(one(rows), one(rows), block) for _ in range(experts)])
    return stack_weights([one(rows) for _ in range(experts)])


@pytest.mark.parametrize("gather", ["on_load", "before", None])
@pytest.mark.parametrize("form", FORMATS, ids=str)
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_row_is_its_experts(name, form, gather):
    from samoyeds_gen.compiler import first_violation
    from samoyeds_gen.language import dtype_named, load_schedule, make_ssmm, target_named
    from samoyeds_gen.language.schedule import Pack

    target = device_target()
    for seed, counts in enumerate(COUNTS):
        torch.manual_seed(seed)
        dtype = ("bfloat16", "float16")[seed % 2]
        schedule = load_schedule(name, form, dtype_named(dtype))
        options = {"gated": True, "activation": "silu"} if gather else {"scale": True}
        if gather:
            from dataclasses import replace

            schedule = replace(schedule, pack=Pack(gather=gather), where=())
            options["index"] = "int32"
        problem = make_ssmm(form, dtype, grouped=True, **options)
        broken = first_violation(schedule, problem, target_named(target))
        if broken:
            pytest.skip(f"{name} is not for this GPU, format or gate: {broken}")
        kernel = sg.compile_grouped(
            schedule, n=form.n, m=form.m, v=form.v, dtype=dtype, target=target, **options
        )
        k, block = 328, gate_block(form) if gather else 0
        rows = 3 * max(block, form.m)
        w = stacked(form, len(counts), rows, k, dtype, block)
        n = sum(counts)
        offsets = torch.tensor(np.cumsum([0, *counts]), dtype=torch.int32, device="cuda")
        kind = getattr(torch, dtype)
        tokens = torch.randn(90 if gather else n, k, device="cuda").to(kind)
        selection = torch.randint(0, 90, (n,), device="cuda", dtype=torch.int32) if gather else None
        scale = None if gather else torch.randn(n, device="cuda")
        out = torch.full((n, rows), float("nan"), device="cuda", dtype=kind)
        kernel(w, tokens, offsets, selection, scale=scale, out=out)
        value, bound = grouped_with_bound(
            w.numpy(),
            tokens.cpu(),
            offsets.cpu(),
            None if selection is None else selection.cpu(),
            gate_block=kernel.gate_block,
            fold=schedule.stationary.fold,
            activation=kernel.problem.activation,
            scale=None if scale is None else scale.cpu(),
        )
        wrong = ~(np.abs(out.double().cpu().numpy() - value) <= bound)
        assert not wrong.any(), f"{counts} {dtype}: {wrong.sum()} of {wrong.size}"


def layer(experts=16, hidden=256, wide=192, shared=0):
    from samoyeds_gen.moe.experts import SparseExperts

    def one(m, k):
        return sg.encode(torch.randn(m, k, device="cuda") * k**-0.5, n=1, m=2, v=64)

    count = experts + shared
    return SparseExperts.of(
        [one(wide, hidden) for _ in range(count)],
        [one(wide, hidden) for _ in range(count)],
        [one(hidden, wide) for _ in range(count)],
        shared=shared,
    )


def drawn(tokens, experts, top, hidden=256):
    x = torch.randn(tokens, hidden, device="cuda").bfloat16()
    chosen = torch.rand(tokens, experts, device="cuda").topk(top, 1).indices
    return x, chosen, torch.rand(tokens, top, device="cuda")


def close(y, expected):
    """Outputs of the same roundings, sums in another order: a few units in the last place."""
    error = (y.float() - expected.float()).abs()
    assert not y.isnan().any()
    assert (error <= 2**-6 * expected.float().abs() + 2**-6).all(), error.max()


@pytest.mark.parametrize("shared", [0, 2])
@pytest.mark.parametrize("tokens", [1, 16, 130, 700, 3000])
def test_a_layer_is_what_the_reference_computes(tokens, shared):
    from samoyeds_gen.moe.backend import use_backend

    torch.manual_seed(tokens)
    experts = layer(shared=shared)
    x, chosen, weights = drawn(tokens, 16, 4)
    with torch.no_grad():
        y = experts(x, chosen, weights)
        with use_backend("reference"):
            close(y, experts(x, chosen, weights))
            everyone = torch.zeros_like(chosen) + torch.arange(4, device="cuda")
            expected = experts(x, everyone, weights)
        close(experts(x, everyone, weights), expected)


@pytest.mark.parametrize("tokens", [16, 700])
def test_a_layer_of_ring_kernels(tokens, monkeypatch):
    """What GPUs without wgmma run, on any GPU."""
    from samoyeds_gen.moe import on_kernels
    from samoyeds_gen.moe.backend import use_backend
    from samoyeds_gen.tune import experts as choice

    monkeypatch.setattr(choice, "_candidates", lambda problem: ())
    on_kernels._kernel.cache_clear()
    torch.manual_seed(tokens)
    experts = layer(shared=1)
    x, chosen, weights = drawn(tokens, 16, 4)
    with torch.no_grad():
        y = experts(x, chosen, weights)
        with use_backend("reference"):
            close(y, experts(x, chosen, weights))
    on_kernels._kernel.cache_clear()


def test_a_graph_replays_with_other_routing():
    torch.manual_seed(0)
    experts = layer()
    x, chosen, weights = drawn(64, 16, 4)
    stream = torch.cuda.Stream()
    with torch.no_grad(), torch.cuda.stream(stream):
        experts(x, chosen, weights)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            y = experts(x, chosen, weights)
    for seed in range(3):
        torch.manual_seed(seed + 1)
        for old, new in zip((x, chosen, weights), drawn(64, 16, 4), strict=True):
            old.copy_(new)
        graph.replay()
        torch.cuda.synchronize()
        with torch.no_grad():
            assert torch.equal(y, experts(x, chosen, weights))


@pytest.mark.host_time
def test_host_time_of_a_layer_call(slowness):
    experts = layer()
    x, chosen, weights = drawn(16, 16, 4)
    best = 1.0
    with torch.no_grad():
        for _ in range(60):
            experts(x, chosen, weights)
        for _ in range(40):
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(20):
                experts(x, chosen, weights)
            best = min(best, (time.perf_counter() - began) / 20)
    print(f"a layer call takes {1e6 * best:.1f} us of the host")
    assert best < 40e-6 * slowness


@pytest.mark.parametrize("tokens", [1, 16, 100, 1000])
def test_a_layer_whose_launches_begin_early_computes_the_same(tokens, monkeypatch):
    """Call by call, from the host and as the graph that calls become which repeat."""
    from samoyeds_gen.language import Routing
    from samoyeds_gen.moe import on_kernels
    from samoyeds_gen.tune import experts as planner

    routing = Routing(16, 4, "softmax_topk", renormalise=True, shared=1)
    found = []
    for early in (0, max(planner.TOKENS)):
        monkeypatch.setattr(planner, "EARLY_TO", early)
        on_kernels._kernel.cache_clear()
        torch.manual_seed(tokens)
        experts = layer(shared=1)
        x = torch.randn(tokens, 256, device="cuda").bfloat16()
        logits = torch.randn(tokens, 16, device="cuda")
        found.append([experts.routed(x, logits, routing) for _ in range(30)])
    on_kernels._kernel.cache_clear()
    assert not found[0][0].isnan().any()
    assert all(torch.equal(each, found[0][0]) for several in found for each in several)
