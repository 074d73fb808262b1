"""The layers of experts that are compared: sizes of published models, tokens, and routings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from samoyeds_gen.errors import TuneError


@dataclass(frozen=True, slots=True)
class LayerConfig:
    """The experts of one layer: `experts` gated MLPs of `hidden` features in and out and `inner`
    between, `top` of which a token meets.
    """

    name: str
    hidden: int
    inner: int
    experts: int
    top: int

    @property
    def expert_elements(self) -> int:
        """Weight elements of one expert: gate, up and down."""
        return 3 * self.hidden * self.inner

    @property
    def dense_bytes(self) -> int:
        """Bytes of all experts' dense 16-bit weights."""
        return 2 * self.experts * self.expert_elements

    def operations(self, tokens: int) -> int:
        """Multiplications and additions of a call, as if weights were dense."""
        return 2 * tokens * self.top * self.expert_elements


@dataclass(frozen=True, slots=True)
class Case:
    """One call to compare: a layer, its number of tokens, and how skewed their routing is."""

    config: LayerConfig
    tokens: int
    routing: str = "uniform"

    @property
    def group(self) -> str:
        """The mean that the case counts under: decode, few tokens, prefill."""
        few, medium = GROUPS
        if self.tokens <= few:
            return f"tokens <= {few}"
        return f"tokens <= {medium}" if self.tokens <= medium else f"tokens > {medium}"

    def __str__(self) -> str:
        skew = "" if self.routing == "uniform" else f" {self.routing}"
        return f"{self.config.name} {self.tokens}{skew}"


CONFIGS: Final = (
    LayerConfig("mixtral-8x7b", 4096, 14336, 8, 2),
    LayerConfig("mixtral-8x22b", 6144, 16384, 8, 2),
    LayerConfig("minicpm-moe", 2304, 5760, 8, 2),
    LayerConfig("openmoe-34b", 3072, 12288, 32, 2),
    LayerConfig("qwen1.5-moe", 2048, 1408, 60, 4),
    LayerConfig("deepseek-16b", 2048, 1408, 64, 6),
    LayerConfig("qwen3-30b-a3b", 2048, 768, 128, 8),
    LayerConfig("dsv3-like-64e", 7168, 2048, 64, 8),
)
TOKENS: Final = (16, 128, 1024, 4096, 16384)
ROUTINGS: Final = ("uniform", "zipf", "one")
GROUPS: Final = (128, 1024)
"""Tokens up to which a case counts as decode, and as few; beyond it is prefill."""


def config_named(name: str) -> LayerConfig:
    """The layer of that name. Raises TuneError naming those there are."""
    for each in CONFIGS:
        if each.name == name:
            return each
    names = ", ".join(each.name for each in CONFIGS)
    raise TuneError(f"layer {name!r} is not one of {names}", remedy=f"use one of {names}")


def cases_of(
    configs: Sequence[LayerConfig], tokens: Sequence[int], routing: str = "uniform"
) -> list[Case]:
    """Every case, all of one layer after another. Raises TuneError for an unknown routing."""
    if routing not in ROUTINGS:
        names = ", ".join(ROUTINGS)
        raise TuneError(f"routing {routing!r} is not one of {names}", remedy=f"use one of {names}")
    if not tokens or min(tokens) < 1:
        raise TuneError(
            f"numbers of tokens {list(tokens)} are not all positive", remedy="write them as 16,128"
        )
    return [Case(config, each, routing) for config in configs for each in tokens]
