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
from samoyeds_gen.simulator.lowered import Lowered
from samoyeds_gen.simulator.lowering import MODULE_SLOT, lower
from samoyeds_gen.simulator.machine import Launch, Machine
from samoyeds_gen.simulator.memory import Buffer, GlobalSpace
from samoyeds_gen.simulator.program import Program
from samoyeds_gen.simulator.scalars import Array
from samoyeds_gen.simulator.tensor_maps import BoundMap, TensorMap, encoded

# Wider batches amortise the interpreter better until the lanes no longer fit the cache.
LANES_PER_BATCH = 4096
MAX_THREADS = 1024
MAX_CLUSTER = 16


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


Argument = Pointer | TensorMap | np.generic


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
    arguments: Sequence[Argument],
    progress: Callable[[int, int], None] | None = None,
    counters: bool = True,
    races: bool = True,
    cluster: int | None = None,
) -> Report:
    """Execute one launch of `entry`.

    `shared_bytes` is the dynamic shared memory; `arguments` stand in parameter order, numpy scalars
    have the parameter's width. `progress(done, total)` is called after each batch of CTAs.
    `races=False` leaves the race detector out: copies in flight still hold poison. `cluster` is the
    number of CTAs in a cluster, along x; the default is the kernel's own, or 1.

    Raises SimulationFault for what the kernel does wrong, LaunchError for a launch that does not
    fit the kernel.
    """
    kernel = lower(program, entry, TABLE)
    total = grid[0] * grid[1] * grid[2]
    if block[1] != 1 or block[2] != 1 or not 1 <= block[0] <= MAX_THREADS:
        raise LaunchError(
            f"block {block} is not (1 to {MAX_THREADS}, 1, 1)", remedy="launch a flat block"
        )
    together = cluster or kernel.cluster or 1
    if not 1 <= together <= MAX_CLUSTER or grid[0] % together:
        raise LaunchError(
            f"clusters of {together} CTAs in a grid of {grid}",
            remedy=f"use 1 to {MAX_CLUSTER}, and a multiple of it along x",
        )
    space = GlobalSpace()
    params, maps = _parameters(kernel, entry, arguments, space, races)
    _module_variables(kernel, space)
    launch = Launch(kernel, grid, block[0], params, shared_bytes, races, together, maps)
    tally = Counters(enabled=counters)
    lanes = -(-block[0] // 32) * 32 * together
    per_batch = max(1, LANES_PER_BATCH // lanes) * together
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
    arguments: Sequence[Argument],
    space: GlobalSpace,
    races: bool,
) -> tuple[bytes, tuple[BoundMap, ...]]:
    """The bytes of the parameter space, and the tensor maps that they name.

    Pointers become addresses of fresh buffers.
    """
    if len(arguments) != len(kernel.parameters):
        raise LaunchError(
            f"{entry} takes {len(kernel.parameters)} arguments, {len(arguments)} were given",
            remedy="pass one per kernel parameter",
        )
    end = max((offset + size for offset, size in kernel.parameters), default=0)
    params, maps = bytearray(end), list[BoundMap]()
    buffers = _Buffers(space, _global_granule(kernel, arguments), races)
    for number, (argument, (offset, size)) in enumerate(
        zip(arguments, kernel.parameters, strict=True)
    ):
        if isinstance(argument, Pointer):
            data = np.uint64(buffers.of(argument).base + argument.offset).tobytes()
        elif isinstance(argument, TensorMap):
            data = encoded(len(maps))
            maps.append(_bound(argument, buffers.of(argument.pointer)))
        else:
            data = bytes(argument.tobytes())
        if len(data) != size:
            raise LaunchError(
                f"argument {number} of {entry} has {len(data)} bytes, the parameter {size}",
                remedy="pass a numpy scalar of the parameter's width, a Pointer or a TensorMap",
            )
        params[offset : offset + size] = data
    return bytes(params), tuple(maps)


def _global_granule(kernel: Lowered, arguments: Sequence[Argument]) -> int:
    """The smallest access to global memory: a tensor copy's edge can be one element."""
    elements = [argument.element for argument in arguments if isinstance(argument, TensorMap)]
    return min([kernel.global_granule, *elements])


def _bound(view: TensorMap, buffer: Buffer) -> BoundMap:
    offset = view.pointer.offset
    if offset + view.extent > buffer.size:
        raise LaunchError(
            f"a tensor map spans {view.extent} bytes at offset {offset} of {buffer.name!r}, "
            f"which has {buffer.size}",
            remedy="make dims and strides fit the array",
        )
    return BoundMap(view, buffer, offset)


class _Buffers:
    """The buffers behind the pointers of a launch; two pointers to one array share one."""

    def __init__(self, space: GlobalSpace, granule: int, races: bool) -> None:
        self.space, self.granule, self.races = space, granule, races
        self.known: dict[int, Buffer] = {}

    def of(self, pointer: Pointer) -> Buffer:
        """The buffer behind a pointer."""
        data = _bytes(pointer)
        found = self.known.get(id(pointer.array))
        if found is not None:
            found.writable |= pointer.writable
        else:
            slot = len(self.space.buffers) + 1
            found = self.space.buffers[slot] = self.known[id(pointer.array)] = Buffer(
                pointer.name,
                slot,
                data,
                writable=pointer.writable,
                initialised=pointer.initialised,
            )
        if found.writable and self.races and found.shadow is None:
            found.shadow = GlobalShadow(found.name, found.size, self.granule)
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
