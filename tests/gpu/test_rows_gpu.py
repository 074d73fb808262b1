"""Linear layers and MLPs on a GPU: repeated, moved, captured; every element within its bound."""

import pytest

import samoyeds_gen as sg
from samoyeds_gen.runtime import device_target, driver_present, driver_problem

torch = pytest.importorskip("torch", reason="layers are torch's")

from samoyeds_gen.moe import SparseLinear, SparseMLP  # noqa: E402
from samoyeds_gen.moe.bound import mlp_with_bound  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not driver_present(), reason=driver_problem() or "no GPU"),
    pytest.mark.skipif(
        driver_present() and device_target() != "sm_90a", reason="one launch is Hopper's"
    ),
]

K, INNER = 512, 384


def weight(m, k, seed):
    generator = torch.Generator("cuda").manual_seed(seed)
    dense = torch.randn(m, k, device="cuda", generator=generator) * k**-0.5
    return sg.encode(dense, n=1, m=2, v=64)


def tokens(count, k=K, seed=0):
    generator = torch.Generator("cuda").manual_seed(seed + count)
    return torch.randn(count, k, device="cuda", generator=generator).bfloat16()


def assert_linear(layer, x, y):
    """Float32 sums of k products, rounded once to bfloat16."""
    dense = layer.weight.sparse().decode().double()
    rows = x.reshape(-1, x.shape[-1]).double()
    wanted = rows @ dense.T + (0 if layer.bias is None else layer.bias.double())
    sums = rows.abs() @ dense.abs().T + 1
    bound = 2.0**-8 * wanted.abs() + K * 2.0**-23 * sums
    assert ((y.reshape(wanted.shape).double() - wanted).abs() <= bound).all()


@pytest.fixture(params=[False, True], ids=["plain", "bias"])
def linear(request):
    bias = torch.linspace(-2, 2, 320) if request.param else None
    return SparseLinear(weight(320, K, 1), bias).cuda()


@pytest.mark.parametrize("count", [0, 1, 7, 64, 1000])
def test_linear_layers_repeat_for_other_tokens(linear, count):
    held = []
    with torch.no_grad():
        for seed in range(4):
            x = tokens(count, seed=seed)
            y = linear(x)
            held.append((x, y))  # what is held moves the next call's arrays
        for x, y in held:
            assert_linear(linear, x, y)


def test_linear_layers_take_strides_and_types(linear):
    wide = tokens(40, 2 * K)
    with torch.no_grad():
        for x in (wide[:, :K], wide[:, K:], wide.view(4, 10, 2 * K)[..., :K], wide[::2, 8 : K + 8]):
            assert_linear(linear, x, linear(x))
        y = linear(wide[:, :K].float())
    assert y.dtype == torch.float32
    assert_linear(linear, wide[:, :K], y)


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_linear_layers_are_captured(linear, known):
    """A number of tokens that was never seen before cannot be prepared inside of a capture."""
    x = tokens(33)
    with torch.no_grad():
        linear(tokens(33 if known else 40))
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = linear(x)
        for seed in range(3):
            x.copy_(tokens(33, seed=seed))
            graph.replay()
            assert_linear(linear, x, y)
        linear(tokens(33, seed=9))
        x.copy_(tokens(33, seed=10))
        graph.replay()
        assert_linear(linear, x, y)


def assert_mlp(mlp, x, y):
    wanted = mlp_with_bound(mlp, x)
    assert ((y.double() - wanted.value).abs() <= wanted.bound).all()


@pytest.mark.parametrize("count", [1, 100])
def test_mlps_repeat_for_other_tokens(count, mlp):
    with torch.no_grad():
        for seed in range(3):
            x = tokens(count, seed=seed)
            assert_mlp(mlp, x, mlp(x))


def graphs_of(mlp):
    """How many graphs its launches became."""
    (call,) = mlp.up_proj.sparse().derived("prepared rows", dict).values()
    return call._graphs._made


@pytest.fixture
def mlp():
    return SparseMLP.of(weight(INNER, K, 2), weight(INNER, K, 3), weight(K, INNER, 4)).cuda()


def test_calls_in_the_same_places_become_a_graph(mlp):
    x = tokens(100)
    with torch.no_grad():
        for seed in range(6):
            x.copy_(tokens(100, seed=seed))
            y = None  # its place is free for the next call
            y = mlp(x)
            assert_mlp(mlp, x, y)
        assert graphs_of(mlp) >= 1
        assert_mlp(mlp, other := tokens(100, seed=7), mlp(other))
        with torch.cuda.stream(torch.cuda.Stream()):
            x.copy_(tokens(100, seed=8))
            y = None
            y = mlp(x)
            torch.cuda.current_stream().synchronize()
        assert_mlp(mlp, x, y)


def test_a_graph_that_runs_may_be_dropped(mlp):
    x = tokens(4096)
    with torch.no_grad():
        for _ in range(3):
            y = None
            y = mlp(x)
        assert graphs_of(mlp) >= 1
        wanted = y.clone()
        torch.cuda.synchronize()
        y = None
        y = mlp(x)
        mlp.up_proj.sparse().derived("prepared rows", dict).clear()
        torch.cuda.synchronize()
    assert torch.equal(y, wanted)


def test_calls_that_became_a_graph_are_captured(mlp):
    x = tokens(33)
    with torch.no_grad():
        for _ in range(4):
            y = None
            y = mlp(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = mlp(x)
        x.copy_(tokens(33, seed=5))
        graph.replay()
        assert_mlp(mlp, x, y)
