"""The launches of a layer's experts on a GPU, and of a product with the weight of one."""

from collections.abc import Mapping, Sequence

from samoyeds_gen.formats import SparseWeight
from samoyeds_gen.kernel.grouped import GroupedKernel
from samoyeds_gen.kernel.prepared import PreparedCall, Stage
from samoyeds_gen.kernel.routing_steps import DTYPES, Order, order_of_combine
from samoyeds_gen.language import Routed, Target

COUNTS = "counts"


class ExpertsCall(PreparedCall):
    """`call(arrays) -> out [tokens, hidden]`: route or sort, both products, combine.

    `order` are the launches of the routing for this number of tokens; `gate` and `down` the grouped
    kernels of the stacked weights `up` and `lower`, of the routed experts and the shared ones.
    A call's `arrays` have the names that the routing's kernels give them, and "x" for the tokens
    [tokens, k], C-ordered. `keep` lives as long as it does.
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
        self._experts = order.shapes["offsets"][0] - 1
        hidden = lower.shape[0] // self._experts
        super().__init__(device, up.dtype, (tokens, hidden), like="x")
        choices = order.shapes["slots"][1]
        self._route(order, dict(numbers))
        self._product(gate, up, "x", "wide", tokens, tokens * choices, target)
        self._product(down, lower, "wide", "rows", tokens * choices, tokens * choices, target)
        names = ("rows", "slots", "out")
        self._pick(target, up.dtype, choices, tokens, hidden, names, weighted=True)

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
        m, k = w.shape[0] // self._experts, w.shape[1]
        features = _features(kernel, m)
        if kernel.gathers_before:
            self._arrays.add("packed", rows * k, w.dtype)
            self._pick(target, w.dtype, 1, rows, k, (tokens, "selection", "packed"))
            tokens, count = "packed", rows
        # The down projection's rows are as wide as the tokens packed for the other, read by then.
        self._arrays.add(out, rows * features, w.dtype, over="packed" if tokens == "wide" else "")
        self._multiply(kernel, w, tokens, out, experts=self._experts, count=count, rows=rows)

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


class RowsCall(PreparedCall):
    """`call(arrays) -> out [tokens, features]`: all tokens times the weights of one expert in turn.

    Each of `products` takes what the one before gives. A call's `arrays` are "x", the tokens
    [tokens, k], C-ordered; "offsets" int32 [2], 0 and their number; and "bias" float32 where a
    kernel has one. `keep` lives as long as it does.
    """

    def __init__(
        self,
        products: Sequence[tuple[GroupedKernel, SparseWeight]],
        *,
        tokens: int,
        device: int,
        keep: object = None,
    ) -> None:
        self._keep = keep
        *inner, (kernel, w) = products
        k, features = products[0][1].shape[1], _features(kernel, w.shape[0])
        like = "x" if features == k else None
        super().__init__(device, w.dtype, (tokens, features), like=like)
        source = "x"
        for number, (before, wide) in enumerate(inner):
            name = f"wide{number}"
            self._arrays.add(name, tokens * _features(before, wide.shape[0]), wide.dtype)
            self._multiply(before, wide, source, name, experts=1, count=tokens, rows=tokens)
            source = name
        self._multiply(kernel, w, source, "out", experts=1, count=tokens, rows=tokens)


def _features(kernel: GroupedKernel, rows: int) -> int:
    """Features that the `rows` of an expert's weight give."""
    return rows // 2 if kernel.problem.gated else rows
