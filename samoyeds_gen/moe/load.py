"""Reading a converted model's folder, and writing one from a sparse model in memory.

Decides which folders are refused; shards are read straight to the device.
"""

from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from samoyeds_gen.errors import FormatError, ModelError
from samoyeds_gen.formats import Format, canonical_dtype
from samoyeds_gen.formats.arrays import Device
from samoyeds_gen.formats.element import STORED
from samoyeds_gen.moe.blocks import dense_blocks, replace_module
from samoyeds_gen.moe.checkpoint import assign, index_of, opened, read
from samoyeds_gen.moe.devices import device_named
from samoyeds_gen.moe.folder import NOTE, Folder, check_decodes, read_note, tensors_of
from samoyeds_gen.moe.skeleton import read_config, skeleton, transformers
from samoyeds_gen.moe.sparsify import SECTION_VERSION
from samoyeds_gen.moe.walk import decoder_layers


def load(folder: "str | Path", *, device: Device = "cpu") -> Any:
    """The transformers model of a folder that `convert` or `save` wrote, on `device`, in eval mode.

    Its Mixture-of-Experts blocks are SparseMoE layers; everything else is what transformers builds
    from config.json. Raises ModelError for a folder that is no converted model, that is half
    converted, or whose files are missing, broken or of another shape.
    """
    path, place = Path(folder), device_named(device)
    if (path / NOTE).exists() and not read_note(path)["complete"]:
        raise ModelError(
            f"{path} is half converted", remedy="run the same samoyeds-gen convert again"
        )
    config, values = read_config(path)
    form, dtype = _section(path, values)
    model = skeleton(config)
    hollow(model, model, form, dtype)
    for file, names in _by_file(path).items():
        with opened(path / file, place) as handle:
            tensors = {name: read(handle, name) for name in names}
        assign(model, tensors, "", path / file)
    model.tie_weights()
    _require_all(path, model)
    model.requires_grad_(False)
    if (path / "generation_config.json").is_file():
        kind = transformers().GenerationConfig
        model.generation_config = kind.from_pretrained(str(path), local_files_only=True)
    return model.to(place)


def save(model: Any, folder: "str | Path") -> None:
    """Write a model that `sparsify` made, so that `load` reads it; one shard per decoder layer.

    `folder` is new or empty. Raises ModelError for a model that is not sparse or a folder that
    cannot be written.
    """
    section = getattr(model.config, "samoyeds", None)
    if section is None:
        raise ModelError(
            "the model is dense", remedy="call sparsify first, or the model's own save_pretrained"
        )
    layers = decoder_layers(model)
    settings = {name: section[name] for name in ("format", "dtype", "method")}
    target = Folder(Path(folder), settings, len(layers) + 1)
    inside: set[str] = set()
    for number, layer in enumerate(layers):
        name = f"model.layers.{number}"
        tensors = tensors_of(layer, name)
        inside |= set(tensors)
        target.write(number, tensors, [], partial(check_decodes, layer, name))
    tied = {id(parameter) for parameter in model.model.parameters()}
    head = {
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if not name.startswith("model.") and id(parameter) in tied
    }
    rest = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name not in inside and name not in head
    }
    target.write(len(layers), rest, [])
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.save_pretrained(str(folder))
    target.finish(model.config.to_dict(), target.nbytes)


def hollow(model: Any, within: nn.Module, form: Format, dtype: str) -> None:
    """Put sparse layers on meta in place of the dense blocks of `within`, a part of the model."""
    inside = {id(module) for module in within.modules()}
    for block in [each for each in dense_blocks(model) if id(each.block) in inside]:
        replace_module(model, block.name, block.empty(form, dtype))


def fill_layer(layer: nn.Module, prefix: str, path: Path, device: Device) -> None:
    """Give a hollow decoder layer, called `prefix` in the model, the tensors of its shard."""
    with opened(path, device) as handle:
        names = list(handle.keys())
        tensors = {name.removeprefix(f"{prefix}."): read(handle, name) for name in names}
    assign(layer, tensors, prefix, path)
    layer.requires_grad_(False)
    layer.to(device)


def _section(path: Path, values: dict[str, Any]) -> tuple[Format, str]:
    section = values.get("samoyeds")
    if section is None:
        raise ModelError(
            f"{path} holds a dense model", remedy="convert it with samoyeds-gen convert"
        )
    try:
        version = section["version"]
        form, dtype = Format.parse(section["format"]), section["dtype"]
        dtype = canonical_dtype(dtype, allowed=STORED)
    except (KeyError, TypeError, FormatError):
        raise ModelError(
            f"{path / 'config.json'} has a broken samoyeds section",
            remedy="convert the model again",
        ) from None
    if version != SECTION_VERSION:
        raise ModelError(
            f"{path} was converted with version {version!r}, but this package reads "
            f"{SECTION_VERSION!r}",
            remedy="convert the model again",
        )
    return form, dtype


def _by_file(path: Path) -> dict[str, list[str]]:
    files: dict[str, list[str]] = {}
    for key, file in index_of(path).items():
        files.setdefault(file, []).append(key)
    return files


def _require_all(path: Path, model: Any) -> None:
    hollow_ones = [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    if hollow_ones:
        raise ModelError(f"{path} lacks {hollow_ones[0]}", remedy="convert the model again")
