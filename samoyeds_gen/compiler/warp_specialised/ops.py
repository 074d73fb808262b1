"""The operations of the warp-specialised pipeline: what producer and consumers do, in order."""

from dataclasses import dataclass
from typing import ClassVar

from samoyeds_gen.compiler.ops import Op


@dataclass(frozen=True, slots=True)
class AwaitEmpty(Op):
    """The producer waits until every warpgroup has finished with the stage it fills next."""

    kind: ClassVar[str] = "await_empty"


@dataclass(frozen=True, slots=True)
class ExpectBytes(Op):
    """Announce the bytes that asynchronous copies bring to the stage."""

    kind: ClassVar[str] = "expect_bytes"
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class TellPlace(Op):
    """The producer writes beside the stage where its tile lies."""

    kind: ClassVar[str] = "tell_place"


@dataclass(frozen=True, slots=True)
class ReadPlace(Op):
    """The consumers read where their tile lies, with its first stage."""

    kind: ClassVar[str] = "read_place"


@dataclass(frozen=True, slots=True)
class CopyWeight(Op):
    """One TMA box of stored weight values."""

    kind: ClassVar[str] = "copy_weight_box"
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class CopyWords(Op):
    """One bulk copy of metadata and fold words for each warpgroup."""

    kind: ClassVar[str] = "copy_words"
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class CopyTokens(Op):
    """TMA boxes of the tokens; in a cluster each CTA copies its share to all."""

    kind: ClassVar[str] = "copy_token_boxes"
    bytes: int = 0
    cluster: int = 1

    @property
    def macro(self) -> str:
        """The template macro that prints it."""
        return self.kind if self.cluster == 1 else "share_token_boxes"


@dataclass(frozen=True, slots=True)
class GatherTokens(Op):
    """The selected tokens, 16 bytes a copy, by every thread of the producer warpgroup."""

    kind: ClassVar[str] = "gather_tokens"


@dataclass(frozen=True, slots=True)
class AwaitFull(Op):
    """A warpgroup waits until the stage's copies have arrived."""

    kind: ClassVar[str] = "await_full"


@dataclass(frozen=True, slots=True)
class ShowGathered(Op):
    """Make tokens that ordinary copies wrote visible to the matrix unit (the async proxy)."""

    kind: ClassVar[str] = "show_gathered"


@dataclass(frozen=True, slots=True)
class ReadWords(Op):
    """Metadata and fold words of the stage into registers."""

    kind: ClassVar[str] = "read_words"


@dataclass(frozen=True, slots=True)
class ReadWeight(Op):
    """Weight fragments of every step by ldmatrix; with `expand`, absent sub-rows from zeros."""

    kind: ClassVar[str] = "read_weight"
    expand: bool = False

    @property
    def macro(self) -> str:
        """The template macro that prints it."""
        return "read_expanded_weight" if self.expand else "read_weight"


@dataclass(frozen=True, slots=True)
class LoadFragments(Op):
    """Load the weight of a later stage into the registers that this stage has multiplied from; or,
    `late`, those of the one before, and at the `end` of a tile those of the last one.
    """

    kind: ClassVar[str] = "load_fragments"
    ahead: int = 0
    late: bool = False
    end: bool = False

    @property
    def macro(self) -> str:
        """The template macro that prints it."""
        if self.end:
            return "load_last_fragments"
        return "load_fragments_late" if self.late else "load_fragments"


@dataclass(frozen=True, slots=True)
class TakeTurn(Op):
    """Wait for this warpgroup's turn at the matrix unit."""

    kind: ClassVar[str] = "take_turn"


@dataclass(frozen=True, slots=True)
class PassTurn(Op):
    """Give the turn to the next warpgroup."""

    kind: ClassVar[str] = "pass_turn"


@dataclass(frozen=True, slots=True)
class MatrixStep:
    """Matrix step `index` of a tile: its metadata word and selector, the box its tokens lie in, and
    where they start inside the swizzled rows, in 16-byte chunks; the matrix of the warpgroup's.
    """

    index: int
    word: int
    selector: int
    box: int
    weight_chunk: int
    token_chunk: int
    matrix: int = 0


@dataclass(frozen=True, slots=True)
class Issue(Op):
    """Issue some matrix steps of one part of the tokens, as one group."""

    kind: ClassVar[str] = "issue"
    part: int = 0
    block: int = 0
    steps: tuple[MatrixStep, ...] = ()


@dataclass(frozen=True, slots=True)
class AwaitMatrix(Op):
    """Wait until at most `pending` of the warpgroup's matrix groups are in flight."""

    kind: ClassVar[str] = "await_matrix"
    pending: int = 0
    part: int | None = None


@dataclass(frozen=True, slots=True)
class Release(Op):
    """Tell the producer that this warpgroup no longer reads the stage; or, `late`, the one before,
    and at the `end` of a tile the last one.
    """

    kind: ClassVar[str] = "release"
    cluster: int = 1
    late: bool = False
    end: bool = False

    @property
    def macro(self) -> str:
        """The template macro that prints it."""
        return "release_late" if self.late else "release"

    @property
    def inside(self) -> bool:
        """Whether it is in the loop over stages."""
        return not self.end


@dataclass(frozen=True, slots=True)
class AddPrefix(Op):
    """Add the weighted running sum of one part to its rows, at the end of V-block `block`; if it
    `begins`, the rows of a tile's first stage are that.
    """

    kind: ClassVar[str] = "add_prefix"
    part: int = 0
    block: int = 0
    begins: bool = False

    @property
    def sums(self) -> str:
        """The template macro that prints the additions."""
        return "begin_or_add_sums" if self.begins else "add_sums"


@dataclass(frozen=True, slots=True)
class NextStage(Op):
    """Step to the next stage of the ring."""

    kind: ClassVar[str] = "next_stage"


@dataclass(frozen=True, slots=True)
class SendParts(Op):
    """Send each warp's rows to the CTA of the cluster that adds them, over the used ring."""

    kind: ClassVar[str] = "send_parts"
    fold: str = "direct"


@dataclass(frozen=True, slots=True)
class StoreSlices(Op):
    """Finish the rows, slice by slice, stored 16 bytes a lane."""

    kind: ClassVar[str] = "store_slices"
    fold: str = "direct"
    paired: bool = False
    split: int = 1

    @property
    def macro(self) -> str:
        """The template macro that prints it."""
        return "store_slices" if self.split == 1 else "store_parts"
