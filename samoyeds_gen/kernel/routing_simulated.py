"""Routing kernels on the simulator: numpy arrays in and out, no GPU."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from samoyeds_gen.formats import ELEMENTS
from samoyeds_gen.kernel.routing_steps import DTYPES, Built, Order
from samoyeds_gen.language import Routed
from samoyeds_gen.simulator import Pointer, Report, parse, run

Array = np.ndarray[Any, Any]
WIDE = ("logits_stride", "y_stride", "out_stride")
POISON = 0xFF


def simulate_order(
    order: Order, inputs: Mapping[str, Array], numbers: Mapping[str, int]
) -> tuple[Routed, Sequence[Report]]:
    """Run the launches of a call and return its result, with what the simulator counted.

    Every byte of the result starts as poison, and reading one before it is written is a fault.
    """
    made = {
        name: poisoned(order.shapes[name], dtype)
        for name, dtype in zip(Routed._fields, DTYPES, strict=True)
    }
    written = dict(made)
    if order.chunks:
        experts = order.launches[0].built.plan.constant("kExperts")
        written["counts"] = poisoned((order.chunks, experts), "int32")
    reports = [
        simulate_kernel(each.built, each.blocks, inputs, written, {**order.numbers, **numbers})
        for each in order.launches
    ]
    return Routed(**made), reports


def simulate_kernel(
    built: Built,
    blocks: int,
    inputs: Mapping[str, Array],
    written: Mapping[str, Array],
    numbers: Mapping[str, int],
) -> Report:
    """One launch; `written` arrays are changed in place. Raises SimulationFault."""
    values: dict[str, Any] = {name: Pointer(array, name=name) for name, array in inputs.items()}
    values |= {name: Pointer(array, name=name, writable=True) for name, array in written.items()}
    values |= {
        name: np.int64(value) if name in WIDE else np.int32(value)
        for name, value in numbers.items()
    }
    return run(
        parse(built.build.ptx),
        built.plan.entry,
        grid=(blocks, 1, 1),
        block=(built.plan.threads, 1, 1),
        shared_bytes=built.plan.shared_bytes,
        arguments=[values[source] for source in built.sources],
    )


def poisoned(shape: tuple[int, ...], dtype: str) -> Array:
    """A new array of bytes that no result has."""
    array = np.empty(shape, ELEMENTS.get(dtype, np.dtype(dtype)))
    array.view(np.uint8)[...] = POISON
    return array
