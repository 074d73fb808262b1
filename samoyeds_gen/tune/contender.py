"""Who takes part in a comparison: what is timed, what it streams, and how its check went."""

from dataclasses import dataclass
from typing import Literal

from samoyeds_gen.kernel import Choice
from samoyeds_gen.tune.timing import Timed

CUBLAS = "cuBLAS"
"""How the names of the dense peers begin; the faster of them is what ratios are of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to compute a product, checked and ready to be timed.

    `weight_bytes` is what one launch streams of the weight: values, metadata and indices.
    `replay` is "graph", or "host" where its launches could not be captured. `format` and `choice`
    are None for peers.
    """

    name: str
    timed: Timed
    weight_bytes: int
    verdict: str
    replay: str = "graph"
    format: str | None = None
    choice: Choice | None = None

    @property
    def kind(self) -> Literal["ours", "peer"]:
        """Whether a kernel of this package or of somebody else."""
        return "peer" if self.choice is None else "ours"


@dataclass(frozen=True, slots=True)
class Failure:
    """A contender that did not run, or was wrong: printed with its error, and not counted."""

    name: str
    error: str
