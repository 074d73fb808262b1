"""What a layer of experts keeps in the memory of a GPU, once loaded and called."""

import gc

import pytest

import samoyeds_gen as sg
from samoyeds_gen.runtime import driver_present, driver_problem
from samoyeds_gen.runtime.memory import DeviceBuffer

torch = pytest.importorskip("torch", reason="buffers are torch's")
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not driver_present(), reason=driver_problem() or "no GPU"),
    pytest.mark.timeout(300),
]

EXPERTS, INNER, HIDDEN, TOP = 8, 2048, 4096, 2
DENSE = 2 * EXPERTS * 3 * INNER * HIDDEN
SHARE = 0.29
HOSTED = ("metadata", "indices", "header")


def resident():
    """Bytes that torch and this package hold on the GPU; packed words are not torch's."""
    gc.collect()
    ours = (each.nbytes for each in gc.get_objects() if type(each) is DeviceBuffer)
    return torch.cuda.memory_allocated() + sum(ours)


def one(m, k, v):
    return sg.encode(torch.randn(m, k, device="cuda") * k**-0.5, n=1, m=2, v=v)


def made(v):
    from samoyeds_gen.moe import SparseExperts

    return SparseExperts.of(
        *([one(*shape, v) for _ in range(EXPERTS)] for shape in 2 * [(INNER, HIDDEN)]),
        [one(HIDDEN, INNER, v) for _ in range(EXPERTS)],
    )


def hollow(like):
    from samoyeds_gen.moe import SparseExperts, StoredWeight

    pair = (
        StoredWeight.empty(part.format, part.dtype, part.shape).sparse()
        for part in (like.up_proj, like.down_proj)
    )
    return SparseExperts(*pair, count=EXPERTS)


def drawn(tokens):
    x = torch.randn(tokens, HIDDEN, device="cuda").bfloat16()
    chosen = torch.rand(tokens, EXPERTS, device="cuda").topk(TOP, 1).indices
    return x, chosen, torch.rand(tokens, TOP, device="cuda")


@pytest.mark.parametrize("v", [32, 128])
def test_a_loaded_and_called_layer_takes_29_percent(v, tmp_path):
    torch.manual_seed(0)
    calls = [drawn(tokens) for tokens in (1, 16, 300, 1024, 4096)]  # tiles of every height
    with torch.no_grad():
        first = made(v)
        expected = [first(*call) for call in calls]
        safetensors.save_file(first.state_dict(), tmp_path / "layer")
        empty = hollow(first)
        del first
        before = resident()
        state = safetensors.load_file(tmp_path / "layer", device="cuda")
        empty.load_state_dict(state, assign=True)
        layer = empty.to("cuda")
        del state
        for key, tensor in layer.state_dict().items():
            wanted = "cpu" if key.rpartition(".")[2] in HOSTED else "cuda"
            assert tensor.device.type == wanted, key
        assert resident() - before <= 0.251 * DENSE
        for call, y in zip(calls, expected, strict=True):
            assert torch.equal(layer(*call), y)
        del call, y
        share = (resident() - before) / DENSE
    print(f"(1,2,{v}): {100 * share:.2f} % of dense bytes are resident")
    assert 0.25 < share <= SHARE


def test_there_and_back():
    torch.manual_seed(0)
    layer = made(128)
    call = drawn(64)
    with torch.no_grad():
        y = layer(*call)
        before = resident()
        layer.cpu()
        assert before - resident() >= 0.25 * DENSE
        assert {each.device.type for each in layer.state_dict().values()} == {"cpu"}
        assert torch.equal(layer.cuda()(*call), y)
        whole = layer.up_proj.sparse().torch("cuda")
        assert whole == layer.up_proj.sparse()
        assert torch.equal(whole.decode(), layer.up_proj.sparse().decode())


@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")  # torch's own, for its memory pool
def test_inductor_captures_the_layer_into_a_cuda_graph():
    from torch._dynamo.utils import counters

    torch.manual_seed(0)
    layer = made(128)
    torch.compiler.reset()
    counters.clear()
    compiled = torch.compile(layer, fullgraph=True, mode="reduce-overhead")
    with torch.no_grad():
        for seed in range(5):
            torch.manual_seed(seed)
            call = drawn(64)
            assert torch.equal(compiled(*call).clone(), layer(*call))
    assert counters["inductor"]["cudagraph_skips"] == 0
