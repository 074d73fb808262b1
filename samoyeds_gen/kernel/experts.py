"""All launches of a layer's experts on a GPU, prepared once for a number of tokens.

Decides where intermediate arrays lie: in one allocation of torch's, made anew by every call, so
that streams and captured graphs never share one. The arguments of the launches are packed again
only when it lies elsewhere than in the call before.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from samoyeds_gen.compiler import Box
from samoyeds_gen.formats import SparseWeight
from samoyeds_gen.kernel.grouped import GroupedKernel
from samoyeds_gen.kernel.packing import on_device
from samoyeds_gen.kernel.routing_steps import DTYPES, Order, order_of_combine
from samoyeds_gen.kernel.simulated import ROW_ALIGNMENT
from samoyeds_gen.language import Routed, Target
from samoyeds_gen.runtime import LoadedKernel, PreparedSequence, device_info, tensor_map

ALIGNMENT = 256  # bytes at which intermediate arrays start
COUNTS = "counts"
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


class Arrays:
    """Where intermediate arrays lie in one allocation."""

    def __init__(self) -> None:
        self.offsets: dict[str, int] = {}
        self.bytes = 0

    def add(self, name: str, elements: int, dtype: str, *, over: str = "") -> None:
        """Make room for an array, or let it lie where `over` does, which is not read any more."""
        self.offsets[name] = self.offsets.get(over, self.bytes)
        end = self.offsets[name] + -(-elements * BYTES[dtype] // ALIGNMENT) * ALIGNMENT
        # What lies over another is as large, so that only a new array lies at the end.
        assert over not in self.offsets or end <= self.bytes
        self.bytes = max(self.bytes, end)


class ExpertsCall:
    """`call(arrays, hidden) -> out [tokens, hidden]`: route or sort, both products, combine.

    `order` are the launches of the routing for this number of tokens; `gate` and `down` the grouped
    kernels of the stacked weights `up` and `lower`, of the routed experts and the shared ones.
    A call's `arrays` have the names that the routing's kernels give them, and "x" for the tokens
    [tokens, k], C-ordered. Threads call it one after the other. `keep` lives as long as it does.
    """

    def __init__(
        self,
        order: Order,
        target: Target,
        gate: GroupedKernel,
        down: GroupedKernel,
        up: SparseWeight,
        lower: SparseWeight,
        *,
        tokens: int,
        numbers: Mapping[str, int],
        device: int,
        keep: object = None,
    ) -> None:
        self._keep = keep
        self._lock = Lock()
        self._torch = sys.modules["torch"]
        self._place = self._torch.device("cuda", device)
        self._device = device
        self._experts = order.shapes["offsets"][0] - 1
        self._kind = getattr(self._torch, up.dtype)
        self._shape = (tokens, lower.shape[0] // self._experts)
        self._arrays = Arrays()
        self._stages: list[Stage] = []
        self._sequence: PreparedSequence | None = None
        self._outer: list[tuple[str, Callable[[int], None]]] = []
        self._base = -1
        choices = order.shapes["slots"][1]
        self._route(order, dict(numbers))
        self._product(gate, up, "x", "wide", tokens, tokens * choices, target)
        self._product(down, lower, "wide", "rows", tokens * choices, tokens * choices, target)
        names = ("rows", "slots", "out")
        self._pick(target, up.dtype, choices, *self._shape, names, weighted=True)

    @property
    def workspace_bytes(self) -> int:
        """Bytes of the intermediate arrays."""
        return self._arrays.bytes

    def __call__(self, arrays: Mapping[str, Any]) -> Any:
        """Queue the launches on torch's current stream; `arrays` are torch tensors by name."""
        torch = self._torch
        workspace = torch.empty(self._arrays.bytes, dtype=torch.uint8, device=self._place)
        out = torch.empty(self._shape, dtype=self._kind, device=self._place)
        base = workspace.data_ptr()
        addresses = {name: array.data_ptr() for name, array in arrays.items()}
        addresses["out"] = out.data_ptr()
        with self._lock:
            sequence = self._sequence
            if base != self._base or sequence is None:
                sequence = self._pack(base, addresses)
            else:
                for name, replace in self._outer:
                    replace(addresses[name])
            sequence(torch._C._cuda_getCurrentRawStream(self._device))
        return out

    def _pack(self, base: int, addresses: Mapping[str, int]) -> PreparedSequence:
        """Prepare every launch with intermediate arrays in the allocation at `base`."""
        inner = {name: base + offset for name, offset in self._arrays.offsets.items()}
        launches = []
        places = []
        for at, stage in enumerate(self._stages):
            values = []
            for position, each in enumerate(stage.arguments):
                value = each
                if isinstance(each, MapOf):
                    value = each.at(inner[each.name])
                elif isinstance(each, str):
                    value = inner[each] if each in inner else addresses[each]
                    if each not in inner:
                        places.append((each, at, position))
                values.append(value)
            launches.append(stage.loaded.prepare(stage.grid, stage.threads, values))
        self._base = base
        sequence = self._sequence = PreparedSequence(launches)
        self._outer = [(name, sequence.replacer(at, position)) for name, at, position in places]
        return sequence

    def _route(self, order: Order, numbers: dict[str, int]) -> None:
        for name, dtype in zip(Routed._fields, DTYPES, strict=True):
            elements = 1
            for extent in order.shapes[name]:
                elements *= extent
            self._arrays.add(name, elements, dtype)
        if order.chunks:
            experts = order.launches[0].built.plan.constant("kExperts")
            self._arrays.add(COUNTS, order.chunks * experts, "int32")
        known = {**order.numbers, **numbers}
        for launch in order.launches:
            built = launch.built
            arguments = tuple(known.get(source, source) for source in built.sources)
            self._stages.append(
                Stage(built.loaded(self._device), launch.blocks, built.plan.threads, arguments)
            )

    def _product(
        self,
        kernel: GroupedKernel,
        w: SparseWeight,
        tokens: str,
        out: str,
        count: int,
        rows: int,
        target: Target,
    ) -> None:
        """A grouped product of `rows` output rows, and its gather before it."""
        plan, experts = kernel.variant.plan, self._experts
        m, k = w.shape[0] // experts, w.shape[1]
        features = m // 2 if kernel.problem.gated else m
        if kernel.gathers_before:
            self._arrays.add("packed", rows * k, w.dtype)
            self._pick(target, w.dtype, 1, rows, k, (tokens, "selection", "packed"))
            tokens, count = "packed", rows
        # The down projection's rows are as wide as the tokens packed for the other, read by then.
        self._arrays.add(out, rows * features, w.dtype, over="packed" if tokens == "wide" else "")
        weight = on_device(w, plan, plan.packing_key, self._device, experts)
        known: dict[str, Any] = {
            **weight,
            "tokens": tokens,
            "tokens.stride": k if count > 1 else ROW_ALIGNMENT,
            "tokens.count": count,
            "out": out,
            "out.stride": features,
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
        arguments = tuple(known.get(each.source, each.source) for each in plan.parameters)
        grid = plan.grid(m, rows, device_info(self._device).multiprocessors, experts)
        loaded = kernel.variant.launcher(self._device).loaded
        self._stages.append(Stage(loaded, grid, plan.threads, arguments))

    def _pick(
        self,
        target: Target,
        dtype: str,
        choices: int,
        count: int,
        columns: int,
        names: Sequence[str],
        *,
        weighted: bool = False,
    ) -> None:
        """out[i] = sum of y[slots[i, j]] over j, or of scale times that if they are `weighted`.

        With one choice and without weights rows are copied as they are.
        """
        launch = order_of_combine(target, dtype, choices, count, columns, 0, weighted=weighted)
        built = launch.built
        piece = built.plan.problem.elements  # type: ignore[union-attr]
        known = {
            **dict(zip(("y", "slots", "out"), names, strict=True)),
            "scale": "scale",
            "y_stride": columns,
            "out_stride": columns,
            "pieces": columns // piece,
            "tokens": count,
        }
        arguments = tuple(known[source] for source in built.sources)
        self._stages.append(
            Stage(built.loaded(self._device), launch.blocks, built.plan.threads, arguments)
        )
