"""The Schedule: how a kernel is built, as one frozen value.

Hashable, comparable, printable, with a JSON round trip; its digest names what was built from it.
People write it with the directives of `directives.py`; tuning and tests work on the value.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args, get_type_hints

from samoyeds_gen.errors import ScheduleError, Where

Fold = Literal["exchange", "prefix", "expand"]
FOLDS: tuple[Fold, ...] = get_args(Fold)

LATER = {"later": True}
"""Marks a field that schedules did not always have: it is left out of JSON at its default, so that
digests of older schedules stay what they were.
"""


@dataclass(frozen=True, slots=True)
class Tile:
    """What one CTA computes: `m` output features, `n` tokens, in steps of `k` dense columns."""

    m: int
    n: int
    k: int


@dataclass(frozen=True, slots=True)
class Warps:
    """How the tile is split among warps; `k` warps share out the columns of one output part."""

    m: int
    n: int
    k: int = field(default=1, metadata=LATER)

    @property
    def threads(self) -> int:
        """Threads of the CTA."""
        return 32 * self.m * self.n * self.k


@dataclass(frozen=True, slots=True)
class Pack:
    """Offline order of metadata and stored values, and where the token gather happens."""

    metadata: Literal["fragment"] = "fragment"
    data: Literal["rows", "fragment"] = field(default="rows", metadata=LATER)
    gather: Literal["on_load", "before"] = "on_load"


@dataclass(frozen=True, slots=True)
class Layout:
    """Shared-memory swizzles by name, and the order of the output in memory."""

    weight: str
    tokens: str
    out: Literal["token_major"] = "token_major"


@dataclass(frozen=True, slots=True)
class Stationary:
    """What stays in registers: the accumulators under `fold`, the metadata words, and where a
    warpgroup's matrix steps take weight values from.
    """

    fold: Fold
    metadata: Literal["registers"] = "registers"
    weight: Literal["shared", "registers"] = field(default="shared", metadata=LATER)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Ring depth, the atom that fills it, and how many buffers of weight fragments there are."""

    stages: int
    copy: str
    fragments: int = 2


@dataclass(frozen=True, slots=True)
class Overlap:
    """How warpgroups keep the matrix unit busy: the parts their tokens are split in, whether they
    take turns at it, whether a stage's work is in flight `ahead` of the next stage's, and how many
    stages one warpgroup's work is behind the one's before: its `skew`.
    """

    split: int = 1
    turns: bool = False
    ahead: bool = field(default=False, metadata=LATER)
    skew: int = field(default=0, metadata=LATER)


@dataclass(frozen=True, slots=True)
class Cluster:
    """CTAs that share copies: `m` of them along the features read the same tokens."""

    m: int = 1


@dataclass(frozen=True, slots=True)
class Epilogue:
    """How an output leaves: in slices of `tokens`, one a warp, or two `by` a warpgroup in turn."""

    tokens: int = 16
    by: Literal["warp", "warpgroup"] = field(default="warp", metadata=LATER)


@dataclass(frozen=True, slots=True)
class Raster:
    """Order of the tiles: `group` tile rows are walked together, column by column."""

    group: int = 8


@dataclass(frozen=True, slots=True)
class Resident:
    """What the compiler must make fit: CTAs on one SM; whether spills are tolerated."""

    ctas: int = 1
    spills: bool = False


@dataclass(frozen=True, slots=True)
class Split:
    """How many CTAs share out the columns of one output tile; their sums are added in order."""

    k: int = 1


@dataclass(frozen=True, slots=True)
class Launch:
    """How a launch follows the one before it in its stream: `dependent`, it begins while that one
    ends, and waits for it before it reads or writes anything. With `prefetch` it asks meanwhile for
    its first weights in L2.
    """

    dependent: bool = False
    prefetch: bool = field(default=False, metadata=LATER)


@dataclass(frozen=True, slots=True)
class Schedule:
    """One kernel's how. `where` tells which line wrote a directive and takes no part in equality.

    `target` is the least architecture. Word meanings are those of the directive docstrings.
    """

    name: str
    algorithm: str
    target: str
    tile: Tile
    warps: Warps
    tensorize: str
    pack: Pack
    layout: Layout
    stationary: Stationary
    pipeline: Pipeline
    raster: Raster = Raster()
    resident: Resident = Resident()
    overlap: Overlap = field(default=Overlap(), metadata=LATER)
    cluster: Cluster = field(default=Cluster(), metadata=LATER)
    epilogue: Epilogue = field(default=Epilogue(), metadata=LATER)
    split: Split = field(default=Split(), metadata=LATER)
    launch: Launch = field(default=Launch(), metadata=LATER)
    where: tuple[tuple[str, Where], ...] = field(default=(), compare=False, repr=False)

    def place_of(self, directive: str) -> Where | None:
        """Where `directive` was written, if the schedule came from a file."""
        return dict(self.where).get(directive)

    @property
    def source_path(self) -> str | None:
        """The schedule file this came from, if any."""
        return self.where[0][1].path if self.where else None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, without `where`."""
        return _plain(self)

    def to_json(self) -> str:
        """Canonical JSON; `Schedule.from_json` gives back an equal value."""
        return json.dumps(self.as_dict(), indent=2)

    @property
    def digest(self) -> str:
        """Twelve hex digits of the sha256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    @staticmethod
    def from_json(text: str) -> "Schedule":
        """Read a schedule back. Raises `ScheduleError` for anything but a whole, typed schedule."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise _malformed(f"the text is not JSON: {error.msg} at line {error.lineno}") from None
        schedule: Schedule = _build(Schedule, data, "schedule")
        return schedule

    def __str__(self) -> str:
        """One directive group a line, as `samoyeds-gen explain` prints it."""
        lines = [f"schedule {self.name} of {self.algorithm}, target {self.target}, {self.digest}"]
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if dataclasses.is_dataclass(value):
                parts = dataclasses.fields(value)
                words = ", ".join(f"{part.name}={getattr(value, part.name)}" for part in parts)
                lines.append(f"  {each.name:<11}{words}")
            elif each.name == "tensorize":
                lines.append(f"  {each.name:<11}{value}")
        return "\n".join(lines)


def _plain(value: Any) -> dict[str, Any]:
    """A dataclass as nested dictionaries, without `where` and without later fields at rest."""
    data: dict[str, Any] = {}
    for each in dataclasses.fields(value):
        item = getattr(value, each.name)
        if each.name == "where" or (each.metadata.get("later") and item == each.default):
            continue
        data[each.name] = _plain(item) if dataclasses.is_dataclass(item) else item
    return data


def _malformed(sentence: str) -> ScheduleError:
    return ScheduleError(sentence, rule="json", remedy="write the schedule with Schedule.to_json()")


_hints = cache(get_type_hints)


def _build(kind: type, data: object, path: str) -> Any:
    """Construct the dataclass `kind` from plain data, checking names and types on the way."""
    if not isinstance(data, dict):
        raise _malformed(f"{path} is {type(data).__name__}, not an object")
    hints = _hints(kind)
    fields = {each.name: each for each in dataclasses.fields(kind) if each.name != "where"}
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise _malformed(f"{path} has the unknown key {unknown[0]!r}")
    values = {}
    for name, each in fields.items():
        if name not in data:
            if each.default is dataclasses.MISSING:
                raise _malformed(f"{path} lacks the key {name!r}")
            continue
        values[name] = _value(hints[name], data[name], f"{path}.{name}")
    return kind(**values)


def _value(hint: Any, value: object, path: str) -> object:
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return _build(hint, value, path)
    allowed = get_args(hint)
    if allowed:
        if value not in allowed:
            names = ", ".join(map(repr, allowed))
            raise _malformed(f"{path} is {value!r}, not one of {names}")
    elif type(value) is not hint:
        raise _malformed(f"{path} is {value!r}, not of type {hint.__name__}")
    return value
