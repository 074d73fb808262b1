"""The callable that adds up, for each token, the rows its experts computed."""

import sys
from typing import Any, NamedTuple

from samoyeds_gen.compiler import Combine
from samoyeds_gen.errors import LaunchError
from samoyeds_gen.kernel.place import WITHOUT_GPU, Device, present_target, runs_on_gpu
from samoyeds_gen.kernel.repeated import Repeats, call_key, torch_stream
from samoyeds_gen.kernel.routing_arguments import check_out, combine_views
from samoyeds_gen.kernel.routing_simulated import poisoned, simulate_kernel
from samoyeds_gen.kernel.routing_steps import Launch, order_of_combine
from samoyeds_gen.language import Target
from samoyeds_gen.reference.routing import check_slots
from samoyeds_gen.runtime import (
    ArrayView,
    allocate,
    current_device,
    current_stream,
    describe,
    fetch,
    host_array,
    stage,
    stream_for,
)

WORK_LIMIT = 2**24
"""Elements that device="auto" simulates."""


def combine(
    y: Any,
    slots: Any,
    scale: Any = None,
    *,
    out: Any = None,
    device: Device = "auto",
    stream: Any = None,
) -> Any:
    """out[t] = y[slots[t, 0]] + y[slots[t, 1]] + ..., in float32, in this order, rounded once.

    `y` [slots, H] is float32, bfloat16 or float16 with rows at any distance, `slots` [T, K] int32;
    with `scale` float32 [slots], each row is multiplied by its own first, in float32. out [T, H] is
    of the dtype of y, a new array or a C-ordered one that is given. Slots on a GPU are not checked:
    they are those of a routing. Device and stream as for a RoutingKernel.

    Raises LaunchError for arguments that do not fit, or CompileError.
    """
    key = call_key(y, slots, scale, out) if stream is None else None
    repeat = REPEATS.get(key)
    if repeat is not None and repeat.fits(y, out):
        return repeat(y, slots, scale, out)
    given = Given(*combine_views(y, slots, scale))
    rows = given.rows
    if not runs_on_gpu(device, rows):
        return _simulate(given, out, device)
    if rows.kind == "host":
        return _stage_and_launch(given, out, stream)
    stream = stream_for(rows) if stream is None else stream
    array, view = _result(given, out, stream)
    launch, numbers = _launch_of(given, view, present_target())
    if launch is not None:
        _queue(launch, given.pointers(view) | numbers, rows.device, stream)
        if rows.owner is y and given.places.owner is slots:
            REPEATS.keep(key, RepeatedCombine(launch, numbers, view.shape, y))
    return array


class Given(NamedTuple):
    """The arguments of a combination."""

    rows: ArrayView
    places: ArrayView
    scale: ArrayView | None

    def pointers(self, out: ArrayView) -> dict[str, int]:
        """What the kernel's pointers point to."""
        found = {"y": self.rows.pointer, "slots": self.places.pointer, "out": out.pointer}
        return found if self.scale is None else found | {"scale": self.scale.pointer}


class RepeatedCombine:
    """The launch of a combination, for tensors of the same dtypes, shapes, strides and device."""

    __slots__ = ("_device", "_dtype", "_empty", "_launch", "_numbers", "_piece", "_shape")

    def __init__(
        self, launch: Launch, numbers: dict[str, int], shape: tuple[int, ...], y: Any
    ) -> None:
        problem = launch.built.plan.problem
        assert isinstance(problem, Combine)
        self._empty = sys.modules["torch"].empty
        self._launch, self._numbers, self._shape = launch, numbers, shape
        self._piece = problem.piece_bytes
        self._dtype, self._device = y.dtype, y.device

    def fits(self, y: Any, out: Any) -> bool:
        """Whether the arrays begin where the kernel's loads and stores may."""
        begin = y.data_ptr() | (0 if out is None else out.data_ptr())
        return bool(begin % self._piece == 0)

    def __call__(self, y: Any, slots: Any, scale: Any, out: Any) -> Any:
        """Queue it on torch's current stream; returns `out` or a new tensor."""
        if out is None:
            out = self._empty(self._shape, dtype=self._dtype, device=self._device)
        index = self._device.index
        values = {"y": y.data_ptr(), "slots": slots.data_ptr(), "out": out.data_ptr()}
        if scale is not None:
            values["scale"] = scale.data_ptr()
        _queue(self._launch, values | self._numbers, index, torch_stream(index))
        return out


REPEATS = Repeats[RepeatedCombine]()


def _result(given: Given, out: Any, stream: Any) -> tuple[Any, ArrayView]:
    """The array for the sums, new or given, and its view."""
    rows = given.rows
    shape = (given.places.shape[0], rows.shape[1])
    if out is None:
        return allocate(shape, rows.dtype, like=rows, stream=stream)
    view = describe(out)
    check_out("out", view, shape, rows.dtype, rows)
    return out, view


def _launch_of(
    given: Given, out: ArrayView, target: Target
) -> tuple[Launch | None, dict[str, int]]:
    """The launch and its numbers; None where there is nothing to add."""
    rows = given.rows
    (tokens, choices), columns = given.places.shape, rows.shape[1]
    if not tokens or not columns:
        return None, {}
    stride = rows.strides[0] if rows.shape[0] > 1 else columns
    aligned = rows.pointer | out.pointer | stride * rows.itemsize
    weighted = given.scale is not None
    launch = order_of_combine(
        target, rows.dtype, choices, tokens, columns, aligned, weighted=weighted
    )
    problem = launch.built.plan.problem
    assert isinstance(problem, Combine)
    numbers = {"y_stride": stride, "out_stride": columns, "tokens": tokens}
    return launch, numbers | {"pieces": columns // problem.elements}


def _queue(launch: Launch, values: dict[str, Any], device: int, stream: Any) -> None:
    built = launch.built
    arguments = [values[source] for source in built.sources]
    built.loaded(device).launch(launch.blocks, built.plan.threads, arguments, stream)


def _stage_and_launch(given: Given, out: Any, stream: Any) -> Any:
    """Host arrays on a GPU: copied there and back, and waited for."""
    _check_slots(given.rows, given.places)
    device = current_device()
    stream = current_stream(device) if stream is None else stream
    rows, places = (stage(each, device, stream=stream) for each in given[:2])
    scale = None if given.scale is None else stage(given.scale, device, stream=stream)
    on_gpu = Given(rows, places, scale)
    _, view = _result(on_gpu, None, stream)
    launch, numbers = _launch_of(on_gpu, view, present_target())
    if launch is not None:
        _queue(launch, on_gpu.pointers(view) | numbers, device, stream)
    array, into = _result(given, out, stream)
    fetch(view, into=into, stream=stream)
    return array


def _simulate(given: Given, out: Any, device: Device) -> Any:
    rows, places, scale = given
    _check_slots(rows, places)
    array, view = _result(given, out, None)
    if device == "auto" and view.size * places.shape[1] > WORK_LIMIT:
        raise LaunchError(
            f"{places.size} rows of {rows.shape[1]} are more than the {WORK_LIMIT} elements that "
            "device='auto' simulates",
            remedy="use fewer tokens, a GPU, or device='cpu' to wait for it",
        )
    table = host_array(rows).copy(order="C")
    packed = describe(table)
    made = poisoned(view.shape, rows.dtype)
    launch, numbers = _launch_of(given._replace(rows=packed), describe(made), WITHOUT_GPU)
    if launch is not None:
        inputs = {"y": table, "slots": host_array(places)}
        if scale is not None:
            inputs["scale"] = host_array(scale)
        simulate_kernel(launch.built, launch.blocks, inputs, {"out": made}, numbers)
    host_array(view)[...] = made
    return array


def _check_slots(rows: ArrayView, places: ArrayView) -> None:
    """Refuse host slots of rows that do not exist."""
    check_slots(host_array(places), rows.shape[0])
