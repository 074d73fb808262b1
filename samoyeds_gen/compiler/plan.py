"""The kernel plan: every number, order and synchronisation of one kernel, as frozen values.

Passes refine it, `print_plan` shows it, `emit` arranges it as CUDA C++. Nothing in it depends on
m, n or k: those are run-time parameters of the kernel.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from samoyeds_gen.compiler.ops import Op
from samoyeds_gen.language.atoms import MatrixAtom
from samoyeds_gen.language.kernels import Ssmm
from samoyeds_gen.language.layouts import Swizzle
from samoyeds_gen.language.schedule import Schedule
from samoyeds_gen.language.targets import Target

PlanFold = Literal["direct", "exchange", "prefix", "expand"]
Section = Literal["prologue", "loop", "epilogue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """What every pipeline shape derives from a schedule; each adds its own numbers.

    `features_per_row` output features belong to one row of the matrix unit, `tiles_per_word` tiles
    of k share one fold word; `registers` is the estimate a thread.
    """

    fold: PlanFold
    features_per_row: int
    accumulator_sets: int
    tiles_per_word: int
    registers: int


G = TypeVar("G", bound=Geometry, covariant=True)


@dataclass(frozen=True, slots=True)
class Constant:
    """A named constant of the emitted file, with the sentence that explains it."""

    name: str
    value: int
    note: str


@dataclass(frozen=True, slots=True)
class ConstantGroup:
    """Constants that belong together, under one section comment."""

    title: str
    constants: tuple[Constant, ...]


@dataclass(frozen=True, slots=True)
class Buffer:
    """A buffer in shared memory or registers; `first` and `last` bound its life."""

    name: str
    space: Literal["shared", "register"]
    element: str
    shape: tuple[int, ...]
    bytes: int
    note: str
    swizzle: Swizzle | None = None
    first: Section = "prologue"
    last: Section = "loop"
    offset: int = 0
    align: int = 128

    @property
    def end(self) -> int:
        """First byte after the buffer."""
        return self.offset + self.bytes


@dataclass(frozen=True, slots=True)
class Parameter:
    """A kernel parameter: its name, its C declaration, and what the launcher passes for it."""

    name: str
    declaration: str
    source: str
    note: str


@dataclass(frozen=True, slots=True)
class Packing:
    """A derived weight array the launcher must pass: `source` names it, the numbers pad it."""

    source: str
    rows: Literal["stored", "output"]
    row_multiple: int
    k_multiple: int
    fold: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """A tensor map the launcher makes: boxes of `rows` x `columns` elements of `operand`, permuted
    in shared memory by a swizzle of `swizzle` bytes. `source` is its parameter's.
    """

    source: str
    operand: Literal["weight.data", "tokens"]
    columns: int
    rows: int
    swizzle: int


@dataclass(frozen=True, slots=True)
class Wrapper:
    """A PTX instruction's function in the emitted file: its macro, and its immediate if any."""

    macro: str
    pending: int = 0


DEPENDENT_LAUNCH = ("launch_dependents", "await_launch")
"""Macros of the wrappers of a kernel that begins while the launch before it ends."""


@dataclass(frozen=True, slots=True)
class KernelPlan(Generic[G]):
    """One kernel, ready to be emitted."""

    entry: str
    schedule: Schedule
    problem: Ssmm
    target: Target
    atom: MatrixAtom
    geometry: G
    template: str
    parameters: tuple[Parameter, ...]
    packings: tuple[Packing, ...]
    threads: int
    boxes: tuple[Box, ...] = ()
    persistent: bool = False
    cluster: int = 1
    share: int = 1
    buffers: tuple[Buffer, ...] = ()
    constants: tuple[ConstantGroup, ...] = ()
    wrappers: tuple[Wrapper, ...] = ()
    setup: tuple[Op, ...] = ()
    prologue: tuple[Op, ...] = ()
    producer: tuple[Op, ...] = ()
    loop: tuple[Op, ...] = ()
    epilogue: tuple[Op, ...] = ()
    shared_bytes: int = 0
    rows_on_y: bool = False

    @property
    def packing_key(self) -> str:
        """What two plans that take the same derived arrays have in common."""
        return ";".join(
            f"{each.source} {each.rows} {each.row_multiple} {each.k_multiple} {each.fold}"
            for each in self.packings
        )

    def takes(self, source: str) -> bool:
        """Whether a parameter, or a tensor map of one, needs what the launcher calls `source`."""
        named = (*(each.source for each in self.parameters), *(each.operand for each in self.boxes))
        return source in named

    @property
    def source_name(self) -> str:
        """The name NVRTC reports errors under."""
        return f"{self.entry}.cu"

    @property
    def tile(self) -> tuple[int, int, int]:
        """Output features, tokens and dense columns of one CTA step."""
        tile = self.schedule.tile
        return tile.m, tile.n, tile.k

    @property
    def ring_depth(self) -> int:
        """How many tiles of tokens lie in shared memory."""
        return self.buffer("token_ring").shape[0]

    def grid(self, m: int, n: int, processors: int, experts: int = 1) -> tuple[int, int, int]:
        """CTAs for an m x n output: one a tile in raster order, or rows of tiles on the y axis.

        On the x axis lie then the token tiles of a row, each as often as k is split. Persistent
        CTAs walk the tiles themselves, one a processor of the GPU, in whole clusters. With several
        experts the n tokens are theirs together, and each may leave a tile part empty: CTAs are as
        many as any counts of theirs need.
        """
        down, across = self._tiles(m, n)
        across = min(across + experts - 1, n) if experts > 1 else across
        if self.rows_on_y:
            return (across * self.schedule.split.k, down, 1)
        groups = -(-down * self.share // self.cluster) * across
        if self.persistent:
            groups = min(groups, max(1, processors // self.cluster))
        return (groups * self.cluster, 1, 1)

    def split_storage(self, m: int, n: int) -> tuple[int, int]:
        """What CTAs that split k exchange for an m x n output: float32 sums, and 32-bit tickets.

        Tickets are zero before a launch and again after it. (0, 0) where nothing is split.
        """
        tile, splits = self.schedule.tile, self.schedule.split.k
        down, across = self._tiles(m, n)
        tiles = down * across if self.takes("split.tickets") else 0
        return tiles * splits * tile.m * tile.n, tiles

    def _tiles(self, m: int, n: int) -> tuple[int, int]:
        tile = self.schedule.tile
        return -(-m // tile.m), -(-n // tile.n)

    def buffer(self, name: str) -> Buffer:
        """The buffer of this name; KeyError if there is none."""
        return {each.name: each for each in self.buffers}[name]


Plan = KernelPlan[Any]
"""A plan of whichever pipeline shape."""

Pass = Callable[[Plan], Plan]
