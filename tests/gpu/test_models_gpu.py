"""Converted models on a GPU, eager, compiled and captured, beside dense ones of decoded weights.

Layers have the shapes the kernels want; the bound is samoyeds_gen.moe.bound's, element by element.
"""

import copy
import time
from contextlib import contextmanager

import pytest

from samoyeds_gen.runtime import driver_present, driver_problem

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not driver_present(), reason=driver_problem() or "no GPU"),
    pytest.mark.filterwarnings("ignore:TensorFloat32"),  # advice that the compiler gives
]

FORM = (1, 2, 128)
COMMON = {
    "vocab_size": 512,
    "hidden_size": 512,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": 512,
    "eos_token_id": None,
    "pad_token_id": 0,
}
LATENT = {
    "moe_intermediate_size": 256,
    "n_routed_experts": 16,
    "num_experts_per_tok": 4,
    "n_group": 4,
    "topk_group": 2,
    "kv_lora_rank": 64,
    "q_lora_rank": 96,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
    "routed_scaling_factor": 1.5,
    "first_k_dense_replace": 0,
    "n_shared_experts": 2,
}
QWEN = {"num_experts": 12, "moe_intermediate_size": 256, "num_experts_per_tok": 4}
MODELS = {
    "mixtral": ("MixtralConfig", {"num_local_experts": 8, "num_experts_per_tok": 2}),
    "qwen2_moe": ("Qwen2MoeConfig", {**QWEN, "shared_expert_intermediate_size": 512}),
    "qwen2_moe_lone": ("Qwen2MoeConfig", {**QWEN, "shared_expert_intermediate_size": 384}),
    "qwen3_moe": ("Qwen3MoeConfig", {**QWEN, "head_dim": 64, "norm_topk_prob": True}),
    "olmoe": ("OlmoeConfig", {"num_experts": 16, "num_experts_per_tok": 4}),
    "deepseek_v2": ("DeepseekV2Config", {**LATENT, "topk_method": "group_limited_greedy"}),
    "deepseek_v3": ("DeepseekV3Config", LATENT),
}


@pytest.fixture(scope="module", params=sorted(MODELS))
def models(request):
    """A sparse model and the dense one with its decoded weights, bfloat16, on the GPU."""
    from samoyeds_gen import moe
    from samoyeds_gen.moe.blocks import DenseBlock

    kind, values = MODELS[request.param]
    torch.manual_seed(0)
    config = getattr(transformers, kind)(**{**COMMON, **values})
    dense = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():
        for tensor in dense.parameters():
            if tensor.ndim > 1:
                tensor.mul_(3)
        for part in dense.modules():
            if "e_score_correction_bias" in part._buffers:  # float32 in every model that is loaded
                part.e_score_correction_bias = part.e_score_correction_bias.float()
    dense = dense.cuda().eval()
    sparse = copy.deepcopy(dense)
    moe.sparsify(sparse, *FORM)
    for name, layer in layers_of(sparse).items():
        block = DenseBlock(name, dense.get_submodule(name), dense.config)
        for expert in range(block.count + block.folded):
            for to, source in zip(block.mlp(expert), layer.experts.dense(expert), strict=True):
                to.copy_(source)
        if block.lone:
            for to, source in zip(block.shared_mlp(), layer.shared.dense(), strict=True):
                to.copy_(source)
    return sparse, dense


def layers_of(model):
    from samoyeds_gen.moe import SparseMoE

    return {name: part for name, part in model.named_modules() if isinstance(part, SparseMoE)}


def routed(layer, tokens):
    """Experts, weights and the weight of shared experts, as the layer's own rule has them."""
    from samoyeds_gen.moe.layer import logits_of
    from samoyeds_gen.moe.on_kernels import KERNELS

    logits = logits_of(layer.gate, tokens, layer.wide)
    bias = layer.gate.e_score_correction_bias.float() if layer.routing.bias else None
    found = KERNELS.route(layer.routing, logits, bias, None)
    weight = None
    if layer.shared_gate is not None:
        weight = torch.sigmoid(layer.shared_gate(tokens))[:, 0].float()
    return found.experts, found.weights, weight


def allowed(layer, tokens):
    """What a layer gives for tokens [T, h] in float64, and how far an element may be off."""
    from samoyeds_gen.moe.bound import experts_with_bound

    found = experts_with_bound(layer.experts, tokens, *routed(layer, tokens), lone=layer.shared)
    return found.value, found.bound


def assert_within(layer, tokens, y, times=1):
    value, bound = allowed(layer, tokens)
    assert ((y.double() - value).abs() <= times * bound).all()


@pytest.mark.parametrize("count", [1, 16, 129, 1024])
def test_layers_eager_compiled_and_captured(models, count):
    sparse, _ = models
    layer = next(iter(layers_of(sparse).values()))
    x = torch.randn(count, 512, device="cuda").bfloat16()
    with torch.no_grad():
        y = layer(x)
        assert_within(layer, x, y)
        torch.compiler.reset()
        compiled = torch.compile(layer, fullgraph=True)(x)
        # A compiler fuses what weighs shared experts, and rounds it once where torch does twice.
        assert layer.shared_gate is not None or torch.equal(compiled, y)
        assert_within(layer, x, compiled, times=2)
        graph = torch.cuda.CUDAGraph()
        given = x.clone()
        with torch.cuda.graph(graph):
            out = layer(given)
        for seed in range(4):  # the routing changes, and nothing waited for it
            torch.manual_seed(seed)
            given.copy_(torch.randn(count, 512, device="cuda") * (1 + seed))
            graph.replay()
            assert_within(layer, given, out)


@contextmanager
def replaced(model, names, change):
    """The layers `names` of a model give change(name, input, output) instead of their output."""
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda _, given, out, name=name: change(name, given[0], out)
        )
        for name in names
    ]
    yield
    for hook in hooks:
        hook.remove()


def test_logits_are_what_layers_allow(models):
    """A model's layers are within their bounds on what they are given in it, everything else is the
    dense model's to the last bit, and logits move no further than when layers move by bounds.
    """
    sparse, dense = models
    layers, outputs, bounds = layers_of(sparse), {}, {}
    ids = torch.randint(512, (2, 48), device="cuda", generator=torch.Generator("cuda"))

    def keep(name, x, y):
        rows = x.flatten(0, 1)
        value, bound = allowed(layers[name], rows)
        assert ((y.flatten(0, 1).double() - value).abs() <= bound).all(), name
        outputs[name], bounds[name] = y, bound.view_as(y)
        return y

    def moved(name, _, y):
        sign = torch.randint(0, 2, y.shape, device="cuda", generator=signs) * 2 - 1
        return (y + sign * bounds[name]).to(y.dtype)

    signs = torch.Generator("cuda").manual_seed(1)
    with torch.no_grad():
        with replaced(sparse, layers, keep):
            ours = sparse(ids).logits
        with replaced(dense, layers, lambda name, x, y: outputs[name]):
            assert torch.equal(dense(ids).logits, ours)
        theirs = dense(ids).logits.double()
        reach = torch.zeros_like(theirs)
        for _ in range(16):
            with replaced(dense, layers, moved):
                reach = reach.maximum((dense(ids).logits.double() - theirs).abs())
    assert ((ours.double() - theirs).abs() <= 2 * reach + 2.0**-7 * theirs.abs()).all()


DECIDED = 0.15
"""The lead of a token, in standard deviations of the logits, that rounding does not take away."""


def test_the_same_tokens_are_generated(models):
    """Up to a step whose first two tokens are nearly as likely as one another."""
    sparse, dense = models
    ids = torch.randint(512, (16, 8), device="cuda", generator=torch.Generator("cuda"))
    options = {"max_new_tokens": 6, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    ours = sparse.generate(ids, **options)[:, 8:]
    told = dense.generate(ids, **options, return_dict_in_generate=True, output_scores=True)
    theirs, scores = told.sequences[:, 8:], torch.stack(told.scores, 1).float()
    first, second = scores.topk(2).values.unbind(-1)
    decided = ((first - second) > DECIDED * scores.std(-1)).cumprod(1).bool()
    assert decided.sum() >= 16
    assert (ours == theirs)[decided].all()


def test_load_onto_the_gpu(models, tmp_path):
    from samoyeds_gen import moe

    sparse, _ = models
    moe.save(sparse, tmp_path / "out")
    loaded = moe.load(tmp_path / "out", device="cuda")
    ids = torch.randint(512, (1, 32), device="cuda")
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, sparse(ids).logits)


def host_times(*calls):
    """Seconds of the host that calls take while the GPU's queue has room: the least of many.

    They take turns, so that a host that is busy for a while is so for all of them.
    """
    best = [1.0] * len(calls)
    for _ in range(100):
        for number, call in enumerate(calls):
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(20):
                call()
            best[number] = min(best[number], (time.perf_counter() - began) / 20)
    return best


@pytest.mark.host_time
def test_host_overhead_of_a_layer_call(models, slowness):
    """Beyond the linear steps of the router and of the shared experts' gate, which dense layers
    have too.
    """
    from samoyeds_gen.moe.layer import logits_of

    sparse, _ = models
    layer = next(iter(layers_of(sparse).values()))
    x = torch.randn(16, 512, device="cuda").bfloat16()

    def steps():
        logits_of(layer.gate, x, layer.wide)
        if layer.shared_gate is not None:
            torch.sigmoid(layer.shared_gate(x))

    with torch.no_grad():
        whole, own = host_times(lambda: layer(x), steps)
    print(f"a layer call takes {1e6 * whole:.1f} us of the host, its linear steps {1e6 * own:.1f}")
    assert whole - own < 40e-6 * slowness
