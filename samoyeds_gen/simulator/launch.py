"""Running a kernel: arguments, buffers, batches of CTAs, the report.

CTAs are independent unless they synchronise through global memory, so a grid runs in batches; a
batch is one wide vector of lanes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.simulator.counters import Counters
from samoyeds_gen.simulator.global_races import GlobalShadow
from samoyeds_gen.simulator.instructions import TABLE
from samoyeds_gen.simulator.lowering import MODULE_SLOT, Lowered, lower
from samoyeds_gen.simulator.machine import Launch, Machine
from samoyeds_gen.simulator.memory import Buffer, GlobalSpace
from samoyeds_gen.simulator.program import Program
from samoyeds_gen.simulator.scalars import Array

# Wider batches amortise the interpreter better until the lanes no longer fit the cache.
LANES_PER_BATCH = 4096
MAX_THREADS = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Pointer:
    """A kernel argument that points `offset` bytes into `array`.

    `array` is the whole allocation: any contiguous array, changed in place when `writable`. An
    access outside its bytes is a fault; so is a read of bytes of an array with `initialised=False`
    before the kernel wrote them.
    """

    array: Any
    name: str = "buffer"
    writable: bool = False
    offset: int = 0
    initialised: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """What a launch did: its counters, and how many CTAs ran."""

    counters: Counters
    ctas: int


def run(
    program: Program,
    entry: str,
    *,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    shared_bytes: int = 0,
    arguments: Sequence[Pointer | np.generic],
    progress: Callable[[int, int], None] | None = None,
    counters: bool = True,
    races: bool = True,
) -> Report:
    """Execute one launch of `entry`.

    `shared_bytes` is the dynamic shared memory; `arguments` stand in parameter order, numpy scalars
    have the parameter's width. `progress(done, total)` is called after each batch of CTAs.
    `races=False` leaves the race detector out: copies in flight still hold poison.

    Raises SimulationFault for what the kernel does wrong, LaunchError for a launch that does not
    fit the kernel.
    """
    kernel = lower(program, entry, TABLE)
    total = grid[0] * grid[1] * grid[2]
    if block[1] != 1 or block[2] != 1 or not 1 <= block[0] <= MAX_THREADS:
        raise LaunchError(
            f"block {block} is not (1 to {MAX_THREADS}, 1, 1)", remedy="launch a flat block"
        )
    space = GlobalSpace()
    params = _parameters(kernel, entry, arguments, space, races)
    _module_variables(kernel, space)
    launch = Launch(kernel, grid, block[0], params, shared_bytes, races)
    tally = Counters(enabled=counters)
    per_batch = max(1, LANES_PER_BATCH // (-(-block[0] // 32) * 32))
    for start in range(0, total, per_batch):
        ctas = range(start, min(start + per_batch, total))
        _run_batch(launch, space, tally, ctas)
        if progress is not None:
            progress(ctas.stop, total)
    return Report(tally, total)


def _run_batch(launch: Launch, space: GlobalSpace, tally: Counters, ctas: range) -> None:
    with np.errstate(all="ignore"):
        machine = Machine(launch, space, tally, ctas)
        machine.run()
    for block, visits in zip(launch.kernel.blocks, machine.visits, strict=True):
        if visits:
            tally.visit(block.families, visits)


def _parameters(
    kernel: Lowered,
    entry: str,
    arguments: Sequence[Pointer | np.generic],
    space: GlobalSpace,
    races: bool,
) -> bytes:
    """The bytes of the parameter space; pointers become addresses of fresh buffers."""
    if len(arguments) != len(kernel.parameters):
        raise LaunchError(
            f"{entry} takes {len(kernel.parameters)} arguments, {len(arguments)} were given",
            remedy="pass one per kernel parameter",
        )
    end = max((offset + size for offset, size in kernel.parameters), default=0)
    params = bytearray(end)
    known: dict[int, Buffer] = {}
    for number, (argument, (offset, size)) in enumerate(
        zip(arguments, kernel.parameters, strict=True)
    ):
        if isinstance(argument, Pointer):
            buffer = _buffer(argument, space, known, kernel, races)
            data = np.uint64(buffer.base + argument.offset).tobytes()
        else:
            data = bytes(argument.tobytes())
        if len(data) != size:
            raise LaunchError(
                f"argument {number} of {entry} has {len(data)} bytes, the parameter {size}",
                remedy="pass a numpy scalar of the parameter's width, or a Pointer",
            )
        params[offset : offset + size] = data
    return bytes(params)


def _buffer(
    pointer: Pointer,
    space: GlobalSpace,
    known: dict[int, Buffer],
    kernel: Lowered,
    races: bool,
) -> Buffer:
    """The buffer behind a pointer; two pointers to one array share it."""
    data = _bytes(pointer)
    found = known.get(id(pointer.array))
    if found is not None:
        found.writable |= pointer.writable
    else:
        slot = len(space.buffers) + 1
        found = space.buffers[slot] = known[id(pointer.array)] = Buffer(
            pointer.name,
            slot,
            data,
            writable=pointer.writable,
            initialised=pointer.initialised,
        )
    if found.writable and races and found.shadow is None:
        found.shadow = GlobalShadow(found.name, found.size, kernel.global_granule)
    return found


def _bytes(pointer: Pointer) -> Array:
    array = pointer.array
    if not isinstance(array, np.ndarray) or not array.flags.c_contiguous:
        raise LaunchError(
            f"argument {pointer.name!r} is not a contiguous numpy array",
            remedy="pass numpy.ascontiguousarray(...)",
        )
    if pointer.writable and not array.flags.writeable:
        raise LaunchError(
            f"argument {pointer.name!r} is written by the kernel and its array is read-only",
            remedy="pass a writable array",
        )
    return array.reshape(-1).view(np.uint8)


def _module_variables(kernel: Lowered, space: GlobalSpace) -> None:
    for number, variable in enumerate(kernel.variables):
        data = np.zeros(max(variable.size, 1), np.uint8)
        if variable.data:
            data[: len(variable.data)] = np.frombuffer(variable.data, np.uint8)
        space.buffers[MODULE_SLOT + number] = Buffer(
            variable.name, MODULE_SLOT + number, data, writable=True, initialised=True
        )
