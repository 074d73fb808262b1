"""The callables of routing: choose and sort, sort alone, and combine.

Decides where a call runs; the arrays of a call are checked here, and what they mean is decided by
reference/routing.py.
"""

from typing import Any

from samoyeds_gen import reference
from samoyeds_gen.formats.arrays import to_torch
from samoyeds_gen.language import Routed, Routing, Target, target_named
from samoyeds_gen.runtime import describe


def compile_routing(routing: Routing, target: str | None = None) -> "RoutingKernel":
    """Compile the kernels of a routing for `target` (None: the present GPU, else sm_80).

    Raises ScheduleError for a target that is not known, or CompileError.
    """
    return RoutingKernel(routing, target_named(target or "sm_80"))


class RoutingKernel:
    """`kernel(logits)`: chosen experts, their weights, and every slot sorted by expert."""

    def __init__(self, routing: Routing, target: Target) -> None:
        self.routing = routing
        self.target = target

    def __call__(
        self,
        logits: Any,
        bias: Any = None,
        shared_weight: Any = None,
        *,
        device: str = "auto",
        stream: Any = None,
        out: Routed | None = None,
    ) -> Routed:
        """Route `logits` [T, experts], float32, bfloat16 or float16; see reference.route.

        `bias` [experts] and `shared_weight` [T] are float32. Arrays of the result are of the
        logits' library and on their device, or those of `out`, as `empty` makes them.
        """
        return _like(logits, reference.route(logits, self.routing, bias, shared_weight), out)

    def sort(
        self,
        experts: Any,
        weights: Any,
        shared_weight: Any = None,
        *,
        device: str = "auto",
        stream: Any = None,
        out: Routed | None = None,
    ) -> Routed:
        """Sort tokens by experts chosen elsewhere; see reference.dispatch.

        `experts` [T, top_k] are int32 or int64, `weights` [T, top_k] float32, bfloat16 or float16.
        """
        routed = reference.dispatch(experts, weights, self.routing, shared_weight)
        return _like(experts, routed, out)

    def empty(self, tokens: int, like: Any) -> Routed:
        """Uninitialised arrays for `out` of a call on `tokens` tokens, of the library of `like`."""
        raise NotImplementedError


def combine(
    y: Any, slots: Any, *, out: Any = None, device: str = "auto", stream: Any = None
) -> Any:
    """out[t] = sum over j of y[slots[t, j]]: [T, H] of the dtype of y; see reference.combine."""
    return _array_like(y, reference.combine(y, slots), out)


def _like(given: Any, routed: Routed, out: Routed | None) -> Routed:
    outs = [None] * len(routed) if out is None else out
    return Routed(*(_array_like(given, each, to) for each, to in zip(routed, outs, strict=True)))


def _array_like(given: Any, array: Any, out: Any) -> Any:
    if describe(given).family == "torch":
        array = to_torch(array, given.device)
    if out is None:
        return array
    out[...] = array
    return out
