"""`sparsify`: a model's Mixture-of-Experts blocks become sparse layers, one after the other.

Decides what is checked before anything changes, and what the report says.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats import Format, canonical_dtype
from samoyeds_gen.formats.arrays import Array, Device
from samoyeds_gen.formats.element import STORED
from samoyeds_gen.moe.blocks import DenseBlock, dense_blocks, replace_module
from samoyeds_gen.moe.devices import device_named
from samoyeds_gen.moe.layer import SparseMoE
from samoyeds_gen.moe.pruned_block import Progress, PrunedBlock, Pruning, prune_block
from samoyeds_gen.moe.pruning import METHODS
from samoyeds_gen.moe.report import LayerReport, Report
from samoyeds_gen.moe.walk import Batch, catch, decoder_layers, run_layer, seeing

SECTION_VERSION = 1


def sparsify(
    model: Any,
    n: int,
    m: int,
    v: int,
    *,
    method: str = "magnitude",
    calibration: Iterable[Any] | None = None,
    damping: float = 0.01,
    dtype: object = None,
    device: Device | None = None,
    progress: Progress | None = None,
) -> Report:
    """Replace every Mixture-of-Experts block of a Hugging Face model by a SparseMoE, in place.

    `model` is a Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE, DeepSeek-V2 or DeepSeek-V3 for causal
    language modelling. Experts and shared experts are pruned into the (n, m, v) pattern by
    `method` ("magnitude", "wanda" or "second_order", see `prune`) and encoded; routers keep their
    weights, and all other parts stay dense.

    `calibration` is what the other methods than magnitude need: batches of token ids [B, T], or of
    the model's arguments. Each layer sees what the layers before it give once pruned, and each
    expert the tokens sent to it. With it the report has the error of each layer's output.
    `dtype` of the stored values is the model's own if that is 16 bits wide, else bfloat16. Work is
    done on `device`, which is where the weights are unless given.

    The model is put into eval mode and its parameters no longer require gradients: sparse layers
    only run forward. Returns the report. Raises ModelError or FormatError, before anything changes,
    for a model, method or format that cannot be used.
    """
    if device is not None:
        device = device_named(device)
    _check_model(model)
    blocks = list(dense_blocks(model))
    pruning = make_pruning(blocks, Format(n, m, v), method, dtype, damping, calibration is not None)
    model.eval()
    model.requires_grad_(False)
    report = Report(str(pruning.format), pruning.dtype, method)
    if calibration is None:
        for block in blocks:
            done = prune_block(block, pruning, device=device, progress=progress)
            report.layers.append(layer_report(block, done, None))
            replace_module(model, block.name, done.layer)
    else:
        place = next(model.parameters()).device
        held = catch(model, calibration, place)
        for number, layer in enumerate(decoder_layers(model)):
            report.layers.extend(step(model, number, layer, held, pruning, device, progress))
    model.config.samoyeds = section(pruning)
    return report


def make_pruning(
    blocks: list[DenseBlock],
    form: Format,
    method: str,
    dtype: object,
    damping: float,
    calibrated: bool,
) -> Pruning:
    """Check everything that can be checked before work begins; ModelError or FormatError."""
    if not blocks:
        raise ModelError(
            "the model has no dense Mixture-of-Experts block",
            remedy="pass a model that was not sparsified before",
        )
    if method not in METHODS:
        raise ModelError(
            f"method {method!r} is not one of {', '.join(METHODS)}", remedy="choose one of them"
        )
    if method != "magnitude" and not calibrated:
        raise ModelError(
            f"method {method!r} is asked for without calibration",
            remedy="pass calibration=[token ids, ...], or method='magnitude'",
        )
    if not isinstance(damping, int | float) or not (math.isfinite(damping) and damping >= 0):
        raise ModelError(
            f"damping={damping!r} is not a finite number >= 0", remedy="leave it at 0.01"
        )
    if dtype is None:
        own = str(blocks[0].dtype).removeprefix("torch.")
        dtype = own if own in STORED else "bfloat16"
    stored = canonical_dtype(dtype, allowed=STORED)
    for block in blocks:
        block.check(form)
    return Pruning(form, stored, method, float(damping))


def step(
    model: Any,
    number: int,
    layer: nn.Module,
    held: list[Batch],
    pruning: Pruning,
    device: Device | None,
    progress: Progress | None,
) -> list[LayerReport]:
    """Sparsify decoder layer `number` with the inputs held, and move these behind it."""
    inside = [block for block in dense_blocks(model) if _within(model, layer, block)]
    reports = []
    for block in inside:
        inputs: list[Array] = []
        before: list[Array] = []

        def see(x: Array, y: Array, inputs: Any = inputs, before: Any = before) -> None:
            inputs.append(x)
            before.append(y)

        with seeing(block.block, see):
            for batch in held:
                run_layer(layer, number, batch)
        with torch.no_grad():
            done = prune_block(block, pruning, inputs, device=device, progress=progress)
            error = _output_error(done.layer, inputs, before)
        replace_module(model, block.name, done.layer)
        reports.append(layer_report(block, done, error))
    advance(number, layer, held)
    return reports


def advance(number: int, layer: nn.Module, held: list[Batch]) -> None:
    """Move what is held from before decoder layer `number` to behind it."""
    for batch in held:
        batch.hidden = run_layer(layer, number, batch)


def layer_report(block: DenseBlock, done: PrunedBlock, error: float | None) -> LayerReport:
    """What became of a block."""
    experts, shared = done.layer.experts, done.layer.shared
    parts = [experts.up_proj, experts.down_proj]
    if shared is not None:
        parts += [shared.up_proj, shared.down_proj]
    return LayerReport(
        name=block.name,
        experts=block.count + block.folded,
        weight_error=done.weight_error,
        output_error=error,
        unseen=done.unseen,
        nbytes=sum(part.nbytes for part in parts),
        dense_bytes=block.dense_bytes,
    )


def section(pruning: Pruning) -> dict[str, Any]:
    """What a converted model's config.json says under "samoyeds"."""
    return {
        "version": SECTION_VERSION,
        "format": str(pruning.format),
        "dtype": pruning.dtype,
        "method": pruning.method,
    }


def _check_model(model: Any) -> None:
    if not isinstance(model, nn.Module) or not hasattr(model, "config"):
        raise ModelError(
            f"the model is a {type(model).__name__}, but a model of transformers is required",
            remedy="pass what AutoModelForCausalLM.from_pretrained returns",
        )
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ModelError("the model is on meta and holds no values", remedy="load it first")


def _within(model: Any, layer: nn.Module, block: DenseBlock) -> bool:
    return any(module is block.block for module in layer.modules())


def _output_error(layer: SparseMoE, inputs: list[Array], before: list[Array]) -> float:
    """|y - y'| / |y| over all batches of a block's inputs."""
    lost = whole = 0.0
    for x, y in zip(inputs, before, strict=True):
        after = layer(x)
        after = after[0] if isinstance(after, tuple) else after
        wide = y.to(torch.float64)
        lost += float((wide - after.to(torch.float64)).square().sum())
        whole += float(wide.square().sum())
    return math.sqrt(lost / whole) if whole else 0.0
