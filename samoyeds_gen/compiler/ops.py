"""The operations a plan is made of. Each has a `kind`, which names its macro in the templates,
a printed line, and the buffers it reads and writes, which is all the dependence graph knows.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Access:
    """A touch of `buffer` at tile `ahead` of the current one.

    `late` marks a write that arrives only at a later wait; `shared` one that other warps see.
    """

    buffer: str
    ahead: int = 0
    late: bool = False
    shared: bool = True


@dataclass(frozen=True, slots=True)
class Op:
    """One operation; `text` is its line in the printed plan."""

    kind: ClassVar[str] = "op"
    text: str
    reads: tuple[Access, ...] = ()
    writes: tuple[Access, ...] = ()

    @property
    def macro(self) -> str:
        """The template macro that prints it."""
        return self.kind


@dataclass(frozen=True, slots=True)
class State(Op):
    """Declares what later operations keep in registers; `name` is its macro."""

    kind: ClassVar[str] = "state"
    name: str = ""

    @property
    def macro(self) -> str:
        """The template macro that prints it."""
        return self.name


@dataclass(frozen=True, slots=True)
class FillRing(Op):
    """Issue the copies of the first `count` tiles."""

    kind: ClassVar[str] = "fill_ring"
    count: int = 0


@dataclass(frozen=True, slots=True)
class CopyTile(Op):
    """Issue the copies of the tile `ahead` of this one, as one commit group."""

    kind: ClassVar[str] = "copy_tile"
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Wait(Op):
    """Wait until at most `pending` of this thread's commit groups are in flight."""

    kind: ClassVar[str] = "wait"
    pending: int = 0


@dataclass(frozen=True, slots=True)
class Barrier(Op):
    """Synchronise the CTA; `reason` becomes the comment."""

    kind: ClassVar[str] = "barrier"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ZeroFill(Op):
    """Write the chunk of zeros that absent sub-rows read."""

    kind: ClassVar[str] = "zero_fill"


@dataclass(frozen=True, slots=True)
class PrefetchWords(Op):
    """Load metadata and fold words into registers before the loop."""

    kind: ClassVar[str] = "prefetch_words"


@dataclass(frozen=True, slots=True)
class RotateWords(Op):
    """Make the prefetched metadata current and prefetch the next; `body` does the fold words."""

    kind: ClassVar[str] = "rotate_words"
    body: tuple[Op, ...] = ()


@dataclass(frozen=True, slots=True)
class RotateFold(Op):
    """Make the prefetched fold words current where a word ends, and prefetch the next."""

    kind: ClassVar[str] = "rotate_fold"
    fold: str = ""

    @property
    def macro(self) -> str:
        """The template macro that prints it."""
        return f"rotate_{self.fold}"


@dataclass(frozen=True, slots=True)
class Blocks(Op):
    """Loop over the V-blocks inside one tile."""

    kind: ClassVar[str] = "blocks"
    body: tuple[Op, ...] = ()


@dataclass(frozen=True, slots=True)
class Steps(Op):
    """Loop over the matrix steps of one V-block, or of the tile if it is shorter.

    `first` and `last` are C expressions for the step's range within the tile.
    """

    kind: ClassVar[str] = "steps"
    first: str = "0"
    last: str = "kSteps"
    body: tuple[Op, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadWeight(Op):
    """ldmatrix of the weight fragments; `expand` picks rows by slot."""

    kind: ClassVar[str] = "load_weight"
    expand: bool = False

    @property
    def macro(self) -> str:
        """The template macro that prints it."""
        return "load_weight_expand" if self.expand else "load_weight"


@dataclass(frozen=True, slots=True)
class LoadTokens(Op):
    """ldmatrix of the token fragments."""

    kind: ClassVar[str] = "load_tokens"


@dataclass(frozen=True, slots=True)
class MatrixStep(Op):
    """One sparse matrix instruction for every fragment pair."""

    kind: ClassVar[str] = "matrix_step"


@dataclass(frozen=True, slots=True)
class Exchange(Op):
    """Swap accumulator sets of the rows whose kept sub-row changes.

    `entry` is the C expression of the V-block within its word; `guard` an `if` where a V-block
    spans several tiles, else empty.
    """

    kind: ClassVar[str] = "exchange"
    entry: str = ""
    guard: str = ""


@dataclass(frozen=True, slots=True)
class AddPrefix(Op):
    """Add the weighted prefix sums at a block's end; `entry` and `guard` as for Exchange."""

    kind: ClassVar[str] = "add_prefix"
    entry: str = ""
    guard: str = ""


@dataclass(frozen=True, slots=True)
class StoreTile(Op):
    """Finish the rows of `fold`, stage 8 tokens a warp at a time, store 16 bytes a lane.

    `paired` stages two neighbouring features with one store.
    """

    kind: ClassVar[str] = "store_tile"
    fold: str = "direct"
    paired: bool = False
