"""One call on the simulator: host arrays in, a numpy array out, no GPU."""

from collections.abc import Callable
from typing import Any

import numpy as np

from samoyeds_gen.compiler import Box, Plan
from samoyeds_gen.errors import LaunchError
from samoyeds_gen.formats import ELEMENTS
from samoyeds_gen.kernel.arguments import Call, check_rows
from samoyeds_gen.kernel.packing import packed
from samoyeds_gen.runtime import ArrayView, Build, host_array
from samoyeds_gen.simulator import (
    Counters,
    Pointer,
    Report,
    SimulationFault,
    TensorMap,
    parse,
    run,
)

WORK_LIMIT = 2**30
PROCESSORS = 3  # of the simulated GPU: few, so that persistent CTAs walk several tiles
ROW_ALIGNMENT = 8  # elements: 16 bytes of a 16-bit type

Array = np.ndarray[Any, Any]


def simulated_work(plan: Plan, m: int, n: int, k: int) -> int:
    """Dense multiply-adds the simulator will go through, whole tiles counted."""
    tile_m, tile_n, tile_k = plan.tile
    return -(-m // tile_m) * tile_m * -(-n // tile_n) * tile_n * -(-k // tile_k) * tile_k


def require_simulable(plan: Plan, m: int, n: int, k: int) -> None:
    """Refuse a problem that would keep the simulator busy for minutes."""
    work = simulated_work(plan, m, n, k)
    if work > WORK_LIMIT:
        raise LaunchError(
            f"m={m}, k={k}, n={n} is {work:.2e} multiply-adds, the simulator is "
            f"limited to {WORK_LIMIT:.2e} by device='auto'",
            remedy="use a smaller problem, a GPU, or device='cpu' to wait for it",
        )


def simulate(
    plan: Plan,
    build: Build,
    call: Call,
    progress: Callable[[int, int], None] | None = None,
    check: bool = True,
    poison: int = 0xFF,
) -> tuple[Array, Report]:
    """Run the plan's PTX and return out [n, m] with what the simulator counted.

    Every output byte starts as `poison`, by default such that an element never written is NaN.
    """
    pointers = {
        name: Pointer(array, name=name)
        for name, array in packed(call.w, plan, call.experts).items()
    }
    data = np.ascontiguousarray(call.w.numpy().data)
    pointers["weight.data"] = Pointer(data, name="weight.data")
    tokens, stride = token_rows(call.tokens)
    pointers["tokens"] = Pointer(tokens, name="tokens")
    for name in ("selection", "bias", "scale", "offsets"):
        view = getattr(call, name)
        if view is not None:
            pointers[name] = Pointer(np.ascontiguousarray(host_array(view)), name=name)
    if call.selection is not None and check:
        check_rows(call.selection, call.tokens, host_array(call.selection))
    out = np.empty((call.n, call.features), ELEMENTS[plan.problem.out_dtype.name])
    out.view(np.uint8)[...] = poison
    pointers["out"] = Pointer(out, name="out", writable=True)
    tickets = _exchange(plan, call, pointers)
    numbers = {
        "tokens.stride": np.int64(stride),
        "out.stride": np.int64(call.features),
        "experts": np.int32(call.experts),
        "m": np.int32(call.m),
        "n": np.int32(call.n),
        "k": np.int32(call.k),
        "tokens.count": np.int64(call.tokens.shape[0]),
    }
    shapes = {
        "weight.data": (data.shape, data.shape[1]),
        "tokens": ((call.tokens.shape[0], call.k), stride),
    }
    values: dict[str, Any] = {**pointers, **numbers}
    if call.n == 0:  # nothing is launched on a GPU either
        return out, Report(Counters(), 0)
    for box in plan.boxes:
        values[box.source] = _tensor_map(box, pointers[box.operand], *shapes[box.operand])
    report = run(
        parse(build.ptx),
        plan.entry,
        grid=plan.grid(call.m, call.n, PROCESSORS, call.experts),
        block=(plan.threads, 1, 1),
        shared_bytes=plan.shared_bytes,
        arguments=[values[parameter.source] for parameter in plan.parameters],
        progress=progress,
        cluster=plan.cluster,
    )
    if tickets.any():
        left = int(np.count_nonzero(tickets))
        raise SimulationFault(
            "ticket left",
            f"{left} of {tickets.size} tickets are not zero for the next launch",
            buffer="tickets",
        )
    return out, report


def _tensor_map(box: Box, pointer: Pointer, shape: tuple[int, ...], stride: int) -> TensorMap:
    element = pointer.array.itemsize
    return TensorMap(
        pointer,
        pointer.array.dtype.name,
        dims=(shape[1], shape[0]),
        strides=(stride * element,),
        box=(box.columns, box.rows),
        swizzle=box.swizzle,
    )


def _exchange(plan: Plan, call: Call, pointers: dict[str, Pointer]) -> Array:
    """What CTAs that split k write their parts and tickets to; returns the tickets, all zero."""
    floats, count = plan.split_storage(call.m, call.n)
    tickets = np.zeros(max(count, 1), np.uint32)
    if plan.takes("split.parts"):
        parts = np.zeros(max(floats, 1), np.float32)
        pointers["split.parts"] = Pointer(parts, name="parts", writable=True, initialised=False)
        pointers["split.tickets"] = Pointer(tickets, name="tickets", writable=True)
    return tickets


def token_rows(view: ArrayView) -> tuple[Array, int]:
    """The tokens as one flat allocation and their row stride in elements.

    Rows and strides of whole 16-byte chunks are kept, so that strided views are tested as they
    are; otherwise the rows are copied with zeros behind them.
    """
    rows = host_array(view)
    count, k = rows.shape
    stride = view.strides[0]
    if count == 0 or k == 0:
        return np.zeros(1, rows.dtype), ROW_ALIGNMENT
    whole = k % ROW_ALIGNMENT == 0 and stride % ROW_ALIGNMENT == 0
    if count > 1 and stride >= k and whole:
        length = (count - 1) * stride + k
        flat = np.lib.stride_tricks.as_strided(rows, (length,), (rows.itemsize,), writeable=False)
        return flat, stride
    return padded_rows(rows)


def padded_rows(rows: Array) -> tuple[Array, int]:
    """A copy of the rows whose stride is whole 16-byte chunks, zeros between."""
    count, k = rows.shape
    stride = -(-k // ROW_ALIGNMENT) * ROW_ALIGNMENT
    copy = np.zeros((count, stride), rows.dtype)
    copy[:, :k] = rows
    return copy, stride
