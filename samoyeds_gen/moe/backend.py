"""What a layer asks of the machine: four steps, and who carries them out on which device.

Decides the steps' arrays; `on_reference` computes them in torch anywhere, `on_kernels` with the
generated kernels on a GPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch

from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats import SparseWeight
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.moe.routing import Routing

BACKENDS = ("auto", "reference", "kernels")


@dataclass(frozen=True, slots=True)
class Dispatch:
    """The tokens of a call sorted by expert, stably; shared experts come behind the routed ones.

    With T tokens, k experts a token, S shared experts and E routed ones:

    - `offsets` int32 [E + S + 1]: expert e has the slots offsets[e] to offsets[e + 1].
    - `selection` int32 [T * (k + S)]: the token of each slot.
    - `scale` float32 [T * (k + S)]: the routing weight of each slot.
    - `slots` int32 [T, k + S]: the slots of each token.
    """

    offsets: Array
    selection: Array
    scale: Array
    slots: Array


class Backend(Protocol):
    """Steps of a layer call. Arrays are tensors of one device; nothing waits for the device."""

    def route(self, routing: Routing, logits: Array, bias: Array | None) -> tuple[Array, Array]:
        """Experts int32 [T, k] and weights float32 [T, k] for `logits` [T, E] of any float type."""

    def dispatch(
        self, experts: Array, weights: Array, count: int, shared: int, shared_weights: Array | None
    ) -> Dispatch:
        """Sort slots by expert: `experts` int [T, k] below `count`, `weights` float [T, k].

        Every token also goes to `shared` experts with weight 1, or `shared_weights` float [T].
        """

    def multiply(
        self,
        w: SparseWeight,
        tokens: Array,
        *,
        experts: int = 1,
        dispatch: Dispatch | None = None,
        gathered: bool = False,
        scaled: bool = False,
        bias: Array | None = None,
        activation: str | None = None,
        gated: bool = False,
    ) -> Array:
        """tokens [., k] of the weight's type times the weights of `experts` experts, stacked in w.

        Without `dispatch`, all rows meet the one expert. With it, row i of the result belongs to
        slot i: `gathered` takes the token of the slot, else row i of `tokens`; `scaled` multiplies
        by the slot's weight. `gated` weights interleave gate and up by `gate_block` rows: the
        result is activation(gate) * up, half as wide. Sums and epilogue are float32, the result has
        the weight's type.
        """

    def combine(self, y: Array, slots: Array) -> Array:
        """Sum of each token's rows: y [slots, h], slots int32 [T, k] -> [T, h], in float32."""


_forced = "auto"


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Let layers called inside run on "reference" or "kernels" whatever the device; "auto" ends it.

    Raises ModelError for another name. For tests and comparisons: not for compiled models, which
    keep the backend they were traced with.
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
    if _forced == "kernels" or (_forced == "auto" and device.type == "cuda"):
        from samoyeds_gen.moe.on_kernels import KERNELS

        return KERNELS
    from samoyeds_gen.moe.on_reference import REFERENCE

    return REFERENCE


def runs_kernels(device: torch.device) -> bool:
    """Whether layers on `device` run generated kernels."""
    return _forced == "kernels" or (_forced == "auto" and device.type == "cuda")
