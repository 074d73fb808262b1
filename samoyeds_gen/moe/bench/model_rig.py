"""One GPU set up to compare decoder layers: attention, caches, and both kinds of experts."""

from collections.abc import Sequence

import torch

from samoyeds_gen.formats import Format
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.moe.bench.decoder import (
    Attention,
    DecoderLayer,
    GroupedMoe,
    SparseBlock,
    normal,
    normed,
)
from samoyeds_gen.moe.bench.expected import LayerExpected, LayerVerdict, expected_layer
from samoyeds_gen.moe.bench.gpu import give_back, peak_bytes, poison
from samoyeds_gen.moe.bench.rig import PEERS_ERRORS, Runs, token_sets
from samoyeds_gen.moe.bench.routings import Batch
from samoyeds_gen.moe.bench.weights import LayerWeights
from samoyeds_gen.tune.contender import Failure
from samoyeds_gen.tune.layers.best import ANCHOR
from samoyeds_gen.tune.layers.models import ModelCase, ModelLayer
from samoyeds_gen.tune.layers.rows import LayerContender
from samoyeds_gen.tune.replay import device_sample, first_line
from samoyeds_gen.tune.timing import Launch


class TorchModelRig:
    """The current GPU through torch; a `LayerRig` of decoder layers. `formats` are our layers'."""

    def __init__(self, formats: Sequence[Format], *, device: str = "cuda") -> None:
        self._formats = tuple(formats)
        self._device = torch.device(device)
        self._weights: LayerWeights | None = None
        self._gates: tuple[Array, Array | None] | None = None
        torch.backends.cuda.matmul.allow_tf32 = False

    def prepare(self, config: ModelLayer) -> None:
        """See LayerRig."""
        self._weights = None
        self.release()
        self._weights = LayerWeights(config.experts, self._formats, self._device, config.shared)
        generator = torch.Generator(self._device).manual_seed(config.heads)
        hidden = config.experts.hidden
        gate = normal(generator, config.experts.experts, hidden)
        self._gates = gate, normal(generator, 1, hidden) if config.shared else None

    def contenders(self, case: ModelCase) -> list[LayerContender | Failure]:
        """See LayerRig. Experts are checked on what attention hands them."""
        assert self._weights is not None, "a layer is prepared"
        assert self._gates is not None, "a layer is prepared"
        config, weights = case.config, self._weights
        generator = torch.Generator(self._device).manual_seed(case.tokens)
        attention = Attention(case, generator)
        shape = (case.tokens, config.experts.hidden)
        inputs = [
            (torch.randn(shape, generator=generator, device=self._device).to(torch.bfloat16),)
            for _ in range(1 + token_sets(2 * shape[0] * shape[1]))
        ]
        first, shared_gate = next(iter(weights.sparse)), self._gates[1]
        sides: list[tuple[str, Format, GroupedMoe | SparseBlock]] = [
            (ANCHOR, first, GroupedMoe(config, weights, *self._gates))
        ]
        for form in weights.sparse:
            block = SparseBlock(config, weights, form, *self._gates)
            sides.append((f"ours ({form})", form, block))
        found: list[LayerContender | Failure] = []
        for name, form, experts in sides:
            layer = DecoderLayer(attention, experts)
            look = Look(case, weights, form, shared_gate)
            found.append(_prepared(name, layer, look, inputs))
        return found

    def sample(self, run: Launch, settle: int, timed: int) -> float:
        """Microseconds a run, by device events."""
        return device_sample(run, settle, timed)

    def release(self) -> None:
        """See LayerRig."""
        give_back()


class Look:
    """How the experts of a layer are checked."""

    def __init__(
        self, case: ModelCase, weights: LayerWeights, form: Format, shared_gate: Array | None
    ) -> None:
        self.case, self.weights, self.form, self.shared_gate = case, weights, form, shared_gate

    def held_bytes(self, ours: bool) -> int:
        """Bytes of all weights of the layer."""
        config = self.case.config
        if not ours:
            return config.dense_bytes
        experts = self.weights.sparse[self.form]
        router = 2 * config.experts.hidden * config.experts.experts
        return config.attention_bytes + router + experts.up_proj.nbytes + experts.down_proj.nbytes

    def verdict(self, experts: GroupedMoe | SparseBlock, x: Array) -> LayerVerdict:
        """How experts(x) compares, with the choices that the side's own router makes."""
        wanted = self.expected(experts.route(x), x)
        peak = peak_bytes(lambda: experts(x))
        poison(peak + x.nbytes)
        return wanted.compare(experts(x), fused=isinstance(experts, SparseBlock))

    def expected(self, routed: tuple[Array, Array], x: Array) -> LayerExpected:
        """What the experts give for x [T, hidden], chosen and weighed as `routed` says."""
        config = self.case.config
        weight = None
        if self.shared_gate is not None:
            weight = torch.nn.functional.linear(x, self.shared_gate).sigmoid()[:, 0]
        return expected_layer(
            self.weights.dense(self.form),
            self.form,
            Batch(x, *routed),
            experts=config.experts.experts,
            shared=config.shared,
            shared_weight=weight,
        )


def _prepared(
    name: str, layer: DecoderLayer, look: Look, inputs: Sequence[tuple[Array]]
) -> LayerContender | Failure:
    """Check a layer's experts in full, read its memory and host time, and capture it."""
    ours = isinstance(layer.experts, SparseBlock)
    try:
        (check,), *timed = inputs
        layer(check)  # compiles, packs weights and fills caches
        verdict = look.verdict(layer.experts, normed(layer.middle(check)))
        if not verdict.passed:
            return Failure(name, f"wrong: {verdict}")
        peak = peak_bytes(lambda: layer(check))
        runs = Runs.of(layer, timed)
    except PEERS_ERRORS as error:
        give_back()
        return Failure(name, first_line(error))
    held = look.held_bytes(ours)
    return LayerContender(
        name=name,
        eager=runs.eager,
        graph=runs.graph,
        replay=runs.replay,
        weight_bytes=held,
        held_bytes=held,
        peak_bytes=peak,
        host_us=runs.host_us,
        worst=verdict.worst,
        relative=verdict.relative,
        format=str(look.form) if ours else "",
    )
