"""The kernels of a routing as launches: which steps a call takes, compiled once each.

Decides by the number of tokens between one CTA and two launches.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from samoyeds_gen.compiler import (
    Combine,
    RoutingPlan,
    Step,
    emit_routing,
    lower_combine,
    lower_step,
)
from samoyeds_gen.compiler.routing import MOST_ALONE, chunk_of, combine_blocks
from samoyeds_gen.errors import LaunchError
from samoyeds_gen.language import Routed, Routing, Target
from samoyeds_gen.language.dtypes import dtype_named
from samoyeds_gen.runtime import Build, LoadedKernel, compile_source, load, require_clean

CHOOSE_ALONE = 32
SORT_ALONE = 128
"""Tokens up to which one CTA is faster than two launches, on an H200 (docs/measurements.md)."""

MOST_SLOTS = 2**31 - 1
PIECE_BYTES = (16, 8, 4, 2)


@dataclass(frozen=True, slots=True)
class Built:
    """One routing kernel: its plan, its source, what NVRTC made of it."""

    plan: RoutingPlan
    source: str
    build: Build
    sources: tuple[str, ...]
    _loaded: dict[int, LoadedKernel] = field(default_factory=dict, repr=False, compare=False)

    def loaded(self, device: int) -> LoadedKernel:
        """The kernel on GPU `device`, once."""
        found = self._loaded.get(device)
        if found is None:
            found = self._loaded[device] = load(
                self.build, self.plan.entry, shared_bytes=self.plan.shared_bytes, device=device
            )
        return found


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch of a call: its kernel and CTAs."""

    built: Built
    blocks: int


@dataclass(frozen=True, slots=True)
class Order:
    """What a call on `tokens` tokens takes: launches in order, numbers, and counts they exchange.

    `shapes` are those of the result, `chunks` that of the counts (0 for none).
    """

    launches: tuple[Launch, ...]
    numbers: dict[str, int]
    shapes: dict[str, tuple[int, ...]]
    chunks: int

    @property
    def early(self) -> bool:
        """Whether its launches begin while the ones before end."""
        return any(each.built.plan.problem.early for each in self.launches)


DTYPES = Routed("int32", "float32", "int32", "int32", "float32", "int32")
"""The dtypes of a result."""


def built_of(plan: RoutingPlan) -> Built:
    """Emit and compile one plan. Raises CompileError when registers spill."""
    source = emit_routing(plan)
    build = compile_source(source, name=plan.source_name, target=plan.target.name)
    require_clean(build.report)
    return Built(plan, source, build, tuple(each.source for each in plan.parameters))


@cache
def build_step(step: Step, target: Target) -> Built:
    """The kernel of a step, compiled on first use."""
    return built_of(lower_step(step, target))


@cache
def build_combine(problem: Combine, target: Target) -> Built:
    """The kernel of a combination, compiled on first use."""
    return built_of(lower_combine(problem, target))


def shapes_of(routing: Routing, tokens: int) -> Routed:
    """The shapes of a result. Raises LaunchError where slots do not count in 32 bits."""
    slots = tokens * routing.choices
    if slots > MOST_SLOTS:
        raise LaunchError(
            f"{tokens} tokens of {routing.choices} slots are {slots}, at most {MOST_SLOTS} are "
            "counted",
            remedy="route the tokens in parts",
        )
    chosen = (tokens, routing.top_k)
    offsets = (routing.experts + routing.shared + 1,)
    return Routed(chosen, chosen, offsets, (slots,), (slots,), (tokens, routing.choices))


def order_of(
    routing: Routing,
    target: Target,
    tokens: int,
    *,
    chooses: bool,
    values: str,
    index: str = "int32",
    gate: str | None = None,
    alone: int | None = None,
    early: bool = False,
) -> Order:
    """The launches of a call: one CTA for up to `alone` tokens, else chunks that meet in counts.

    `values`, `index` and `gate` are the dtypes of logits or given weights, of given experts, and of
    the weights of shared experts, if they have some. `early` launches begin while the one before
    ends (sm_90 and later).
    """
    shapes = shapes_of(routing, tokens)._asdict()
    kind = dtype_named(values)

    weighs = None if gate is None else dtype_named(gate)

    def built(one: Any, **options: Any) -> Built:
        return build_step(Step(routing, one, early=early, **options), target)

    first: dict[str, Any] = {"values": kind} | ({} if chooses else {"index": index})
    if alone is None:
        alone = CHOOSE_ALONE if chooses else SORT_ALONE
    if tokens <= min(alone, MOST_ALONE):
        whole = built("route" if chooses else "sort", gate=weighs, **first)
        return Order((Launch(whole, 1),), {"tokens": tokens}, shapes, 0)
    chunk = chunk_of(tokens)
    blocks = -(-tokens // chunk)
    return Order(
        (
            Launch(built("choose" if chooses else "count", **first), blocks),
            Launch(built("place", gate=weighs), blocks),
        ),
        {"tokens": tokens, "chunk": chunk},
        shapes,
        blocks,
    )


def order_of_combine(
    target: Target,
    dtype: str,
    choices: int,
    tokens: int,
    columns: int,
    aligned: int,
    *,
    weighted: bool = False,
    early: bool = False,
) -> Launch:
    """The launch of a combination, in the widest pieces that rows and addresses allow.

    `aligned` has the low bits of every address and row stride in bytes. An `early` one begins while
    the launch before ends (sm_90 and later).
    """
    kind = dtype_named(dtype)
    row = columns * kind.bytes | aligned
    piece = next(each for each in PIECE_BYTES if row % each == 0)
    built = build_combine(Combine(choices, kind, piece // kind.bytes, weighted, early), target)
    pieces = columns * kind.bytes // piece
    turns = -(-pieces // built.plan.constant("kPieces"))
    if tokens * turns > MOST_SLOTS - built.plan.threads:
        raise LaunchError(
            f"{tokens} tokens of {columns} columns take {tokens * turns} threads, at most "
            f"{MOST_SLOTS - built.plan.threads} are counted",
            remedy="combine the tokens in parts",
        )
    return Launch(built, combine_blocks(built.plan, tokens, pieces))
