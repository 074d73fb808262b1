"""What one routing kernel computes: a step of a routing, or a combination."""

from dataclasses import dataclass
from typing import Literal

from samoyeds_gen.language.dtypes import FLOAT32, DType
from samoyeds_gen.language.kernels import IndexType
from samoyeds_gen.language.routing import Routing

StepKind = Literal["route", "choose", "sort", "count", "place"]

_SHORT_KINDS = {"softmax_topk": "softmax", "topk_softmax": "topk", "sigmoid_grouped": "sigmoid"}


@dataclass(frozen=True, slots=True)
class Step:
    """One kernel of a routing.

    Few tokens take one CTA: "route" chooses and sorts, "sort" only sorts. Many take two launches:
    "choose" or "count" leaves the counts of each chunk of tokens, and "place" sorts with them.
    `values` is the dtype of the logits (route, choose) or of the given weights (sort, count) and
    `index` that of given experts; `gate` is the dtype of the weights of shared experts (route,
    sort, place), None where these are 1. An `early` one begins while the launch before it ends, and
    lets the one behind it do so (sm_90 and later).
    """

    routing: Routing
    kind: StepKind
    values: DType = FLOAT32
    index: IndexType = "int32"
    gate: DType | None = None
    early: bool = False

    @property
    def chooses(self) -> bool:
        """Whether logits come in."""
        return self.kind in ("route", "choose")

    @property
    def alone(self) -> bool:
        """Whether one CTA has all tokens."""
        return self.kind in ("route", "sort")

    @property
    def counts(self) -> bool:
        """Whether counts of chunks come out."""
        return self.kind in ("choose", "count")

    @property
    def entry(self) -> str:
        """The name of the kernel."""
        r = self.routing
        parts = [self.kind, f"{r.experts}_top{r.top_k}"]
        if self.chooses:
            parts += [_SHORT_KINDS[r.kind], "share" if r.renormalise else "score"]
            parts += [f"groups{r.groups}_{r.top_groups}_{r.group_score}"] if r.grouped else []
            parts += ["bias"] if r.bias else []
            parts += ["scaled"] if r.scaling != 1 else []
        parts += [f"shared{r.shared}"] if r.shared else []
        parts += [f"gated_{self.gate.short}"] if self.gate else []
        parts += [] if self.kind == "place" else [self.values.short]
        parts += [f"i{self.index[3:]}"] if self.kind in ("sort", "count") else []
        parts += ["early"] if self.early else []
        return "_".join(parts)


@dataclass(frozen=True, slots=True)
class Combine:
    """out[t] = sum over `choices` slots of rows of `dtype`, `elements` of them in a load; each row
    times its weight if `weighted`. An `early` one begins while the launch before it ends, and lets
    the one behind it do so (sm_90 and later).
    """

    choices: int
    dtype: DType
    elements: int
    weighted: bool = False
    early: bool = False

    @property
    def piece_bytes(self) -> int:
        """Bytes of a load."""
        return self.elements * self.dtype.bytes

    @property
    def entry(self) -> str:
        """The name of the kernel."""
        words = "_weighted" * self.weighted + "_early" * self.early
        return f"combine_{self.choices}_{self.dtype.short}_{self.piece_bytes}b{words}"
