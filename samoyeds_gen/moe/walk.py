"""Running a model one decoder layer at a time, so that calibration sees what pruning left.

Decides how the inputs of the first layer are caught and how a layer is run again; needs no more of
the model in memory than its embedding and one layer.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats.arrays import Array, Device


@dataclass(slots=True)
class Batch:
    """Hidden states [B, T, hidden] before the next layer, and what each layer is called with."""

    hidden: Array
    calls: list[dict[str, Any]]


class _DoneError(Exception):
    """Ends the model's forward once its last decoder layer was called."""


def decoder_layers(model: Any) -> nn.ModuleList:
    """The decoder layers of a causal language model; ModelError when there are none."""
    layers = getattr(getattr(model, "model", None), "layers", None)
    if not isinstance(layers, nn.ModuleList) or len(layers) == 0:
        raise ModelError(
            f"{type(model).__name__} has no decoder layers under model.layers",
            remedy="pass a causal language model of transformers",
        )
    return layers


def catch(model: Any, batches: Iterable[Any], device: Device) -> list[Batch]:
    """What the first decoder layer would be given for each batch of token ids.

    A batch is an integer tensor [B, T], or a mapping of the model's arguments such as input_ids and
    attention_mask. Only the embedding and the rotary embedding are run.
    """
    caught: list[Batch] = []
    for batch in batches:
        given = _arguments(batch, device)
        calls: list[dict[str, Any]] = []
        first: list[Array] = []
        with _recorders(decoder_layers(model), first, calls), torch.no_grad():
            try:
                model.model(**given, use_cache=False)
            except _DoneError:
                caught.append(Batch(first[0], calls))
    if not caught:
        raise ModelError(
            "the calibration holds no batch", remedy="pass at least one batch of token ids"
        )
    return caught


def run_layer(layer: nn.Module, place: int, batch: Batch) -> Array:
    """Hidden states after layer number `place`."""
    with torch.no_grad():
        result = layer(batch.hidden, **batch.calls[place])
    return result[0] if isinstance(result, tuple) else result


@contextmanager
def seeing(module: nn.Module, see: Callable[[Array, Array], None]) -> Iterator[None]:
    """Call see(inputs [T, hidden], outputs [T, hidden]) for each call of a block."""

    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        result = output[0] if isinstance(output, tuple) else output
        see(args[0].flatten(0, -2), result.flatten(0, -2))

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _recorders(
    layers: nn.ModuleList, first: list[Array], calls: list[dict[str, Any]]
) -> Iterator[None]:
    """Let every layer note what it is called with and pass its input on; the last one ends it."""

    def recorder(last: bool) -> Callable[..., Array]:
        def forward(hidden: Array, **options: Any) -> Array:
            first.append(hidden)
            calls.append(options)
            if last:
                raise _DoneError
            return hidden

        return forward

    for place, layer in enumerate(layers):
        layer.forward = recorder(place == len(layers) - 1)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _arguments(batch: Any, device: Device) -> dict[str, Any]:
    if isinstance(batch, torch.Tensor):
        batch = {"input_ids": batch}
    ids = batch.get("input_ids") if hasattr(batch, "get") else None
    if not isinstance(ids, torch.Tensor) or ids.ndim != 2 or ids.is_floating_point():
        raise ModelError(
            f"a calibration batch is a {type(batch).__name__}, but token ids [B, T] are required",
            remedy="pass integer tensors, or mappings with input_ids",
        )
    return {name: value.to(device) for name, value in batch.items() if torch.is_tensor(value)}
