"""Routing calls on a GPU: arrays of the caller's library, on the caller's stream, no waiting."""

import sys
from collections.abc import Sequence
from typing import Any

from samoyeds_gen.kernel.repeated import torch_stream
from samoyeds_gen.kernel.routing_arguments import RoutingCall, check_result
from samoyeds_gen.kernel.routing_steps import DTYPES, Order
from samoyeds_gen.language import Routed
from samoyeds_gen.runtime import (
    ArrayView,
    allocate,
    current_stream,
    fetch,
    stage,
    stream_for,
)


def launch_order(
    order: Order, call: RoutingCall, device: int, stream: Any, out: Routed | None
) -> Routed:
    """Queue the launches of a call. Host arrays are staged, and their result is waited for."""
    on_host = call.like.kind == "host"
    if stream is None:
        stream = current_stream(device) if on_host else stream_for(call.like)
    views = call.views
    if on_host:
        views = {name: stage(view, device, stream=stream) for name, view in views.items()}
    like = next(iter(views.values()))
    if out is not None and not on_host:
        result, arrays = check_result(out, order.shapes, like), out
    else:
        pairs = [
            allocate(order.shapes[name], dtype, like=like, stream=stream)
            for name, dtype in zip(Routed._fields, DTYPES, strict=True)
        ]
        arrays = Routed(*(array for array, _ in pairs))
        result = Routed(*(view for _, view in pairs))
    values: dict[str, Any] = {**order.numbers, **call.numbers}
    if on_host and call.chooses:
        values["logits_stride"] = like.shape[1]  # staged arrays are packed
    values |= {name: view.pointer for name, view in views.items()}
    values |= {name: view.pointer for name, view in result._asdict().items()}
    chunks = counts_shape(order)
    counts = None if chunks is None else allocate(chunks, "int32", like=like, stream=stream)
    if counts is not None:
        values["counts"] = counts[1].pointer
    queue(order, values, device, stream)
    if not on_host:
        return arrays
    fetched = [_to_host(view, call.like, stream) for view in result]
    return _into(out, Routed(*fetched)) if out is not None else Routed(*fetched)


def queue(order: Order, values: dict[str, Any], device: int, stream: Any) -> None:
    """Queue the launches with these pointers and numbers."""
    for each in order.launches:
        built = each.built
        arguments = [values[source] for source in built.sources]
        built.loaded(device).launch(each.blocks, built.plan.threads, arguments, stream)


class RepeatedCall:
    """The launches of a call, for tensors of the same dtypes, shapes, strides and device.

    `names` are the kernels' parameters behind the arrays of the call; `out` are results that were
    checked, None where each call makes its own.
    """

    __slots__ = ("_chunks", "_device", "_dtypes", "_empty", "_names", "_order", "_values", "out")

    def __init__(
        self, names: Sequence[str], order: Order, call: RoutingCall, out: Routed | None
    ) -> None:
        torch = sys.modules["torch"]
        self._empty = torch.empty
        self._dtypes = [getattr(torch, dtype) for dtype in DTYPES]
        self._names = names
        self._order = order
        self._device = call.like.owner.device
        self._values: dict[str, Any] = {**order.numbers, **call.numbers}
        self._chunks = counts_shape(order)
        self.out = out
        if out is not None:  # held here, and so are its addresses
            self._point_at(self._values, out)

    def __call__(self, arrays: Sequence[Any]) -> Routed:
        """Queue it on torch's current stream; returns `out` or new tensors."""
        empty, device, out = self._empty, self._device, self.out
        values = self._values.copy()
        for name, array in zip(self._names, arrays, strict=True):
            if array is not None:
                values[name] = array.data_ptr()
        if out is None:
            shapes = self._order.shapes.values()
            out = Routed(
                *(
                    empty(shape, dtype=dtype, device=device)
                    for shape, dtype in zip(shapes, self._dtypes, strict=True)
                )
            )
            self._point_at(values, out)
        if self._chunks is not None:
            counts = empty(self._chunks, dtype=self._dtypes[0], device=device)
            values["counts"] = counts.data_ptr()
        queue(self._order, values, device.index, torch_stream(device.index))
        return out

    @staticmethod
    def _point_at(values: dict[str, Any], out: Routed) -> None:
        for name, array in zip(Routed._fields, out, strict=True):
            values[name] = array.data_ptr()


def repeatable(call: RoutingCall, arrays: Sequence[Any]) -> bool:
    """Whether all arrays of a call are torch tensors on a GPU, used where they are."""
    given = [each for each in arrays if each is not None]
    return all(
        view.kind == "device" and view.family == "torch" and view.owner is array
        for view, array in zip(call.views.values(), given, strict=True)
    )


def counts_shape(order: Order) -> tuple[int, int] | None:
    """The shape of the counts that two launches exchange; None for one launch."""
    if not order.chunks:
        return None
    return order.chunks, order.launches[0].built.plan.constant("kExperts")


def _to_host(view: ArrayView, like: ArrayView, stream: Any) -> Any:
    array, target = allocate(view.shape, view.dtype, like=like)
    fetch(view, into=target, stream=stream)
    return array


def _into(out: Routed, result: Routed) -> Routed:
    for to, array in zip(out, result, strict=True):
        to[...] = array
    return out
