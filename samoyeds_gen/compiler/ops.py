"""The operations a plan is made of. Each has a `kind`, which names its macro in the templates,
a printed line, and the buffers it reads and writes, which is all the dependence graph knows.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Access:
    """A touch of `buffer`, `ahead` tiles from the current one, or its `ahead`-th value in the
    iteration where `shared` is false.

    `late` marks a write that arrives only at a later wait; `shared` one that other warps see.
    """

    buffer: str
    ahead: int = 0
    late: bool = False
    shared: bool = True


@dataclass(frozen=True, slots=True)
class Op:
    """One operation; `text` is its line in the printed plan.

    Inside the loop, `slot` is the matrix step during which it is issued and `rank` its place
    among the operations of that step, as far as dependences leave a choice.
    """

    kind: ClassVar[str] = "op"
    rank: ClassVar[int] = 0
    text: str
    slot: int = 0
    reads: tuple[Access, ...] = ()
    writes: tuple[Access, ...] = ()

    @property
    def macro(self) -> str:
        """The template macro that prints it."""
        return self.kind


@dataclass(frozen=True, slots=True)
class State(Op):
    """Declares what later operations keep in registers; `name` is its macro, `body` parts of it."""

    kind: ClassVar[str] = "state"
    name: str = ""
    body: tuple[Op, ...] = ()

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
    rank: ClassVar[int] = 1
    pending: int = 0


@dataclass(frozen=True, slots=True)
class Barrier(Op):
    """Synchronise the CTA; `reason` becomes the comment."""

    kind: ClassVar[str] = "barrier"
    rank: ClassVar[int] = 1
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ZeroFill(Op):
    """Write the chunk of zeros that absent sub-rows read."""

    kind: ClassVar[str] = "zero_fill"


@dataclass(frozen=True, slots=True)
class NameRows(Op):
    """Look up the token rows that `selection` names for this tile."""

    kind: ClassVar[str] = "name_rows"


@dataclass(frozen=True, slots=True)
class RotateMetadata(Op):
    """Make the metadata words loaded ahead the current ones."""

    kind: ClassVar[str] = "rotate_metadata"


@dataclass(frozen=True, slots=True)
class LoadMetadata(Op):
    """Load metadata word `word` of every fragment from the ring; `ahead` into the spare words."""

    kind: ClassVar[str] = "load_metadata"
    rank: ClassVar[int] = 1
    word: int = 0
    ahead: bool = False

    @property
    def macro(self) -> str:
        """The template macro that prints it."""
        return "load_next_metadata" if self.ahead else "load_metadata"


@dataclass(frozen=True, slots=True)
class LoadFoldWords(Op):
    """Load the fold words of one tile from the ring."""

    kind: ClassVar[str] = "load_fold_words"
    rank: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class AdvanceStage(Op):
    """Step to the ring stage of the next tile."""

    kind: ClassVar[str] = "advance_stage"
    rank: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class LoadWeight(Op):
    """ldmatrix of one step's weight fragments into register buffer `buffer`.

    `tile` is the C expression of the tile they belong to.
    """

    kind: ClassVar[str] = "load_weight"
    rank: ClassVar[int] = 2
    buffer: int = 0
    step: int = 0
    tile: str = "tile"


@dataclass(frozen=True, slots=True)
class LoadTokens(Op):
    """ldmatrix of one step's token fragments."""

    kind: ClassVar[str] = "load_tokens"
    rank: ClassVar[int] = 2
    step: int = 0


@dataclass(frozen=True, slots=True)
class Multiply(Op):
    """One sparse matrix instruction for every fragment pair, weight from `buffer`.

    With `next`, each token fragment is loaded for that step once it is used up.
    """

    kind: ClassVar[str] = "multiply"
    rank: ClassVar[int] = 5
    buffer: int = 0
    step: int = 0
    next: int | None = None

    @property
    def macro(self) -> str:
        """The template macro that prints it."""
        return "multiply" if self.next is None else "multiply_and_load"


@dataclass(frozen=True, slots=True)
class FoldStep(Op):
    """What the fold does where a V-block starts.

    `entry` is the C expression of the V-block within its word; `guard` an `if` where a V-block
    spans several tiles, else empty.
    """

    kind: ClassVar[str] = "fold_step"
    rank: ClassVar[int] = 3
    fold: str = ""
    entry: str = ""
    guard: str = ""

    @property
    def macro(self) -> str:
        """The template macro that prints it."""
        return f"{self.fold}_step"


@dataclass(frozen=True, slots=True)
class FinishFold(Op):
    """Add the last prefix sum, which no later V-block does."""

    kind: ClassVar[str] = "finish_fold"


@dataclass(frozen=True, slots=True)
class StoreTile(Op):
    """Finish the rows of `fold`, stage 8 tokens a warp at a time, store 16 bytes a lane.

    `paired` stages two neighbouring features with one store.
    """

    kind: ClassVar[str] = "store_tile"
    fold: str = "direct"
    paired: bool = False
