"""Routing kernels on a GPU: equal to the reference to the bit, in graphs, on any stream."""

import numpy as np
import pytest
from routing_cases import logits_of, options

from samoyeds_gen import reference
from samoyeds_gen.errors import LaunchError
from samoyeds_gen.kernel.routing import combine, compile_routing
from samoyeds_gen.language import Routing
from samoyeds_gen.runtime import driver_present, driver_problem

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not driver_present(), reason=str(driver_problem())),
]

ROUTINGS = {
    "mixtral": Routing(8, 2, "topk_softmax", True),
    "qwen2": Routing(60, 4, "softmax_topk", False, shared=1),
    "qwen3": Routing(128, 8, "softmax_topk", True),
    "deepseek_v2": Routing(
        160, 6, "softmax_topk", False, scaling=16.0, groups=8, top_groups=3, shared=2
    ),
    "deepseek_v3": Routing(
        256, 8, "sigmoid_grouped", True, scaling=2.5, groups=8, top_groups=4, bias=True, shared=1
    ),
    "softmax_bias": Routing(64, 6, "softmax_topk", False, bias=True),
    "widest": Routing(512, 16, "sigmoid_grouped", False),
    "smallest": Routing(2, 1, "softmax_topk", True),
}
TOKENS = (0, 1, 16, 300, 4096, 16384)
KINDS = ("normal", "special", "one expert", "ties")


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


def on_gpu(torch, array):
    if array is None:
        return None
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16).cuda()
    return torch.from_numpy(array).cuda()


def require_equal(routed, wanted):
    """Integers and weights to the bit; any NaN is a NaN."""
    for name, got, want in zip(wanted._fields, routed, wanted, strict=True):
        np.testing.assert_array_equal(got.cpu().numpy(), want, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ROUTINGS)
def test_every_kind_and_size(torch, name, dtype):
    routing = ROUTINGS[name]
    kernel = compile_routing(routing)
    for seed, tokens in enumerate(TOKENS):
        for kind in KINDS[: 1 if tokens > 300 else None]:
            logits = logits_of(kind, tokens, routing, seed, dtype)
            bias, gate = options(routing, tokens, seed)
            wanted = reference.route(logits, routing, bias, gate)
            arrays = [on_gpu(torch, each) for each in (logits, bias, gate)]
            for _ in range(2):  # checked, then repeated
                require_equal(kernel(*arrays), wanted)


@pytest.mark.parametrize("tokens", [1, 33, 128, 129, 250])
def test_one_launch_and_two_agree(torch, tokens):
    routing = ROUTINGS["deepseek_v2"]
    logits = on_gpu(torch, logits_of("normal", tokens, routing, 3))
    kernel = compile_routing(routing)
    results = []
    for alone in (0, 256):
        kernel = type(kernel)(routing, kernel.target, alone=alone)
        results.append(kernel(logits))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("index", ["int32", "int64"])
@pytest.mark.parametrize("tokens", [0, 5, 300, 4096])
def test_sort_alone(torch, tokens, index):
    routing = ROUTINGS["qwen2"]
    rng = np.random.default_rng(tokens)
    experts = rng.permuted(np.tile(np.arange(60), (tokens, 1)), axis=1)[:, :4].astype(index)
    weights = rng.random((tokens, 4)).astype(np.float32)
    wanted = reference.dispatch(experts, weights, routing)
    got = compile_routing(routing).sort(on_gpu(torch, experts), on_gpu(torch, weights))
    require_equal(got, wanted)


def test_rows_at_a_distance(torch):
    routing = ROUTINGS["qwen3"]
    wide = torch.randn(200, 200, device="cuda")
    kernel = compile_routing(routing)
    got = kernel(wide[:, 40:168])
    require_equal(got, reference.route(wide[:, 40:168].cpu().numpy(), routing))


@pytest.mark.parametrize("tokens", [16, 300, 4096])
def test_a_graph_replays_with_other_logits(torch, tokens):
    routing = ROUTINGS["deepseek_v3"]
    kernel = compile_routing(routing)
    bias = torch.randn(256, device="cuda")
    logits = torch.randn(tokens, 256, device="cuda")
    y = torch.randn(tokens * routing.choices, 64, device="cuda").bfloat16()
    out = kernel.empty(tokens, logits)
    sums = torch.empty(tokens, 64, device="cuda", dtype=torch.bfloat16)
    combine(y, kernel(logits, bias, out=out).slots, out=sums)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = kernel(logits, bias)
        kernel(logits, bias, out=out)
        combine(y, out.slots, out=sums)
        also = combine(y, made.slots)
    for seed in range(4):
        generator = torch.Generator(device="cuda").manual_seed(seed)
        logits.normal_(generator=generator)
        for each in (*out, sums):
            each.zero_()
        graph.replay()
        torch.cuda.synchronize()
        wanted = reference.route(logits.cpu().numpy(), routing, bias.cpu().numpy())
        require_equal(out, wanted)
        require_equal(made, wanted)
        summed = reference.combine(y.cpu(), wanted.slots).astype(np.float32)
        np.testing.assert_array_equal(sums.float().cpu().numpy(), summed)
        assert torch.equal(sums, also)


def test_streams_at_once_do_not_meet(torch):
    routing = ROUTINGS["qwen3"]
    kernel = compile_routing(routing)
    logits = [torch.randn(2000, 128, device="cuda") for _ in range(4)]
    wanted = [reference.route(each.cpu().numpy(), routing) for each in logits]
    streams = [torch.cuda.Stream() for _ in logits]
    torch.cuda.synchronize()
    results = []
    for turn in range(40):
        with torch.cuda.stream(streams[turn % 4]):
            results.append(kernel(logits[turn % 4]))
    torch.cuda.synchronize()
    for turn, result in enumerate(results):
        require_equal(result, wanted[turn % 4])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize(
    ("tokens", "choices", "columns"),
    [(1, 1, 1), (16, 2, 4096), (300, 9, 2048), (7, 3, 1001), (33, 17, 514), (4096, 8, 2048)],
)
def test_combine(torch, tokens, choices, columns, dtype):
    generator = torch.Generator(device="cuda").manual_seed(columns)
    y = torch.randn(tokens * choices, columns, device="cuda", generator=generator)
    y = y.to(getattr(torch, dtype))
    slots = torch.randperm(len(y), device="cuda", generator=generator).int().view(tokens, choices)
    scale = torch.randn(len(y), device="cuda", generator=generator)

    def summed(rows):
        wanted = rows[slots[:, 0].long()]
        for choice in range(1, choices):
            wanted = wanted + rows[slots[:, choice].long()]
        return wanted.to(y.dtype)

    wanted = summed(y.float())
    for _ in range(2):
        assert torch.equal(combine(y, slots), wanted)
        assert torch.equal(combine(y, slots, scale), summed(y.float() * scale[:, None]))
    wide = torch.empty(len(y), columns + 3, device="cuda", dtype=y.dtype)
    wide[:, 2 : columns + 2] = y
    assert torch.equal(combine(wide[:, 2 : columns + 2], slots), wanted)


def test_host_arrays_run_on_the_gpu(torch):
    routing = ROUTINGS["qwen2"]
    kernel = compile_routing(routing)
    logits = logits_of("normal", 40, routing, 1)
    wanted = reference.route(logits, routing)
    for name, array in zip(wanted._fields, kernel(logits, device="gpu"), strict=True):
        np.testing.assert_array_equal(array, getattr(wanted, name), err_msg=name)
    y = np.arange(40 * 5 * 3, dtype=np.float32).reshape(-1, 3)
    got = combine(y, wanted.slots, device="gpu")
    np.testing.assert_array_equal(got, reference.combine(y, wanted.slots))
    got = combine(y, wanted.slots, wanted.scale, device="gpu")
    np.testing.assert_array_equal(got, reference.combine(y, wanted.slots, wanted.scale))


def test_refuses_other_places(torch):
    kernel = compile_routing(ROUTINGS["smallest"])
    logits = torch.zeros(3, 2, device="cuda")
    with pytest.raises(LaunchError, match="device='cpu' was asked for"):
        kernel(logits, device="cpu")
    with pytest.raises(LaunchError, match="is on the host"):
        compile_routing(ROUTINGS["softmax_bias"])(
            torch.zeros(3, 64, device="cuda"), torch.zeros(64)
        )
    with pytest.raises(LaunchError, match=r"out\.experts is torch int32"):
        kernel(logits, out=kernel.empty(4, logits))
