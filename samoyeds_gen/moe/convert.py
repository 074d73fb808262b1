"""A model's folder to a folder of the sparse model, one decoder layer in memory at a time.

Decides the order of the work and what identifies a conversion that may be continued.
"""

import hashlib
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats import Format
from samoyeds_gen.formats.arrays import Array, Device
from samoyeds_gen.moe.blocks import dense_blocks, replace_module
from samoyeds_gen.moe.checkpoint import INDEX, Checkpoint
from samoyeds_gen.moe.devices import device_named
from samoyeds_gen.moe.families import family_of
from samoyeds_gen.moe.folder import Folder, check_decodes, tensors_of
from samoyeds_gen.moe.load import fill_layer, hollow
from samoyeds_gen.moe.pruned_block import Progress, Pruning, prune_block
from samoyeds_gen.moe.report import LayerReport, Report
from samoyeds_gen.moe.skeleton import read_config, skeleton
from samoyeds_gen.moe.sparsify import advance, layer_report, make_pruning, section, step
from samoyeds_gen.moe.walk import Batch, catch, decoder_layers

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack")
"""Endings of files that are not copied; nor is anything called an index of them."""


def convert(
    model_dir: "str | Path",
    out_dir: "str | Path",
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
    """Convert the folder of a Hugging Face model, and return what it left of each layer.

    Arguments are those of `sparsify`, with folders in place of the model. Reads safetensors of
    both layouts, experts one by one and fused; works on `device` (a GPU if there is one, else the
    CPU). Every layer is written as one shard, read back, decoded and compared before it counts as
    done. A conversion that was interrupted goes on where it stopped, and a complete one returns
    its report at once.

    Raises ModelError or FormatError for a folder, a model, a method or a format that cannot be
    used, and for an output folder that holds anything but this conversion.
    """
    source, target = Path(model_dir), Path(out_dir)
    place = device_named(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    config, values = read_config(source)
    _refuse(source, target, config)
    model = skeleton(config)
    checkpoint = Checkpoint(source, family_of(config), config.num_hidden_layers)
    checkpoint.require(_wanted(model))
    batches = None if calibration is None else list(calibration)
    pruning = _pruning(model, checkpoint, Format(n, m, v), method, dtype, damping, batches)
    layers = decoder_layers(model)
    settings = {
        "source": _digest(source),
        "format": str(pruning.format),
        "dtype": pruning.dtype,
        "method": method,
        "damping": pruning.damping,
        "calibration": _calibration_digest(batches),
    }
    folder = Folder(target, settings, len(layers) + 1)
    if not folder.complete:
        _layers(model, checkpoint, folder, pruning, batches, place, progress)
        _rest(model, checkpoint, folder)
        _copy_files(source, target)
        folder.finish({**values, "samoyeds": section(pruning)}, folder.nbytes)
    return folder.report()


def _layers(
    model: Any,
    checkpoint: Checkpoint,
    folder: Folder,
    pruning: Pruning,
    batches: list[Any] | None,
    device: torch.device,
    progress: Progress | None,
) -> None:
    layers = decoder_layers(model)
    if progress is not None:
        progress("layers", 0, len(layers))
    held: list[Batch] | None = None
    if batches is not None and len(folder.done) < len(layers):
        checkpoint.fill(model.model.embed_tokens, "model.embed_tokens", device)
        model.model.rotary_emb.to(device)
        held = catch(model, batches, device)
        model.model.embed_tokens.to("meta")
    for number, layer in enumerate(layers):
        name = f"model.layers.{number}"
        if number in folder.done:
            if held is not None:
                hollow(model, layer, pruning.format, pruning.dtype)
                fill_layer(layer, name, folder.path / folder.name(number), device)
                advance(number, layer, held)
        else:
            checkpoint.fill(layer, name, device)
            if held is not None:
                reports = step(model, number, layer, held, pruning, device, progress)
            else:
                reports = _prune(model, layer, pruning, progress)
            check = partial(check_decodes, layer, name)
            folder.write(number, tensors_of(layer, name), reports, check)
        layer.to("meta")
        if progress is not None:
            progress("layers", number + 1, len(layers))


def _prune(
    model: Any, layer: Any, pruning: Pruning, progress: Progress | None
) -> list[LayerReport]:
    reports = []
    inside = {id(module) for module in layer.modules()}
    for block in [each for each in dense_blocks(model) if id(each.block) in inside]:
        done = prune_block(block, pruning, progress=progress)
        replace_module(model, block.name, done.layer)
        reports.append(layer_report(block, done, None))
    return reports


def _rest(model: Any, checkpoint: Checkpoint, folder: Folder) -> None:
    """Everything that is in no decoder layer: embedding, last norm and head."""
    last = folder.shards - 1
    if last in folder.done:
        return
    names = [name for name in _wanted(model) if not name.startswith("model.layers.")]
    folder.write(last, {name: checkpoint.tensor(name) for name in sorted(names)}, [])


def _wanted(model: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors a model is loaded from; of tied ones, the first only."""
    persistent = set(model.state_dict())
    buffers = [pair for pair in model.named_buffers() if pair[0] in persistent]
    return {name: tuple(t.shape) for name, t in (*model.named_parameters(), *buffers)}


def _pruning(
    model: Any,
    checkpoint: Checkpoint,
    form: Format,
    method: str,
    dtype: object,
    damping: float,
    batches: list[Array] | None,
) -> Pruning:
    blocks = list(dense_blocks(model))
    if dtype is None and blocks:
        name = f"{blocks[0].name}.experts.down_proj"
        found = checkpoint.dtype(name)
        if found not in ("bfloat16", "float16", "float32"):
            raise ModelError(
                f"{name} is stored as {found}",
                remedy="convert a checkpoint in bfloat16, float16 or float32",
            )
        dtype = "bfloat16" if found == "float32" else found
    return make_pruning(blocks, form, method, dtype, damping, batches is not None)


def _refuse(source: Path, target: Path, config: Any) -> None:
    if getattr(config, "samoyeds", None) is not None:
        raise ModelError(
            f"{source} holds a converted model", remedy="convert the dense model instead"
        )
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(
            f"{source} holds quantized weights",
            remedy="convert a checkpoint in bfloat16, float16 or float32",
        )
    if target.exists() and target.resolve() == source.resolve():
        raise ModelError(
            f"{target} is the model's own folder", remedy="choose a folder that is new or empty"
        )


def _digest(source: Path) -> str:
    """What tells this model from another: its configuration, and its files with their sizes."""
    found = hashlib.sha256((source / "config.json").read_bytes())
    for path in sorted(source.glob("*.safetensors")):
        found.update(f"{path.name} {path.stat().st_size}\n".encode())
    return found.hexdigest()


def _calibration_digest(batches: list[Any] | None) -> str | None:
    if batches is None:
        return None
    found = hashlib.sha256()
    for batch in batches:
        ids = batch if isinstance(batch, torch.Tensor) else batch["input_ids"]
        found.update(str(tuple(ids.shape)).encode())
        found.update(ids.to("cpu", torch.int64).contiguous().numpy().tobytes())
    return found.hexdigest()


def _copy_files(source: Path, target: Path) -> None:
    """Tokenizer, generation settings, licence: whatever is neither weights nor configuration."""
    for path in sorted(source.iterdir()):
        name = path.name
        weights = name.endswith(WEIGHTS) or name.endswith(".index.json") or name == INDEX
        if path.is_file() and not weights and name != "config.json":
            shutil.copyfile(path, target / name)
