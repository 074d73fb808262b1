"""The operations that only the stream has; the others are those of compiler/ops.py."""

from dataclasses import dataclass
from typing import ClassVar

from samoyeds_gen.compiler.ops import Op


@dataclass(frozen=True, slots=True)
class LoadGroup(Op):
    """Load the weights, metadata and offsets of a group into register slot `buffer`.

    In the prologue the slot's first group, in the loop the one a whole turn later.
    """

    kind: ClassVar[str] = "load_group"
    buffer: int = 0
    first: bool = False

    @property
    def macro(self) -> str:
        """The template macro that prints it."""
        return "load_first_groups" if self.first else "load_group"


@dataclass(frozen=True, slots=True)
class MultiplyGroup(Op):
    """The four steps of the group in slot `buffer`; `part` is the C expression of its place among
    the warp's groups of the token chunk.
    """

    kind: ClassVar[str] = "multiply_group"
    buffer: int = 0
    part: str = "0"


@dataclass(frozen=True, slots=True)
class Turns(Op):
    """Multiply and reload every register slot once, `body`, as often as a chunk of tokens lasts."""

    kind: ClassVar[str] = "turns"
    body: tuple[Op, ...] = ()


@dataclass(frozen=True, slots=True)
class FinishSlices(Op):
    """Bring 8 tokens at a time together in shared memory, add the warps along k, finish them.

    `split` leaves the sums in memory for the CTA that ends last, else they become output.
    """

    kind: ClassVar[str] = "finish_slices"
    fold: str = "direct"
    split: bool = False


@dataclass(frozen=True, slots=True)
class TakeTicket(Op):
    """Publish this CTA's part; all but the CTA that took the last ticket of the tile are done."""

    kind: ClassVar[str] = "take_ticket"


@dataclass(frozen=True, slots=True)
class AddParts(Op):
    """Add the parts of all CTAs of the tile in order, and finish the outputs."""

    kind: ClassVar[str] = "add_parts"
