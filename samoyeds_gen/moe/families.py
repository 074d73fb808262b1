"""The supported families of Hugging Face models: how each routes, and what its blocks are called.

Decides which models can be sparsified. Reads configurations, never imports transformers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from samoyeds_gen.errors import ModelError
from samoyeds_gen.moe.routing import Routing

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

    `routing(config, experts)` gives the rule; `shared` names the shared expert's module, and
    `shared_gate` the linear layer whose sigmoid weighs it. `renames` are pairs of parts of names
    in checkpoints of earlier versions and what they are called today.
    """

    routing: Callable[[Any, int], Routing]
    shared: str | None = None
    shared_gate: str | None = None
    renames: tuple[tuple[str, str], ...] = ()


def _mixtral(config: Any, experts: int) -> Routing:
    return Routing(experts, config.num_experts_per_tok, renormalise=True)


def _qwen(config: Any, experts: int) -> Routing:
    return Routing(
        experts,
        config.num_experts_per_tok,
        renormalise=bool(config.norm_topk_prob),
        rounded=True,
    )


def _deepseek_v2(config: Any, experts: int) -> Routing:
    limited = config.topk_method == "group_limited_greedy"
    return Routing(
        experts,
        config.num_experts_per_tok,
        groups=config.n_group if limited else 1,
        kept_groups=config.topk_group if limited else 1,
        renormalise=False,
        factor=float(config.routed_scaling_factor),
        wide=True,
    )


def _deepseek_v3(config: Any, experts: int) -> Routing:
    return Routing(
        experts,
        config.num_experts_per_tok,
        score="sigmoid",
        bias=True,
        groups=config.n_group,
        kept_groups=config.topk_group,
        group_score="sum_of_two",
        renormalise=bool(config.norm_topk_prob),
        epsilon=1e-20,
        factor=float(config.routed_scaling_factor),
        wide=True,
    )


FAMILIES = {
    "mixtral": Family(_mixtral, renames=((".block_sparse_moe.", ".mlp."),)),
    "qwen2_moe": Family(_qwen, shared="shared_expert", shared_gate="shared_expert_gate"),
    "qwen3_moe": Family(_qwen),
    "olmoe": Family(_qwen),
    "deepseek_v2": Family(_deepseek_v2, shared="shared_experts"),
    "deepseek_v3": Family(_deepseek_v3, shared="shared_experts"),
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
