"""The launches of a layer's experts on a GPU, and of a product with the weight of one."""

from collections.abc import Iterable, Mapping, Sequence

from samoyeds_gen.formats import SparseWeight
from samoyeds_gen.kernel.grouped import GroupedKernel
from samoyeds_gen.kernel.prepared import PreparedCall, Stage
from samoyeds_gen.kernel.routing_steps import DTYPES, Order, order_of_combine
from samoyeds_gen.language import Routed, Schedule, Target

COUNTS = "counts"

Product = tuple[GroupedKernel, SparseWeight]
"""A grouped product: its kernel, and the weights of its experts."""
Products = tuple[Product, Product]
"""The two products of an MLP; the first one's kernel multiplies gate and up, where it is gated."""


def begins_early(schedules: Iterable[Schedule]) -> bool:
    """Whether the products of a layer, of these schedules, all begin while the launch before ends:
    then its other launches do, too. A product that waits gives them nothing to begin early for.
    """
    return all(each.launch.dependent for each in schedules)


class ExpertsCall(PreparedCall):
    """`call(arrays) -> out [tokens, hidden]`: route or sort, both products, combine.

    `order` are the launches of the routing for this number of tokens; `experts` the grouped kernels
    and stacked weights of both products, of the routed experts and the shared ones. Where the order
    begins early, combinations do, too. `lone` are the
    kernels and weights of one more, the last of the routing's experts, which has a width of its own
    and sees every token; `ends` is where 0 and their number lie then, int32 [2].
    A call's `arrays` have the names that the routing's kernels give them, and "x" for the tokens
    [tokens, k], C-ordered. `keep` lives as long as it does.
    """

    def __init__(
        self,
        order: Order,
        target: Target,
        experts: Products,
        lone: Products | None = None,
        *,
        tokens: int,
        numbers: Mapping[str, int],
        device: int,
        ends: int = 0,
        keep: object = None,
    ) -> None:
        self._keep = keep
        (gate, up), (down, lower) = experts
        self._early = order.early
        stack = order.shapes["offsets"][0] - (1 if lone is None else 2)
        hidden = lower.shape[0] // stack
        super().__init__(device, up.dtype, (tokens, hidden), like="x")
        choices = order.shapes["slots"][1]
        slots = tokens * choices
        stacked = slots if lone is None else slots - tokens
        self._route(order, dict(numbers))
        source, count = "x", tokens
        if gate.gathers_before:
            source, count = "packed", stacked
            self._arrays.add("packed", slots * hidden, up.dtype)
            self._pick(target, up.dtype, 1, stacked, hidden, ("x", "selection", "packed"))
        features = _features(gate, up.shape[0] // stack)
        self._arrays.add("wide", stacked * features, up.dtype)
        # Rows are as wide as the packed tokens, which are read by then.
        self._arrays.add("rows", slots * hidden, up.dtype, over="packed")
        several = {"experts": stack, "rows": stacked}
        self._multiply(gate, up, source, "wide", count=count, **several)
        self._multiply(down, lower, "wide", "rows", count=stacked, **several)
        if lone is not None:
            self._add_lone(lone, tokens, stacked, ends)
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

    def _add_lone(self, lone: Products, tokens: int, first: int, ends: int) -> None:
        """The products of the lone expert, whose rows come from the `first` slot on."""
        (gate, up), (down, lower) = lone
        hidden, width = lower.shape
        self._arrays.add("lone", tokens * width, up.dtype, over="wide")
        self._arrays.name_part("own", "rows", first * hidden, lower.dtype)
        self._multiply_all(gate, up, "x", "lone", tokens, ends)
        self._multiply_all(down, lower, "lone", "own", tokens, ends)

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
        launch = order_of_combine(
            target, dtype, choices, count, columns, 0, weighted=weighted, early=self._early
        )
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
    [tokens, k], C-ordered, and "bias" float32 where a kernel has one. `ends` is where 0 and the
    number of tokens lie, int32 [2]. `keep` lives as long as it does.
    """

    def __init__(
        self,
        products: Sequence[Product],
        *,
        tokens: int,
        device: int,
        ends: int,
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
            self._multiply_all(before, wide, source, name, tokens, ends)
            source = name
        self._multiply_all(kernel, w, source, "out", tokens, ends)


def _features(kernel: GroupedKernel, rows: int) -> int:
    """Features that the `rows` of an expert's weight give."""
    return rows // 2 if kernel.problem.gated else rows
