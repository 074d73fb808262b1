"""One GPU set up to compare layers of experts: weights, inputs, and everybody checked in full."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from samoyeds_gen.errors import SamoyedsError
from samoyeds_gen.formats import Format
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.moe.bench.dense import GroupedExperts
from samoyeds_gen.moe.bench.expected import LayerExpected, LayerVerdict, expected_layer
from samoyeds_gen.moe.bench.gpu import give_back, graphs_of, host_us, peak_bytes, poison
from samoyeds_gen.moe.bench.peers import NEVER_CAPTURED, Layer, hf_layers
from samoyeds_gen.moe.bench.routings import Batch, draw_batch, experts_hit
from samoyeds_gen.moe.bench.weights import LayerWeights
from samoyeds_gen.tune.buffers import ROTATED_BYTES
from samoyeds_gen.tune.contender import Failure
from samoyeds_gen.tune.layers import Case, LayerConfig
from samoyeds_gen.tune.layers.best import ANCHOR
from samoyeds_gen.tune.layers.choice import chosen_kernels, names_of
from samoyeds_gen.tune.layers.rows import LayerContender
from samoyeds_gen.tune.machines import Machine
from samoyeds_gen.tune.replay import device_sample, first_line
from samoyeds_gen.tune.timing import Launch, Timed

MOST_SETS = 64
PEERS_ERRORS = (SamoyedsError, RuntimeError, ImportError, AttributeError, TypeError, ValueError)
"""What libraries raise when they do not take a problem; it ends no comparison."""


@dataclass(frozen=True, slots=True)
class NamedLayer:
    """A layer with its name; `form` is the format of its weights or those it was decoded from."""

    name: str
    call: Layer
    form: Format
    ours: bool
    held_bytes: int


def token_sets(nbytes: int) -> int:
    """How many inputs of so many bytes are rotated: two at least, and more than any L2 in all."""
    return min(MOST_SETS, max(2, -(-ROTATED_BYTES // nbytes)))


def layers_of(
    weights: LayerWeights, case: Case, *, with_peers: bool
) -> Iterator[NamedLayer | Failure]:
    """Everybody over these weights: the grouped peer, transformers' own, then ours by format."""
    first = next(iter(weights.sparse))
    dense = weights.config.dense_bytes
    yield NamedLayer(ANCHOR, GroupedExperts(weights.gate_up, weights.down), first, False, dense)
    if with_peers:
        for each in hf_layers(weights, case):
            if isinstance(each, Failure):
                yield each
            else:
                yield NamedLayer(*each, first, False, dense)
    for form, experts in weights.sparse.items():
        held = experts.up_proj.nbytes + experts.down_proj.nbytes
        yield NamedLayer(f"ours ({form})", experts, form, True, held)


class TorchLayerRig:
    """The current GPU through torch; a `LayerRig`. `formats` are those of our layers."""

    def __init__(
        self,
        machine: Machine,
        formats: Sequence[Format],
        *,
        with_peers: bool = True,
        device: str = "cuda",
    ) -> None:
        self.machine = machine
        self._formats = tuple(formats)
        self._with_peers = with_peers
        self._device = torch.device(device)
        self._weights: LayerWeights | None = None
        torch.backends.cuda.matmul.allow_tf32 = False

    def prepare(self, config: LayerConfig) -> None:
        """See LayerRig."""
        self._weights = None
        self.release()
        self._weights = LayerWeights(config, self._formats, self._device)

    def contenders(self, case: Case) -> list[LayerContender | Failure]:
        """See LayerRig. Inputs of the check are others than those that are timed."""
        assert self._weights is not None, "a layer is prepared"
        generator = torch.Generator(self._device).manual_seed(case.tokens)
        sets = token_sets(2 * case.tokens * case.config.hidden)
        inputs = _Inputs(
            case,
            draw_batch(case, generator),
            [draw_batch(case, generator) for _ in range(sets)],
            self.machine.l2_bytes,
        )
        wanted: dict[Format, LayerExpected] = {}
        found: list[LayerContender | Failure] = []
        for each in layers_of(self._weights, case, with_peers=self._with_peers):
            if isinstance(each, Failure):
                found.append(each)
                continue
            if each.form not in wanted:
                wanted = {each.form: inputs.expected(self._weights, each.form)}
            schedules = names_of(chosen_kernels(case, each.form, self.machine)) if each.ours else ""
            found.append(_prepared(each, inputs, wanted[each.form], schedules))
        return found

    def sample(self, run: Launch, settle: int, timed: int) -> float:
        """Microseconds a run, by device events."""
        return device_sample(run, settle, timed)

    def release(self) -> None:
        """See LayerRig."""
        give_back()


class _Inputs:
    """What one case is run on: a batch to check, and batches to time in turn."""

    def __init__(self, case: Case, check: Batch, timed: list[Batch], l2_bytes: int) -> None:
        self.case, self.check, self.timed = case, check, timed
        self.hit = experts_hit(timed[0].chosen, case.config.experts)
        self._l2_bytes = l2_bytes

    def expected(self, weights: LayerWeights, form: Format) -> LayerExpected:
        """What the layer is to give for the batch to check."""
        count = self.case.config.experts
        return expected_layer(weights.dense(form), form, self.check, experts=count)

    def rotated(self, weight_bytes: int) -> str:
        """What of the operands is found elsewhere than in L2."""
        if weight_bytes > self._l2_bytes:
            return "tokens; weights exceed L2"
        return "tokens; weights fit in L2"


def _prepared(
    layer: NamedLayer, inputs: _Inputs, wanted: LayerExpected, schedules: str
) -> LayerContender | Failure:
    """Check a layer's output in full, read its memory and host time, and capture it."""
    try:
        peak, verdict = checked(layer.call, inputs.check, wanted, fused=layer.ours)
        if not verdict.passed:
            return Failure(layer.name, f"wrong: {verdict}")
        runs = Runs.of(layer.call, inputs.timed, captured=layer.name not in NEVER_CAPTURED)
    except PEERS_ERRORS as error:
        give_back()
        return Failure(layer.name, first_line(error))
    share = inputs.hit / inputs.case.config.experts
    return LayerContender(
        name=layer.name,
        eager=runs.eager,
        graph=runs.graph,
        replay=runs.replay,
        weight_bytes=round(layer.held_bytes * share),
        held_bytes=layer.held_bytes,
        peak_bytes=peak,
        host_us=runs.host_us,
        worst=verdict.worst,
        relative=verdict.relative,
        format=str(layer.form) if layer.ours else "",
        schedules=schedules,
        experts_hit=inputs.hit,
        rotated=inputs.rotated(round(layer.held_bytes * share)),
    )


def checked(
    call: Layer, batch: Batch, wanted: LayerExpected, *, fused: bool
) -> tuple[int, LayerVerdict]:
    """Peak bytes of a call and how its output compares; the memory it takes is poisoned before."""
    call(*batch)  # compiles, packs weights and fills caches
    peak = peak_bytes(lambda: call(*batch))
    poison(peak + batch.tokens.nbytes)
    out = call(*batch)
    return peak, wanted.compare(out, fused=fused)


@dataclass(frozen=True, slots=True)
class Runs:
    """A call ready to be timed: from the host, and replayed where it can be captured."""

    eager: Timed
    graph: Timed | None
    replay: str
    host_us: float

    @classmethod
    def of(
        cls, call: Callable[..., Array], inputs: Sequence[Sequence[Array]], *, captured: bool = True
    ) -> "Runs":
        """`call` over inputs in turn."""

        def run(turn: int) -> Array:
            return call(*inputs[turn % len(inputs)])

        host = host_us(run, device_sample(run, 2, 3))
        if not captured:
            return cls(Timed(run), None, "host (reads counts)", host)
        return cls(Timed(run), *graphs_of(run, len(inputs)), host)
