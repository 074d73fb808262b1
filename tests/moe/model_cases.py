"""Tiny models of every supported family, and their twins with decoded weights."""

# ruff: noqa: E402

import copy

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from samoyeds_gen.moe import SparseMoE
from samoyeds_gen.moe.blocks import DenseBlock

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

VOCABULARY, HIDDEN, INNER = 32, 64, 32
FORM = (1, 2, 32)

COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": None,
    "pad_token_id": 0,
}
LATENT = {
    "moe_intermediate_size": INNER,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_group": 4,
    "topk_group": 2,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "routed_scaling_factor": 1.5,
}
QWEN = {"num_experts": 6, "moe_intermediate_size": INNER, "num_experts_per_tok": 2}

MODELS = {
    "mixtral": ("MixtralConfig", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2_moe": ("Qwen2MoeConfig", {**QWEN, "shared_expert_intermediate_size": 2 * INNER}),
    "qwen2_moe_lone": ("Qwen2MoeConfig", {**QWEN, "shared_expert_intermediate_size": 48}),
    "qwen3_moe": ("Qwen3MoeConfig", {**QWEN, "head_dim": 16, "norm_topk_prob": True}),
    "olmoe": ("OlmoeConfig", {"num_experts": 6, "num_experts_per_tok": 3}),
    "deepseek_v2": (
        "DeepseekV2Config",
        {
            **LATENT,
            "n_shared_experts": 2,
            "topk_method": "group_limited_greedy",
            "first_k_dense_replace": 1,
            "num_hidden_layers": 3,
        },
    ),
    "deepseek_v3": ("DeepseekV3Config", {**LATENT, "n_shared_experts": 1}),
}


def config_of(name, **changes):
    kind, values = MODELS[name]
    given = {**COMMON, **values, **changes}
    if name == "deepseek_v3":
        given.setdefault("first_k_dense_replace", 0)
    return getattr(transformers, kind)(**given)


def build(name, *, seed=0, dtype=torch.float32, gain=6.0, **changes):
    """A model in eval mode with weights large enough for its experts to be heard in the logits."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config_of(name, **changes))
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.ndim > 1:
                tensor.mul_(gain)
        for key, tensor in model.named_buffers():
            if key.endswith("e_score_correction_bias"):
                tensor.copy_(torch.randn(tensor.shape) / 10)
    return model.to(dtype).eval()


def token_ids(seed, batch=2, length=7):
    return torch.randint(VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


def sparse_layers(model):
    return {name: part for name, part in model.named_modules() if isinstance(part, SparseMoE)}


def twin_of(dense, sparse):
    """A copy of the dense model with what the sparse one's weights decode to."""
    twin = copy.deepcopy(dense)
    for name, layer in sparse_layers(sparse).items():
        block = DenseBlock(name, twin.get_submodule(name), twin.config)
        for expert in range(block.count + block.folded):
            write(block.mlp(expert), layer.experts.dense(expert))
        if block.lone:
            write(block.shared_mlp(), layer.shared.dense())
    return twin


def write(targets, sources):
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)
