"""The callables of routing: choose and sort, sort alone, and combine.

Decides where a call runs. What the numbers mean is decided by reference/routing.py.
"""

from collections.abc import Sequence
from typing import Any

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.formats.arrays import to_torch
from samoyeds_gen.kernel.combination import combine
from samoyeds_gen.kernel.place import Device, present_target, runs_on_gpu
from samoyeds_gen.kernel.repeated import Repeats, call_key
from samoyeds_gen.kernel.routing_arguments import RoutingCall, check_result, route_call, sort_call
from samoyeds_gen.kernel.routing_launched import RepeatedCall, launch_order, repeatable
from samoyeds_gen.kernel.routing_simulated import simulate_order
from samoyeds_gen.kernel.routing_steps import DTYPES, Order, order_of, shapes_of
from samoyeds_gen.language import Routed, Routing, Target, target_named
from samoyeds_gen.runtime import allocate, current_device, describe, host_array
from samoyeds_gen.simulator import Report

WORK_LIMIT = 2**21
"""Logits that device="auto" simulates."""


def compile_routing(routing: Routing, target: str | None = None) -> "RoutingKernel":
    """The kernels of a routing for `target` (None: the present GPU's, else sm_80).

    Each is compiled when a call first needs it. Raises ScheduleError for an unknown target.
    """
    return RoutingKernel(routing, present_target() if target is None else target_named(target))


class RoutingKernel:
    """`kernel(logits)`: chosen experts, their weights, and every slot sorted by expert.

    Made by `compile_routing`. Calls on torch GPU tensors queue their work on torch's current
    stream, wait for nothing and can be captured in a graph. Up to `alone` tokens take one launch
    of one CTA, more take two launches.
    """

    def __init__(self, routing: Routing, target: Target, *, alone: int | None = None) -> None:
        self.routing = routing
        self.target = target
        self.alone = alone
        self._routes, self._sorts = Repeats[RepeatedCall](), Repeats[RepeatedCall]()
        self.last_reports: Sequence[Report] = ()

    def __repr__(self) -> str:
        return f"RoutingKernel({self.routing}, {self.target.name})"

    def __call__(
        self,
        logits: Any,
        bias: Any = None,
        shared_weight: Any = None,
        *,
        device: Device = "auto",
        stream: Any = None,
        out: Routed | None = None,
    ) -> Routed:
        """Route `logits` [T, experts], float32, bfloat16 or float16, with rows at any distance.

        `bias` [experts] float32 is given if the routing has one; `shared_weight` [T], of any of the
        three types, weighs what shared experts add (1 without it). The result is of the logits'
        library and in their place, or `out`, six arrays as `empty` makes them. device "auto" runs
        on a GPU where the logits are on one or one is present, else in the simulator up to a work
        limit.

        Raises LaunchError for arguments that do not fit, or CompileError.
        """
        arrays = (logits, bias, shared_weight)
        key = call_key(*arrays) if stream is None else None
        repeat = self._routes.get(key)
        if repeat is not None and repeat.out is out:
            return repeat(arrays)
        call = route_call(self.routing, logits, bias, shared_weight)
        order, result = self._run(call, device, stream, out)
        if repeatable(call, arrays):
            names = ("logits", "bias", "shared_weight")
            self._routes.keep(key, RepeatedCall(names, order, call, out))
        return result

    def sort(
        self,
        experts: Any,
        weights: Any,
        shared_weight: Any = None,
        *,
        device: Device = "auto",
        stream: Any = None,
        out: Routed | None = None,
    ) -> Routed:
        """Sort tokens by experts chosen elsewhere, with the arguments of a call as above.

        `experts` [T, top_k] are int32 or int64, `weights` [T, top_k] float32, bfloat16 or float16.
        A token must not have an expert twice: host arrays are checked; on a GPU some slots of such
        a token, and what `selection` says of them, are undefined, though inside the result. An
        expert out of range on a GPU counts as the last one.
        """
        arrays = (experts, weights, shared_weight)
        key = call_key(*arrays) if stream is None else None
        repeat = self._sorts.get(key)
        if repeat is not None and repeat.out is out:
            return repeat(arrays)
        call = sort_call(self.routing, experts, weights, shared_weight)
        order, result = self._run(call, device, stream, out)
        if repeatable(call, arrays):
            names = ("given_experts", "given_weights", "shared_weight")
            self._sorts.keep(key, RepeatedCall(names, order, call, out))
        return result

    def combine(self, y: Any, slots: Any, scale: Any = None, **options: Any) -> Any:
        """See `combine`; the same function for every routing."""
        return combine(y, slots, scale, **options)

    def empty(self, tokens: int, like: Any) -> Routed:
        """Uninitialised arrays for `out` of a call on `tokens` tokens, of the library of `like`."""
        view = describe(like)
        shapes = shapes_of(self.routing, tokens)
        return Routed(*(allocate(*each, like=view)[0] for each in zip(shapes, DTYPES, strict=True)))

    def _run(
        self, call: RoutingCall, device: Device, stream: Any, out: Routed | None
    ) -> tuple[Order, Routed]:
        """Run a checked call where it belongs; returns its launches and its result."""
        gpu = runs_on_gpu(device, call.like)
        order = order_of(
            self.routing,
            self.target,
            call.tokens,
            chooses=call.chooses,
            values=call.values,
            index=call.index,
            gate=call.gate,
            alone=self.alone,
        )
        if not gpu:
            return order, self._simulate(order, call, device, out)
        ordinal = call.like.device if call.like.kind == "device" else current_device()
        return order, launch_order(order, call, ordinal, stream, out)

    def _simulate(
        self, order: Order, call: RoutingCall, device: Device, out: Routed | None
    ) -> Routed:
        if device == "auto" and call.tokens * self.routing.experts > WORK_LIMIT:
            raise LaunchError(
                f"{call.tokens} tokens of {self.routing.experts} experts are more than the "
                f"{WORK_LIMIT} logits that device='auto' simulates",
                remedy="use fewer tokens, a GPU, or device='cpu' to wait for it",
            )
        inputs = {name: host_array(view) for name, view in call.views.items()}
        inputs = {name: array.copy(order="C") for name, array in inputs.items()}
        numbers = {"logits_stride": self.routing.experts} if call.chooses else {}
        made, self.last_reports = simulate_order(order, inputs, numbers)
        if call.like.family == "torch":
            made = Routed(*(to_torch(each, "cpu") for each in made))
        if out is None:
            return made
        check_result(out, order.shapes, call.like)
        for to, array in zip(out, made, strict=True):
            to[...] = array
        return out


__all__ = ["RoutingKernel", "combine", "compile_routing"]
