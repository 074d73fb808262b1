"""transformers' own implementations of experts, over the same dense weights as the grouped peer.

Each is what a model of transformers runs when its configuration says so.
"""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.moe.bench.weights import LayerWeights
from samoyeds_gen.moe.skeleton import transformers
from samoyeds_gen.tune.contender import Failure
from samoyeds_gen.tune.layers import Case
from samoyeds_gen.tune.replay import first_line

Layer = Callable[[Array, Array, Array], Array]

IMPLEMENTATIONS = {
    "hf_grouped_mm": "grouped_mm",
    "hf_batched_mm": "batched_mm",
    "hf_eager": "eager",
}
"""Names of the contenders and of what the configuration is told."""

NEVER_CAPTURED = ("hf_eager",)
"""Those that read counts on the host."""

MOST_COPIED = 40e9
"""Bytes that batched_mm may copy of the weights: it takes those of every choice apart."""


def hf_layers(weights: LayerWeights, case: Case) -> Iterator[tuple[str, Layer] | Failure]:
    """Every implementation the installed transformers has, or why it is left out."""
    try:
        module = _experts(weights)
    except (ModelError, ImportError, AttributeError, TypeError, RuntimeError) as error:
        yield Failure("transformers", first_line(error))
        return
    for name, kind in IMPLEMENTATIONS.items():
        copied = 2 * case.tokens * case.config.top * case.config.expert_elements
        if kind == "batched_mm" and copied > MOST_COPIED:
            yield Failure(name, f"left out, since it would copy {copied / 1e9:.0f} GB of weights")
        else:
            yield name, _as(module, kind)


def _experts(weights: LayerWeights) -> Any:
    """The experts of a Mixtral of this size over the weights that are there."""
    package, config = transformers(), weights.config
    models = importlib.import_module("transformers.models.mixtral.modeling_mixtral")
    described = package.MixtralConfig(
        hidden_size=config.hidden,
        intermediate_size=config.inner,
        num_local_experts=config.experts,
        num_experts_per_tok=config.top,
        hidden_act="silu",
    )
    with torch.device("meta"):
        module = models.MixtralExperts(described)
    module.gate_up_proj = nn.Parameter(weights.gate_up, requires_grad=False)
    module.down_proj = nn.Parameter(weights.down, requires_grad=False)
    return module.eval()


def _as(module: Any, kind: str) -> Layer:
    def layer(tokens: Array, chosen: Array, weights: Array) -> Array:
        module.config._experts_implementation = kind
        with torch.no_grad():
            return module(tokens, chosen, weights)

    return layer
