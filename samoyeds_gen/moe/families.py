"""The supported families of Hugging Face models: how each routes, and what its blocks are called.

Decides which models can be sparsified. Reads configurations, never imports transformers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from samoyeds_gen.errors import ModelError
from samoyeds_gen.language import Routing

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
"""Names of a configuration's `hidden_act`, and of the kernels' activations."""


@dataclass(frozen=True, slots=True)
class Family:
    """One `model_type`: its rule of routing, and names of parts of its blocks.

    `routing(config, experts, shared)` gives the rule; `wide` says that the router's linear step is
    taken in float32. `shared` names the shared expert's module, and `shared_gate` the linear layer
    whose sigmoid weighs it. `renames` are pairs of parts of names in checkpoints of earlier
    versions and what they are called today.
    """

    routing: Callable[[Any, int, int], Routing]
    wide: bool = False
    shared: str | None = None
    shared_gate: str | None = None
    renames: tuple[tuple[str, str], ...] = ()


def _mixtral(config: Any, experts: int, shared: int) -> Routing:
    return Routing(experts, config.num_experts_per_tok, "softmax_topk", True, shared=shared)


def _qwen(config: Any, experts: int, shared: int) -> Routing:
    top_k, renormalise = config.num_experts_per_tok, bool(config.norm_topk_prob)
    return Routing(experts, top_k, "softmax_topk", renormalise, shared=shared)


def _deepseek_v2(config: Any, experts: int, shared: int) -> Routing:
    limited = config.topk_method == "group_limited_greedy"
    return Routing(
        experts,
        config.num_experts_per_tok,
        "softmax_topk",
        False,
        scaling=float(config.routed_scaling_factor),
        groups=config.n_group if limited else 1,
        top_groups=config.topk_group if limited else 1,
        shared=shared,
    )


def _deepseek_v3(config: Any, experts: int, shared: int) -> Routing:
    return Routing(
        experts,
        config.num_experts_per_tok,
        "sigmoid_grouped",
        bool(config.norm_topk_prob),
        scaling=float(config.routed_scaling_factor),
        groups=config.n_group,
        top_groups=config.topk_group,
        bias=True,
        shared=shared,
    )


FAMILIES = {
    "mixtral": Family(_mixtral, renames=((".block_sparse_moe.", ".mlp."),)),
    "qwen2_moe": Family(_qwen, shared="shared_expert", shared_gate="shared_expert_gate"),
    "qwen3_moe": Family(_qwen),
    "olmoe": Family(_qwen),
    "deepseek_v2": Family(_deepseek_v2, wide=True, shared="shared_experts"),
    "deepseek_v3": Family(_deepseek_v3, wide=True, shared="shared_experts"),
}


def family_of(config: Any) -> Family:
    """The family of a model's configuration; ModelError for one that is not supported."""
    kind = getattr(config, "model_type", None)
    if kind not in FAMILIES:
        raise ModelError(
            f"models of type {kind!r} are not supported, but {', '.join(FAMILIES)} are",
            remedy="build SparseMoE from the weights of your own layers",
        )
    return FAMILIES[kind]


def activation_of(config: Any) -> str:
    """The kernels' name of the configuration's activation; ModelError for one they lack."""
    name = config.hidden_act
    if name not in ACTIVATIONS:
        raise ModelError(
            f"the model's activation {name!r} is not one of {', '.join(ACTIVATIONS)}",
            remedy="keep this model dense",
        )
    return ACTIVATIONS[name]
