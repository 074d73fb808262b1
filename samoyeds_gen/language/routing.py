"""Routing of a Mixture-of-Experts layer: which experts a token goes to, and with what weight.

Decides the formulas' options and which of them fit together; how they are computed is decided by
reference/routing.py, and where by the routing kernels.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

from samoyeds_gen.errors import ScheduleError

RoutingKind = Literal["softmax_topk", "topk_softmax", "sigmoid_grouped"]
GroupScore = Literal["max", "top2_sum"]
KINDS: tuple[RoutingKind, ...] = get_args(RoutingKind)
GROUP_SCORES: tuple[GroupScore, ...] = get_args(GroupScore)

MOST_EXPERTS = 512
MOST_CHOICES = 32
MOST_GROUPS = 32
MOST_SHARED = 64


class Routed(NamedTuple):
    """Where T tokens go, with K = top_k + shared slots each; arrays of one library.

    `experts` int32 [T, top_k]: chosen experts, best first; `weights` float32 [T, top_k]: theirs.
    Slots are sorted by expert, inside an expert by token: `offsets` int32 [experts + shared + 1]
    is the first slot of each expert, with the number of slots last; `selection` int32 [T * K] the
    token of each slot; `scale` float32 [T * K] its weight; `slots` int32 [T, K] the slots of each
    token, in the order of its choices, shared experts last.
    """

    experts: Any
    weights: Any
    offsets: Any
    selection: Any
    scale: Any
    slots: Any


@dataclass(frozen=True, slots=True)
class Routing:
    """How each token chooses `top_k` of `experts` experts from its logits.

    `kind` gives each expert a score: "softmax_topk" its softmax over all experts, "topk_softmax"
    its logit, "sigmoid_grouped" the sigmoid of its logit. The choice goes by score plus `bias`
    [experts], if there is one: of `groups` equal groups of neighbouring experts the `top_groups`
    with the best `group_score` are kept (best member, or sum of the best two; None: "top2_sum" for
    sigmoid_grouped, else "max"), and in them the `top_k` best experts. Ties: the lower index wins.

    Weights are the scores of the chosen without bias, divided by their sum if `renormalise`, times
    `scaling`. "topk_softmax" weighs by the softmax over the chosen logits, which `renormalise`
    must state. `shared` experts follow the others and take every token.

    Raises ScheduleError for numbers that do not fit together.
    """

    algorithm: ClassVar[str] = "routing"

    experts: int
    top_k: int
    kind: RoutingKind
    renormalise: bool
    scaling: float = 1.0
    groups: int = 1
    top_groups: int = 1
    bias: bool = False
    shared: int = 0
    group_score: GroupScore | None = None

    def __post_init__(self) -> None:
        _require_name("kind", self.kind, KINDS)
        if self.group_score is None:
            score = "top2_sum" if self.kind == "sigmoid_grouped" else "max"
            object.__setattr__(self, "group_score", score)
        _require_name("group_score", self.group_score, GROUP_SCORES)
        _require_count("experts", self.experts, 1, MOST_EXPERTS)
        _require_count("top_k", self.top_k, 1, min(self.experts, MOST_CHOICES))
        _require_count("shared", self.shared, 0, MOST_SHARED)
        _require_count("groups", self.groups, 1, min(self.experts, MOST_GROUPS))
        _require_count("top_groups", self.top_groups, 1, self.groups)
        self._require_groups()
        if self.kind == "topk_softmax" and not self.renormalise:
            raise ScheduleError(
                "topk_softmax with renormalise=False, its weights are a softmax of the chosen",
                rule="routing-weights",
                remedy="use renormalise=True, or kind 'softmax_topk'",
            )
        if not math.isfinite(self.scaling):
            raise ScheduleError(
                f"scaling {self.scaling!r} is not a finite number",
                rule="routing-weights",
                remedy="use 1.0 to leave weights as they are",
            )

    @property
    def choices(self) -> int:
        """Slots a token takes: chosen experts and shared ones."""
        return self.top_k + self.shared

    @property
    def group_size(self) -> int:
        """Experts in a group."""
        return self.experts // self.groups

    @property
    def grouped(self) -> bool:
        """Whether groups leave any expert out."""
        return self.top_groups < self.groups

    def _require_groups(self) -> None:
        if self.experts % self.groups:
            raise ScheduleError(
                f"{self.experts} experts do not divide into {self.groups} groups",
                rule="routing-groups",
                remedy="use groups of one size",
            )
        if self.grouped and self.group_score == "top2_sum" and self.group_size < 2:
            raise ScheduleError(
                f"groups of {self.group_size} expert have no two best members",
                rule="routing-groups",
                remedy="use group_score='max', or larger groups",
            )
        if self.top_k > self.top_groups * self.group_size:
            raise ScheduleError(
                f"top_k={self.top_k} of {self.top_groups} groups of {self.group_size} experts",
                rule="routing-groups",
                remedy="keep more groups, or choose fewer experts",
            )


def _require_name(what: str, given: object, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        names = ", ".join(allowed)
        raise ScheduleError(
            f"{what} {given!r} is not one of {names}",
            rule="routing-names",
            remedy=f"use one of {names}",
        )


def _require_count(what: str, given: object, least: int, most: int) -> None:
    if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= most:
        raise ScheduleError(
            f"{what}={given!r} is not a whole number of {least} to {most}",
            rule="routing-counts",
            remedy=f"use {least} to {most}",
        )
