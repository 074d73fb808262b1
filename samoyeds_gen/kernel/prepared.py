"""Launches of a layer on a GPU, prepared once for a number of tokens and queued again and again.

Decides where intermediate arrays lie: in one allocation of torch's, made anew by every call, so
that streams and captured graphs never share one. The arguments of the launches are packed once
for each of the few places where it lies in turn; where all arrays of a call lie as they did before,
which is what torch's allocator makes of calls that repeat, its launches become a graph.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

from samoyeds_gen.compiler import Box
from samoyeds_gen.formats import SparseWeight
from samoyeds_gen.kernel.grouped import GroupedKernel
from samoyeds_gen.kernel.packing import on_device
from samoyeds_gen.kernel.recurring import Recurring
from samoyeds_gen.kernel.simulated import ROW_ALIGNMENT
from samoyeds_gen.runtime import (
    LaunchGraph,
    LoadedKernel,
    PreparedSequence,
    device_info,
    tensor_map,
)

ALIGNMENT = 256  # bytes at which intermediate arrays start
MOST_PLACES = 8  # of intermediate arrays, for which arguments are kept
BYTES = {"int32": 4, "float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class MapOf:
    """A tensor map of an intermediate array, made where that lies."""

    name: str
    box: Box
    dtype: str
    shape: tuple[int, int]

    def at(self, address: int) -> Any:
        """The map of the array at an address."""
        box, columns = self.box, self.shape[1]
        return tensor_map(
            address, self.dtype, self.shape, columns, (box.rows, box.columns), box.swizzle
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """One launch: strings among its arguments name arrays, of the call or intermediate."""

    loaded: LoadedKernel
    grid: Any
    threads: int
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Packed:
    """Launches with their arguments, and what overwrites pointers to arrays of the call."""

    sequence: PreparedSequence
    outer: list[tuple[str, Callable[[int], None]]]


class Arrays:
    """Where intermediate arrays lie in one allocation."""

    def __init__(self) -> None:
        self.offsets: dict[str, int] = {}
        self.bytes = 0
        self._sizes: dict[str, int] = {}

    def add(self, name: str, elements: int, dtype: str, *, over: str = "") -> None:
        """Make room for an array, or let it lie where `over` does, which is not read any more.

        It gets its own room where the other is missing or smaller.
        """
        needed = -(-elements * BYTES[dtype] // ALIGNMENT) * ALIGNMENT
        fits = needed <= self._sizes.get(over, -1)
        self.offsets[name] = self.offsets[over] if fits else self.bytes
        self._sizes[name] = needed
        if not fits:
            self.bytes += needed

    def name_part(self, name: str, whole: str, element: int, dtype: str) -> None:
        """Give the part of the array `whole` that begins at an element a name of its own."""
        self.offsets[name] = self.offsets[whole] + element * BYTES[dtype]


class PreparedCall:
    """`call(arrays) -> out`: stages that a subclass adds, queued one behind the other.

    A call's `arrays` are torch tensors with the names that arguments of stages have; "out", of
    `shape` and the type `dtype`, is made by every call; quicker where it is `like` one of them.
    Threads call it one after the other.
    """

    def __init__(
        self, device: int, dtype: str, shape: tuple[int, int], *, like: str | None = None
    ) -> None:
        self._lock = Lock()
        self._torch = sys.modules["torch"]
        self._place = self._torch.device("cuda", device)
        self._device = device
        self._kind = getattr(self._torch, dtype)
        self._shape = shape
        self._arrays = Arrays()
        self._stages: list[Stage] = []
        self._packed: dict[tuple[int, ...], Packed] = {}
        self._graphs = Recurring[LaunchGraph]()
        self._order: tuple[str, ...] = ()
        self._like = like
        self._mapped: tuple[str, ...] = ()  # arrays of the call that lie under tensor maps

    @property
    def workspace_bytes(self) -> int:
        """Bytes of the intermediate arrays."""
        return self._arrays.bytes

    def __call__(self, arrays: Mapping[str, Any]) -> Any:
        """Queue the launches on torch's current stream; `arrays` are torch tensors by name."""
        torch = self._torch
        if self._like is not None:
            out = torch.empty_like(arrays[self._like])
        else:
            out = torch.empty(self._shape, dtype=self._kind, device=self._place)
        addresses = {name: array.data_ptr() for name, array in arrays.items()}
        addresses["out"] = out.data_ptr()
        base = 0
        if self._arrays.bytes:
            workspace = torch.empty(self._arrays.bytes, dtype=torch.uint8, device=self._place)
            base = workspace.data_ptr()
        stream = torch._C._cuda_getCurrentRawStream(self._device)
        with self._lock:
            every = (base, *[addresses[name] for name in self._order or self._ordered(addresses)])
            graph = self._graphs[every]
            if graph is not None and graph.at_home:
                graph(stream)
            else:
                sequence = self._sequence(base, addresses)
                sequence(stream)
                self._graphs.note(every, lambda: self._graph(sequence))
        return out

    def _sequence(self, base: int, addresses: Mapping[str, int]) -> PreparedSequence:
        """The launches, with intermediate arrays at `base` and those of the call at `addresses`."""
        places = (base, *[addresses[name] for name in self._mapped])
        packed = self._packed.get(places)
        if packed is None:
            packed = self._pack(places, addresses)
            if len(self._packed) >= MOST_PLACES:
                self._packed.clear()
            self._packed[places] = packed
        else:
            for name, replace in packed.outer:
                replace(addresses[name])
        return packed.sequence

    def _ordered(self, addresses: Mapping[str, int]) -> tuple[str, ...]:
        """The arrays' names in an order that does not depend on who calls."""
        self._order = tuple(sorted(addresses))
        return self._order

    def _graph(self, sequence: PreparedSequence) -> LaunchGraph | None:
        """The launches as they were queued last; None while torch captures."""
        capturing = self._torch.cuda.is_current_stream_capturing()
        return None if capturing else LaunchGraph(sequence)

    def _pack(self, places: tuple[int, ...], addresses: Mapping[str, int]) -> Packed:
        """Prepare every launch for intermediate arrays in the allocation at the first of `places`.

        Pointers to arrays of the call can be replaced later, maps of them cannot.
        """
        inner = {name: places[0] + offset for name, offset in self._arrays.offsets.items()}
        lies = {**addresses, **inner}
        launches = []
        outer = []
        for at, stage in enumerate(self._stages):
            values = []
            for position, each in enumerate(stage.arguments):
                value = each
                if isinstance(each, MapOf):
                    value = each.at(lies[each.name])
                elif isinstance(each, str):
                    value = lies[each]
                    if each not in inner:
                        outer.append((each, at, position))
                values.append(value)
            launches.append(stage.loaded.prepare(stage.grid, stage.threads, values))
        sequence = PreparedSequence(launches)
        return Packed(sequence, [(name, sequence.replacer(*where)) for name, *where in outer])

    def _multiply_all(
        self, kernel: GroupedKernel, w: SparseWeight, tokens: str, out: str, count: int, ends: int
    ) -> None:
        """A product of all `count` tokens with the weight of one expert."""
        self._multiply(kernel, w, tokens, out, experts=1, count=count, rows=count, offsets=ends)

    def _multiply(
        self,
        kernel: GroupedKernel,
        w: SparseWeight,
        tokens: str,
        out: str,
        *,
        experts: int,
        count: int,
        rows: int,
        offsets: str | int = "offsets",
    ) -> None:
        """A grouped product of `rows` output rows from `count` tokens.

        `offsets` names those of the experts' rows, or is where they lie.
        """
        plan = kernel.variant.plan
        m, k = w.shape[0] // experts, w.shape[1]
        weight = on_device(w, plan, plan.packing_key, self._device, experts)
        known: dict[str, Any] = {
            **weight,
            "tokens": tokens,
            "tokens.stride": k if count > 1 else ROW_ALIGNMENT,
            "tokens.count": count,
            "out": out,
            "out.stride": m // 2 if kernel.problem.gated else m,
            "offsets": offsets,
            "experts": experts,
            "m": m,
            "n": rows,
            "k": k,
        }
        for box in plan.boxes:
            if box.operand == "weight.data":
                data = weight["weight.data"]
                known[box.source] = tensor_map(
                    data.pointer, data.dtype, data.shape, data.shape[1],
                    (box.rows, box.columns), box.swizzle,
                )  # fmt: skip
            else:
                known[box.source] = MapOf(tokens, box, w.dtype, (count, k))
                if tokens not in self._arrays.offsets:
                    self._mapped = (tokens,)
        arguments = tuple(known.get(each.source, each.source) for each in plan.parameters)
        grid = plan.grid(m, rows, device_info(self._device).multiprocessors, experts)
        loaded = kernel.variant.launcher(self._device).loaded
        self._stages.append(Stage(loaded, grid, plan.threads, arguments))
