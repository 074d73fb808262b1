"""The steps of a layer with the generated kernels; imported only when one is needed.

Decides which kernel takes a step, and keeps what it prepared with the weights of the layer; what
is computed is said in backend.py.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from samoyeds_gen.errors import CompileError
from samoyeds_gen.formats import SparseWeight
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.kernel import ExpertsCall, GroupedKernel, RowsCall, grouped_kernel
from samoyeds_gen.kernel.experts import begins_early
from samoyeds_gen.kernel.routing import RoutingKernel, combine, compile_routing
from samoyeds_gen.kernel.routing_steps import order_of
from samoyeds_gen.language import Routed, Routing, Ssmm, make_ssmm, target_named
from samoyeds_gen.moe.backend import Backend, Given, Prepared, Work, by_steps
from samoyeds_gen.runtime import device_info
from samoyeds_gen.tune.buckets import bucket
from samoyeds_gen.tune.experts import ExpertTask, expert_schedules
from samoyeds_gen.tune.machines import Machine, machine_named, machine_of

CHUNK_ELEMENTS = 8  # kernels load 16 bytes of a row at a time
MOST_PREPARED = 256  # numbers of tokens; a server with more of them prepares them again
TRIED = 8  # schedules that are compiled before one that does not spill is given up


class Options(NamedTuple):
    """What a product has beside its weight and tokens: options of its problem."""

    bias: bool
    activation: str | None
    gated: bool


PLAIN = Options(bias=False, activation=None, gated=False)


class Kernels:
    """`Backend` of generated kernels: nothing waits for the GPU, so a CUDA graph may capture it."""

    def route(
        self, routing: Routing, logits: Array, bias: Array | None, shared_weight: Array | None
    ) -> Routed:
        """See Backend."""
        return _routing(routing)(logits, bias, shared_weight)

    def sort(
        self, routing: Routing, experts: Array, weights: Array, shared_weight: Array | None
    ) -> Routed:
        """See Backend."""
        return _routing(routing).sort(experts, weights, shared_weight)

    def multiply(
        self,
        w: SparseWeight,
        tokens: Array,
        *,
        experts: int = 1,
        routed: Routed | None = None,
        gathered: bool = False,
        bias: Array | None = None,
        activation: str | None = None,
        gated: bool = False,
    ) -> Array:
        """See Backend."""
        options = Options(bias is not None, activation, gated)
        if routed is None:
            return _multiply_rows(tokens, ((w, options),), bias)
        named: dict[str, Any] = {**options._asdict(), "index": "int32" if gathered else None}
        problem = make_ssmm(w.format, w.dtype, grouped=True, **named)
        top, count = routed.experts.shape[1], bucket(len(tokens))
        task = ExpertTask(w.shape[0] // experts, w.shape[1], experts, top, count)
        kernel = _kernel(problem, task, _machine(tokens.device))
        selection = routed.selection if gathered else None
        return kernel(w, tokens, routed.offsets, selection, bias=bias)

    def combine(self, y: Array, routed: Routed) -> Array:
        """See Backend."""
        return combine(y, routed.slots, routed.scale)

    def mlp(
        self, tokens: Array, up: SparseWeight, down: SparseWeight, activation: str, gated: bool
    ) -> Array:
        """See Backend."""
        products = (up, Options(False, activation, gated)), (down, PLAIN)
        return _multiply_rows(tokens, products, None)

    def layer(self, work: Work) -> Prepared:
        """See Backend. On a GPU all launches of a number of tokens are prepared together."""
        tokens, up, lone = work.tokens, work.up, work.lone or ()
        count = len(tokens)
        if tokens.device.type != "cuda" or not count or not _pieces_whole((up, work.down, *lone)):
            return by_steps(self, work)
        ends = _lasting_ends(lone[0], tokens) if lone else None
        if lone and ends is None:
            return by_steps(self, work)
        arrays = {"x": _whole_rows(tokens)}
        kinds = _add_routing(arrays, work.given)
        # Named by identity, which is quicker than the value, is what the launches keep alive.
        named = (id(work.routing), id(work.down), *[id(w) for w in lone])
        key = (*named, count, kinds, len(arrays), work.activation)
        calls: dict[Any, ExpertsCall] = up.derived("prepared layers", _no_calls)
        call = calls.get(key)
        if call is None:
            call = _prepare(work, kinds, ends)
            if len(calls) >= MOST_PREPARED:
                calls.clear()
            calls[key] = call
        return Prepared(call, arrays)


def _multiply_rows(
    tokens: Array, products: tuple[tuple[SparseWeight, Options], ...], bias: Array | None
) -> Array:
    """All rows times the weights of one expert in turn.

    On a GPU the launches are prepared once for a number of tokens.
    """
    count = len(tokens)
    first = products[0][0]
    known: dict[Any, RowsCall] = first.derived("prepared rows", _no_calls)
    # Weights are named by their identity: what was prepared keeps them alive.
    key = (count, *[(id(w), options) for w, options in products])
    call = known.get(key)
    if call is None:
        weights = [w for w, _ in products]
        kernels = [_rows_kernel(w, options, tokens) for w, options in products]
        ends = _lasting_ends(first, tokens) if _pieces_whole(weights) else None
        if ends is None:
            ends = torch.arange(2, dtype=torch.int32, device=tokens.device) * count
            for kernel, (w, options) in zip(kernels, products, strict=True):
                tokens = kernel(w, tokens, ends, bias=bias if options.bias else None)
            return tokens
        call = RowsCall(
            list(zip(kernels, weights, strict=True)),
            tokens=count,
            device=tokens.device.index,
            ends=ends.data_ptr(),
            keep=weights[1:],
        )
        if len(known) >= MOST_PREPARED:
            known.clear()
        known[key] = call
    arrays = {"x": _whole_rows(tokens)}
    if bias is not None:
        arrays["bias"] = bias.contiguous()
    return call(arrays)


def _lasting_ends(w: SparseWeight, tokens: Array) -> Array | None:
    """int32 [2] on the GPU of the `tokens`: 0 and their number, which is not 0; None elsewhere.

    It is kept as long as the weight: captured graphs read it, whatever becomes of launches. While
    one is captured nothing may wait for a copy, so that a new number of tokens gives None, too.
    """
    count = len(tokens)
    if tokens.device.type != "cuda" or not count:
        return None
    known: dict[int, Array] = w.derived("ends of rows", _no_calls)
    if count not in known:
        if torch.cuda.is_current_stream_capturing():
            return None
        known[count] = torch.tensor([0, count], dtype=torch.int32).to(tokens.device)
    return known[count]


def _pieces_whole(weights: Iterable[SparseWeight]) -> bool:
    """Whether tokens of every weight are rows of whole pieces, as kernels load them."""
    return not any(w.shape[1] % CHUNK_ELEMENTS for w in weights)


def _rows_kernel(w: SparseWeight, options: Options, tokens: Array) -> GroupedKernel:
    problem = make_ssmm(w.format, w.dtype, grouped=True, **options._asdict())
    task = ExpertTask(*w.shape, 1, 1, bucket(len(tokens)))
    return _kernel(problem, task, _machine(tokens.device))


def _whole_rows(tokens: Array) -> Array:
    """Tokens C-ordered, where a kernel can load pieces of their rows."""
    if tokens.is_contiguous() and not tokens.data_ptr() % (2 * CHUNK_ELEMENTS):
        return tokens
    return tokens.clone(memory_format=torch.contiguous_format)


class Kinds(NamedTuple):
    """Types of logits or given weights, of given experts and of the weights of shared ones, and the
    row stride of the logits.
    """

    values: torch.dtype
    experts: torch.dtype | None
    gate: torch.dtype | None
    stride: int


def _add_routing(arrays: dict[str, Array], given: Given) -> Kinds:
    """Name the arrays of the routing as its kernels do."""
    if given.bias is not None:
        arrays["bias"] = given.bias
    gate = None
    if given.shared_weight is not None:
        arrays["shared_weight"] = given.shared_weight.contiguous()
        gate = given.shared_weight.dtype
    logits = given.logits
    if logits is not None:
        logits = logits if logits.stride(-1) == 1 else logits.contiguous()
        arrays["logits"] = logits
        return Kinds(logits.dtype, None, gate, logits.stride(0))
    assert given.experts is not None
    assert given.weights is not None
    experts, weights = given.experts.contiguous(), given.weights.contiguous()
    arrays["given_experts"] = experts
    arrays["given_weights"] = weights
    return Kinds(weights.dtype, experts.dtype, gate, 0)


def _prepare(work: Work, kinds: Kinds, ends: Array | None) -> ExpertsCall:
    """Choose, compile and prepare every launch of a layer for this number of tokens.

    `ends` are those of the rows of a lone expert.
    """
    routing, tokens, lone, device = work.routing, work.tokens, work.lone, work.tokens.device
    machine = _machine(device)
    target = target_named(machine.target)
    of = {"values": kinds.values, "index": kinds.experts, "gate": kinds.gate}
    names: Any = {name: str(kind).removeprefix("torch.") for name, kind in of.items() if kind}
    chooses = kinds.experts is None
    first = Options(False, work.activation, work.gated)

    def stacked(w: SparseWeight, options: Options, **index: Any) -> tuple[GroupedKernel, Any]:
        problem = make_ssmm(w.format, w.dtype, grouped=True, **options._asdict(), **index)
        m, k = w.shape[0] // work.experts, w.shape[1]
        top, shared = routing.top_k, routing.shared
        task = ExpertTask(m, k, work.experts, top, bucket(len(tokens)), shared)
        return _kernel(problem, task, machine), w

    def alone(w: SparseWeight, options: Options) -> tuple[GroupedKernel, Any]:
        return _rows_kernel(w, options, tokens), w

    experts = stacked(work.up, first, index="int32"), stacked(work.down, PLAIN)
    own = None if lone is None else (alone(lone[0], first), alone(lone[1], PLAIN))
    products = (*experts, *(own or ()))
    early = begins_early(kernel.variant.plan.schedule for kernel, _ in products)
    order = order_of(work.rule, target, len(tokens), chooses=chooses, early=early, **names)
    return ExpertsCall(
        order,
        target,
        experts,
        own,
        tokens=len(tokens),
        numbers={"logits_stride": kinds.stride} if chooses else {},
        device=device.index,
        ends=0 if ends is None else ends.data_ptr(),
        keep=(routing, work.down, lone),
    )


def _no_calls(_: SparseWeight) -> dict[Any, Any]:
    return {}


@lru_cache(maxsize=64)
def _routing(routing: Routing) -> RoutingKernel:
    return compile_routing(routing)


@lru_cache(maxsize=16)
def _machine(device: torch.device) -> Machine:
    """The GPU that schedules are chosen for; without one, that of the simulator."""
    if device.type != "cuda":
        return machine_named("H200")
    return machine_of(device_info(device.index))


@lru_cache(maxsize=512)
def _kernel(problem: Ssmm, task: ExpertTask, machine: Machine) -> GroupedKernel:
    """The first of the best schedules that compiles without spills."""
    target = target_named(machine.target)
    schedules = expert_schedules(task, problem, machine)[:TRIED]
    for schedule in schedules[:-1]:
        try:
            return grouped_kernel(schedule, problem, target)
        except CompileError:
            continue
    return grouped_kernel(schedules[-1], problem, target)


KERNELS: Backend = Kernels()
