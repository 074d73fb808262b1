"""One call on a GPU: arrays of the caller's library, on the caller's stream."""

import sys
from collections.abc import Sequence
from typing import Any

from samoyeds_gen.compiler import Box, Plan
from samoyeds_gen.errors import LaunchError
from samoyeds_gen.kernel.arguments import Call, check_rows
from samoyeds_gen.kernel.packing import on_device
from samoyeds_gen.kernel.parts import part_storage
from samoyeds_gen.kernel.repeat import Repeat
from samoyeds_gen.kernel.simulated import ROW_ALIGNMENT, padded_rows
from samoyeds_gen.runtime import (
    ArrayView,
    LoadedKernel,
    allocate,
    current_stream,
    describe,
    device_info,
    fetch,
    host_array,
    pad_rows,
    stage,
    stream_for,
    tensor_map,
)

ALIGNMENT_BYTES = 16
VECTORS = ("selection", "bias", "scale", "offsets")


class Launcher:
    """A loaded kernel and everything about its launch that does not depend on the call."""

    def __init__(self, plan: Plan, loaded: LoadedKernel, device: int) -> None:
        self.plan = plan
        self.loaded = loaded
        self.device = device
        self._packing_key = plan.packing_key
        self._processors = device_info(device).multiprocessors
        self._out_dtype = plan.problem.out_dtype.name
        self._sources = [parameter.source for parameter in plan.parameters]

    def __call__(
        self, call: Call, stream: Any, out: Any, check: bool
    ) -> tuple[Any, list[Any] | None]:
        """Queue the kernel; return out [n, m] and the arguments of a launch that can be repeated.

        Device arrays are neither copied nor waited for. Host arrays are staged to the GPU and
        the result is fetched, which waits for the kernel.
        """
        on_host = call.tokens.kind == "host"
        if stream is None:
            stream = current_stream(self.device) if on_host else stream_for(call.tokens)
        if call.selection is not None and (check or call.selection.kind == "host"):
            check_rows(call.selection, call.tokens, _values(call.selection, stream))
        tokens = _aligned_tokens(call.tokens, self.device, stream)
        shape = (call.n, call.features)
        if out is None:
            out, out_view = allocate(shape, self._out_dtype, like=tokens, stream=stream)
        else:
            out_view = _given_out(out, shape, self._out_dtype, tokens)
        arguments = None
        in_place = tokens is call.tokens
        if call.n:
            values: dict[str, Any] = {
                "tokens": tokens.pointer,
                "out": out_view.pointer,
                "tokens.stride": tokens.strides[0] if call.tokens.shape[0] > 1 else ROW_ALIGNMENT,
                "out.stride": call.features,
                "experts": call.experts,
                "m": call.m,
                "n": call.n,
                "k": call.k,
                "tokens.count": call.tokens.shape[0],
            }
            vectors = self._vectors(call, stream)
            values.update(vectors)
            values.update(self._parts(call, stream))
            weight = on_device(call.w, self.plan, self._packing_key, self.device, call.experts)
            values.update(weight)
            for box in self.plan.boxes:
                view = weight["weight.data"] if box.operand == "weight.data" else tokens
                values[box.source] = _tensor_map(box, view)
            arguments = [values[source] for source in self._sources]
            grid = self.plan.grid(call.m, call.n, self._processors, call.experts)
            self.loaded.launch(grid, self.plan.threads, arguments, stream)
            in_place &= all(view is getattr(call, name) for name, view in vectors.items())
        if on_host:
            return _to_host(out_view, call.tokens, stream), None
        return out, arguments if in_place else None

    def repeat(
        self,
        call: Call,
        arrays: Sequence[Any],
        options: tuple[object, ...],
        arguments: list[Any] | None,
        out: Any,
    ) -> Repeat | None:
        """The launch for a call with the same arrays; None unless all are torch GPU tensors."""
        views = [call.tokens, call.selection, call.bias, call.scale, call.offsets]
        on_gpu = all(
            each is None or (each.kind == "device" and each.family == "torch") for each in views
        )
        if arguments is None or not on_gpu or options[-1]:
            return None
        grid = self.plan.grid(call.m, call.n, self._processors, call.experts)
        extents = (grid, self.plan.threads)
        out_at = self._sources.index("out")
        stream = current_stream(self.device) if self.plan.schedule.split.k > 1 else None
        return Repeat(call.w, arrays, options, self.loaded, extents, arguments, out, out_at, stream)

    def _parts(self, call: Call, stream: Any) -> dict[str, int]:
        """What CTAs that split k exchange, for this stream."""
        floats, tickets = self.plan.split_storage(call.m, call.n)
        return part_storage(self.device).values(floats, tickets, stream) if tickets else {}

    def _vectors(self, call: Call, stream: Any) -> dict[str, ArrayView]:
        """Selection, bias, scale and offsets on the GPU, those that the call has."""
        vectors = {name: getattr(call, name) for name in VECTORS}
        return {
            name: self._vector(name, view, stream)
            for name, view in vectors.items()
            if view is not None
        }

    def _vector(self, name: str, view: ArrayView, stream: Any) -> ArrayView:
        if view.kind == "host":
            return stage(view, self.device, stream=stream)
        if view.device != self.device:
            raise LaunchError(
                f"{name} is on device {view.device}, the kernel runs on device {self.device}",
                remedy=f"move {name} to the device of the tokens",
            )
        return _packed(view)


def _tensor_map(box: Box, view: ArrayView) -> Any:
    rows, columns = view.shape
    stride = view.strides[0] if rows > 1 else -(-columns // ROW_ALIGNMENT) * ROW_ALIGNMENT
    return tensor_map(
        view.pointer, view.dtype, (rows, columns), stride, (box.rows, box.columns), box.swizzle
    )


def _given_out(out: Any, shape: tuple[int, int], dtype: str, tokens: ArrayView) -> ArrayView:
    view = describe(out)
    if (view.shape, view.dtype, view.device) != (shape, dtype, tokens.device) or (
        not view.contiguous
    ):
        raise LaunchError(
            f"out is {view}, the result is a C-ordered {dtype} {list(shape)} "
            f"on device {tokens.device}",
            remedy="allocate it so, or leave it out",
        )
    if view.pointer % ALIGNMENT_BYTES:
        raise LaunchError(
            f"out starts at address {view.pointer:#x}, results are stored {ALIGNMENT_BYTES} bytes "
            "at a time",
            remedy=f"let it start at a multiple of {ALIGNMENT_BYTES} bytes, or leave it out",
        )
    return view


def _to_host(out: ArrayView, like: ArrayView, stream: Any) -> Any:
    array, view = allocate(out.shape, out.dtype, like=like)
    fetch(out, into=view, stream=stream)
    return array


def _values(selection: ArrayView, stream: Any) -> Any:
    if selection.kind == "host":
        return host_array(selection)
    return fetch(_packed(selection), stream=stream)


def _packed(view: ArrayView) -> ArrayView:
    """A vector on the GPU without gaps; a copy where it has them."""
    if view.contiguous:
        return view
    if view.family == "torch":
        return describe(view.owner.contiguous())
    raise LaunchError(
        f"a vector of {view.shape[0]} entries on the GPU has stride {view.strides[0]}",
        remedy="pass a contiguous copy",
    )


def _aligned_tokens(view: ArrayView, device: int, stream: Any) -> ArrayView:
    """Tokens on the GPU with rows at 16-byte boundaries; a padded copy where they are not."""
    whole = view.shape[1] % ROW_ALIGNMENT == 0
    aligned = whole and (view.strides[0] % ROW_ALIGNMENT == 0 or view.shape[0] <= 1)
    if view.kind == "host":
        rows = host_array(view)
        if rows.size and rows.shape[1] % ROW_ALIGNMENT:
            rows, _ = padded_rows(rows)
        return stage(rows, device, stream=stream)
    if aligned and view.pointer % ALIGNMENT_BYTES == 0:
        return view
    torch = sys.modules.get("torch")
    if view.family == "torch" and torch is not None:
        count, k = view.shape
        width = -(-k // ROW_ALIGNMENT) * ROW_ALIGNMENT
        copy = torch.zeros((count, width), dtype=view.owner.dtype, device=view.owner.device)
        copy[:, :k] = view.owner
        return describe(copy)
    return pad_rows(view, ROW_ALIGNMENT, stream=stream)
