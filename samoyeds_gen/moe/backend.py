"""What a layer asks of the machine: its steps, and who carries them out on which device.

Decides the steps' arrays; `on_reference` computes them on a CPU, `on_kernels` with the generated
kernels on a GPU.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch

from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats import SparseWeight
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.language import Routed, Routing

BACKENDS = ("auto", "reference", "kernels")


class Given(NamedTuple):
    """What a layer call knows of its routing: logits, or experts chosen elsewhere.

    `logits` float [T, E] with `bias` float32 [E] where the routing has one, or `experts` int32 or
    int64 [T, k] and `weights` float [T, k]; `shared_weight` float [T] or [T, 1] weighs shared
    experts.
    """

    logits: Array | None = None
    bias: Array | None = None
    experts: Array | None = None
    weights: Array | None = None
    shared_weight: Array | None = None


class Work(NamedTuple):
    """A layer call: `tokens` [T, k] through the MLPs of all experts, stacked in `up` and `down`.

    `lone` has the two weights of one more shared expert, which is of a width of its own.
    """

    routing: Routing
    tokens: Array
    given: Given
    up: SparseWeight
    down: SparseWeight
    activation: str
    gated: bool
    lone: tuple[SparseWeight, SparseWeight] | None = None

    @property
    def experts(self) -> int:
        """Experts that are stacked."""
        return self.routing.experts + self.routing.shared

    @property
    def rule(self) -> Routing:
        """`routing`, the lone expert being the last of the shared ones."""
        if self.lone is None:
            return self.routing
        return replace(self.routing, shared=self.routing.shared + 1)


class Prepared(NamedTuple):
    """A layer call that `make` makes; `call` makes it for other tensors like `arrays`, if any."""

    call: Callable[[Mapping[str, Array]], Array]
    arrays: dict[str, Array]

    def make(self) -> Array:
        """Make the call: [T, k]."""
        return self.call(self.arrays)


class Backend(Protocol):
    """Steps of a layer call. Arrays are tensors of one device; nothing waits for the device."""

    def route(
        self, routing: Routing, logits: Array, bias: Array | None, shared_weight: Array | None
    ) -> Routed:
        """Choose experts for `logits` [T, E], a float type, and sort the tokens by expert.

        `bias` float32 [E] is given where the routing has one; `shared_weight` float [T] weighs the
        shared experts, 1 without it.
        """

    def sort(
        self, routing: Routing, experts: Array, weights: Array, shared_weight: Array | None
    ) -> Routed:
        """Sort tokens by `experts` int32 or int64 [T, k] chosen elsewhere, `weights` float."""

    def multiply(
        self,
        w: SparseWeight,
        tokens: Array,
        *,
        experts: int = 1,
        routed: Routed | None = None,
        gathered: bool = False,
        bias: Array | None = None,
        activation: str | None = None,
        gated: bool = False,
    ) -> Array:
        """tokens [., k] of the weight's type times the weights of `experts` experts, stacked in w.

        Without `routed`, all rows meet the one expert. With it, row i of the result belongs to
        slot i: `gathered` takes the token of the slot, else row i of `tokens`. `gated` weights
        interleave gate and up by `gate_block` rows: the result is activation(gate) * up, half as
        wide. Sums and epilogue are float32, the result has the weight's type.
        """

    def mlp(
        self, tokens: Array, up: SparseWeight, down: SparseWeight, activation: str, gated: bool
    ) -> Array:
        """tokens [T, k] of the weights' type times `up`, and the result times `down`: [T, k]."""

    def combine(self, y: Array, routed: Routed) -> Array:
        """Sum of each token's rows times their weights: y [slots, h] -> [T, h], in float32."""

    def layer(self, work: Work) -> Prepared:
        """All of it: what gives [T, k] for the tokens [T, k] of a layer call."""


def by_steps(backend: Backend, work: Work) -> Prepared:
    """`Backend.layer` by the other steps."""
    return Prepared(lambda _: _step_by_step(backend, work), {})


def _step_by_step(backend: Backend, work: Work) -> Array:
    given, tokens, lone = work.given, work.tokens, work.lone
    extra = None if given.shared_weight is None else given.shared_weight.flatten()
    if given.logits is not None:
        routed = backend.route(work.rule, given.logits, given.bias, extra)
    else:
        routed = backend.sort(work.rule, given.experts, given.weights, extra)
    stacked = routed
    if lone is not None:  # the last slots are its own, one of each token in turn
        selection = routed.selection[: len(routed.selection) - len(tokens)]
        stacked = routed._replace(offsets=routed.offsets[:-1], selection=selection)
    wide = backend.multiply(
        work.up,
        tokens,
        experts=work.experts,
        routed=stacked,
        gathered=True,
        activation=work.activation,
        gated=work.gated,
    )
    narrow = backend.multiply(work.down, wide, experts=work.experts, routed=stacked)
    if lone is not None:
        own = backend.mlp(tokens, *lone, work.activation, work.gated)
        narrow = torch.cat((narrow, own))
    return backend.combine(narrow, routed)


_forced = "auto"


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Let layers called inside run on "reference" or "kernels" whatever the device; "auto" ends it.

    Kernels run in the simulator for tensors on a CPU, which takes its time. Raises ModelError for
    another name. For tests and comparisons: not for compiled models, which keep what they were
    traced with.
    """
    global _forced
    if name not in BACKENDS:
        raise ModelError(
            f"backend {name!r} is not one of {', '.join(BACKENDS)}", remedy="choose one of them"
        )
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def backend_of(device: torch.device) -> Backend:
    """The backend for tensors on `device`: kernels on a CUDA device, else the reference."""
    if runs_kernels(device):
        from samoyeds_gen.moe.on_kernels import KERNELS

        return KERNELS
    from samoyeds_gen.moe.on_reference import REFERENCE

    return REFERENCE


def runs_kernels(device: torch.device) -> bool:
    """Whether layers on `device` run generated kernels."""
    return _forced == "kernels" or (_forced == "auto" and device.type == "cuda")
