"""The decoder layers that are compared, and the calls of a model in use: prefill and decode."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from samoyeds_gen.errors import TuneError
from samoyeds_gen.language import Routing
from samoyeds_gen.tune.layers.configs import LayerConfig, config_named

CACHE: Final = 4096
"""Tokens that a call of decode attends to, its own among them."""


@dataclass(frozen=True, slots=True)
class ModelLayer:
    """One decoder layer: attention of `heads` queries and `kv_heads` keys of `head_dim` features,
    and `experts`, with `shared` experts of the same width that see every token behind a gate.

    `bias`: queries, keys and values have one. `normed`: queries and keys are normalised.
    """

    experts: LayerConfig
    routing: Routing
    heads: int
    kv_heads: int
    head_dim: int
    shared: int = 0
    bias: bool = False
    normed: bool = False

    @property
    def name(self) -> str:
        """The name of the layer of experts."""
        return self.experts.name

    @property
    def attention_bytes(self) -> int:
        """Bytes of the attention's dense 16-bit weights."""
        return 2 * self.experts.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)

    @property
    def dense_bytes(self) -> int:
        """Bytes of all dense weights: attention, router, experts."""
        config = self.experts
        mlps = 2 * (config.experts + self.shared) * config.expert_elements
        return self.attention_bytes + mlps + 2 * config.hidden * config.experts


@dataclass(frozen=True, slots=True)
class ModelCase:
    """One call of a layer: `batch` sequences with `new` tokens each, attending to `cache`."""

    config: ModelLayer
    group: str
    batch: int
    new: int
    cache: int

    @property
    def tokens(self) -> int:
        """Tokens that go through the experts."""
        return self.batch * self.new

    @property
    def call(self) -> str:
        """The call in a few words."""
        return f"{self.group} {self.tokens}"

    def __str__(self) -> str:
        return f"{self.config.name} {self.call}"


MODELS: Final = (
    ModelLayer(config_named("mixtral-8x7b"), Routing(8, 2, "softmax_topk", True), 32, 8, 128),
    ModelLayer(
        config_named("qwen1.5-moe"),
        Routing(60, 4, "softmax_topk", False, shared=4),  # 5632 features are 4 experts of 1408
        16,
        16,
        128,
        shared=4,
        bias=True,
    ),
    ModelLayer(
        config_named("qwen3-30b-a3b"),
        Routing(128, 8, "softmax_topk", True),
        32,
        4,
        128,
        normed=True,
    ),
)


def model_named(name: str) -> ModelLayer:
    """The decoder layer of that name. Raises TuneError naming those there are."""
    for each in MODELS:
        if each.name == name:
            return each
    names = ", ".join(each.name for each in MODELS)
    raise TuneError(f"decoder layer {name!r} is not one of {names}", remedy=f"use one of {names}")


def model_cases(models: Sequence[ModelLayer] = MODELS, cache: int = CACHE) -> list[ModelCase]:
    """Prefill of one sequence, and decode of 16 and of 64, of every layer."""
    return [
        case
        for each in models
        for case in (
            ModelCase(each, "prefill", 1, cache, cache),
            ModelCase(each, "decode", 16, 1, cache),
            ModelCase(each, "decode", 64, 1, cache),
        )
    ]
