"""How a router turns logits into experts and weights, as a value, and in torch.

Decides the rules of the supported families; the generated kernel of samoyeds_gen.kernel.routing
follows the same value.
"""

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Literal

import torch

from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats.arrays import Array

Score = Literal["softmax", "sigmoid"]
GroupScore = Literal["max", "sum_of_two"]


@dataclass(frozen=True, slots=True)
class Routing:
    """Scores of `experts` logits, the `top_k` best of them, and the weights they are given.

    - `score`: "softmax" over all experts, or "sigmoid" of each (DeepSeek-V3).
    - `bias`: a bias per expert is added to the scores for the choice, not for the weights.
    - `groups`, `kept_groups`: only experts of the best groups take part; a group's score is its
      "max" (DeepSeek-V2) or the "sum_of_two" best (DeepSeek-V3). One group means no limit.
    - `renormalise`: weights are divided by their sum plus `epsilon`; then multiplied by `factor`.
    - `rounded`: weights are rounded to the type of the logits (Qwen, OLMoE).
    - `wide`: the linear step that makes the logits is taken in float32 (DeepSeek).

    Softmax, then top-k, then renormalised is top-k, then softmax (Mixtral). Raises ModelError for
    numbers that do not fit each other.
    """

    experts: int
    top_k: int
    score: Score = "softmax"
    bias: bool = False
    groups: int = 1
    kept_groups: int = 1
    group_score: GroupScore = "max"
    renormalise: bool = True
    epsilon: float = 0.0
    factor: float = 1.0
    rounded: bool = False
    wide: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= self.experts:
            raise ModelError(
                f"top_k={self.top_k} experts of {self.experts} cannot be chosen",
                remedy="choose 1 <= top_k <= experts",
            )
        if self.groups < 1 or self.experts % self.groups:
            raise ModelError(
                f"{self.experts} experts are not {self.groups} equal groups",
                remedy="choose a divisor of the experts",
            )
        per_group = self.experts // self.groups
        if not 1 <= self.kept_groups <= self.groups or self.kept_groups * per_group < self.top_k:
            raise ModelError(
                f"{self.kept_groups} of {self.groups} groups of {per_group} experts do not hold "
                f"top_k={self.top_k}",
                remedy="keep more groups",
            )
        if self.group_score == "sum_of_two" and self.groups > 1 and per_group < 2:
            raise ModelError(
                f"groups of {per_group} expert have no two best", remedy="choose fewer groups"
            )

    def __str__(self) -> str:
        return _spelled(self)

    @staticmethod
    def parse(text: str) -> "Routing":
        """Read `str(routing)` back."""
        return _parse(text)


@lru_cache(maxsize=64)
def _spelled(routing: Routing) -> str:
    return json.dumps(asdict(routing))


@lru_cache(maxsize=64)
def _parse(text: str) -> Routing:
    return Routing(**json.loads(text))


def route(routing: Routing, logits: Array, bias: Array | None = None) -> tuple[Array, Array]:
    """Experts int32 [T, k] and weights float32 [T, k], best first, of `logits` [T, experts].

    `bias` float32 [experts] is given where `routing.bias` says so. Equal scores go to the lower
    expert. Scores and weights are float32, as in the models.
    """
    given = logits.to(torch.float32)
    scores = given.softmax(-1) if routing.score == "softmax" else given.sigmoid()
    choice = scores if bias is None else scores + bias
    if routing.groups > 1:
        choice = _limited(routing, choice)
    order = choice.argsort(dim=-1, descending=True, stable=True)[:, : routing.top_k]
    weights = scores.gather(1, order)
    if routing.renormalise:
        weights = weights / (weights.sum(-1, keepdim=True) + routing.epsilon)
    weights = weights * routing.factor
    if routing.rounded:
        weights = weights.to(logits.dtype).to(torch.float32)
    return order.to(torch.int32), weights


def _limited(routing: Routing, choice: Array) -> Array:
    """Scores of experts outside the best groups become minus infinity."""
    split = choice.unflatten(-1, (routing.groups, -1))
    counted = 1 if routing.group_score == "max" else 2
    best = split.topk(counted, dim=-1).values.sum(-1)
    order = best.argsort(dim=-1, descending=True, stable=True)[:, : routing.kept_groups]
    kept = torch.zeros_like(best, dtype=torch.bool).scatter(1, order, True)
    return split.masked_fill(~kept[..., None], float("-inf")).flatten(1)
