"""The folder of a converted model: shards that appear whole, and a note of what is done.

Decides file names, what makes a half-done folder one that may be continued, and which folders are
refused. Files appear by rename, and a shard is noted only after it was read back.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from samoyeds_gen.errors import FormatError, ModelError
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.moe.checkpoint import INDEX, opened
from samoyeds_gen.moe.report import LayerReport, Report
from samoyeds_gen.moe.stored import StoredWeight, weight_over

NOTE = "samoyeds-conversion.json"
KIND = "samoyeds-gen conversion"
VERSION = 1


class Folder:
    """A folder being written: `settings` say of what and how, and have to be those it began with.

    `done` holds the reports of the shards written so far. Raises ModelError for a folder that holds
    something else, another conversion, or a broken one.
    """

    def __init__(self, path: Path, settings: dict[str, Any], shards: int) -> None:
        self.path = path
        self.settings = settings
        self.shards = shards
        self.done: dict[int, list[LayerReport]] = {}
        self.complete = False
        self._sizes: dict[str, int] = {}
        self._keys: dict[str, list[str]] = {}
        if path.exists() and not path.is_dir():
            raise ModelError(f"{path} is a file", remedy="choose a folder that is new or empty")
        if (path / NOTE).exists():
            self._resume()
        elif path.is_dir() and any(path.iterdir()):
            raise ModelError(
                f"{path} is not empty and holds no conversion to continue",
                remedy="choose a folder that is new or empty",
            )
        else:
            _writing(path, lambda: path.mkdir(parents=True, exist_ok=True))
            self._note()

    def name(self, shard: int) -> str:
        """File name of shard number `shard`."""
        return f"model-{shard + 1:05d}-of-{self.shards:05d}.safetensors"

    def write(
        self,
        shard: int,
        tensors: dict[str, Array],
        reports: list[LayerReport],
        check: Callable[[Path], None] | None = None,
    ) -> None:
        """Write one shard, read it back, compare every bit, and note it as done.

        `check` looks at the file before it gets its name, and raises where it is not as it should
        be.
        """
        name = self.name(shard)
        target, draft = self.path / name, self.path / f"{name}.draft"
        held = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        _writing(target, lambda: save_file(held, draft, metadata={"format": "pt"}))
        _compare(draft, held)
        if check is not None:
            check(draft)
        _writing(target, lambda: os.replace(draft, target))
        self._sizes[name] = target.stat().st_size
        self._keys[name] = sorted(held)
        self.done[shard] = reports
        self._note()

    def finish(self, config: dict[str, Any], total: int) -> None:
        """Write the index and config.json, and note the folder as complete."""
        files = {key: name for name, keys in sorted(self._keys.items()) for key in keys}
        index = {"metadata": {"total_size": total}, "weight_map": files}
        write_json(self.path / INDEX, index)
        write_json(self.path / "config.json", config)
        self.complete = True
        self._note()

    def report(self) -> Report:
        """The reports of all shards, in order."""
        found = [each for shard in sorted(self.done) for each in self.done[shard]]
        settings = self.settings
        return Report(settings["format"], settings["dtype"], settings["method"], found)

    @property
    def nbytes(self) -> int:
        """Bytes of the shards written so far."""
        return sum(self._sizes.values())

    def _note(self) -> None:
        shards = {
            self.name(shard): {
                "shard": shard,
                "bytes": self._sizes[self.name(shard)],
                "tensors": self._keys[self.name(shard)],
                "layers": [asdict(each) for each in reports],
            }
            for shard, reports in self.done.items()
        }
        values = {
            "kind": KIND,
            "version": VERSION,
            "complete": self.complete,
            "settings": self.settings,
            "shards": shards,
        }
        write_json(self.path / NOTE, values)

    def _resume(self) -> None:
        values = read_note(self.path)
        for name, value in self.settings.items():
            if values["settings"].get(name) != value:
                raise ModelError(
                    f"{self.path} holds a conversion with {name} "
                    f"{values['settings'].get(name)!r}, but {value!r} is asked for",
                    remedy="choose another folder, or ask for the same again",
                )
        for name, entry in values["shards"].items():
            path = self.path / name
            size = path.stat().st_size if path.is_file() else None
            if size != entry["bytes"]:
                state = "is missing" if size is None else f"has {size} bytes"
                raise ModelError(
                    f"{path} {state}, but {entry['bytes']} bytes were written",
                    remedy="delete the folder and convert again",
                )
            self._sizes[name] = entry["bytes"]
            self._keys[name] = entry["tensors"]
            self.done[entry["shard"]] = [LayerReport(**each) for each in entry["layers"]]
        self.complete = values["complete"]


def read_note(folder: Path) -> dict[str, Any]:
    """The note of a conversion in a folder; ModelError when it is broken or of another version."""
    path = folder / NOTE
    try:
        values = json.loads(path.read_text())
        kind, version = values["kind"], values["version"]
        parts = (values["settings"], values["shards"], values["complete"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(
            f"{path} is not the note of a conversion",
            remedy="delete the folder and convert again",
        ) from None
    if kind != KIND or version != VERSION or not all(isinstance(each, dict) for each in parts[:2]):
        raise ModelError(
            f"{path} was written by another version ({version!r}, this one writes {VERSION!r})",
            remedy="delete the folder and convert again",
        )
    return values  # type: ignore[no-any-return]


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON file by rename; ModelError when it cannot be written."""
    draft = path.with_name(f"{path.name}.draft")
    text = json.dumps(values, indent=2) + "\n"

    def write() -> None:
        draft.write_text(text)
        os.replace(draft, path)

    _writing(path, write)


def tensors_of(module: nn.Module, prefix: str) -> dict[str, Array]:
    """State of a module that is called `prefix` in the model, under the model's names."""
    return {f"{prefix}.{name}" if prefix else name: t for name, t in module.state_dict().items()}


def check_decodes(module: nn.Module, prefix: str, path: Path) -> None:
    """Raise ModelError unless every weight of a module decodes from a file as it does in memory."""
    with opened(path) as handle:
        for name, part in module.named_modules():
            if not isinstance(part, StoredWeight):
                continue
            keys = [f"{prefix}.{name}.{each}" for each in ("data", "metadata", "indices")]
            read = [handle.get_tensor(key) for key in keys[: len(part.tensors())]]
            weight = weight_over(read, part.format, part.shape)
            try:
                weight.validate()
            except FormatError as error:
                raise ModelError(f"{path}: {error.sentence}", remedy=error.remedy) from None
            if not torch.equal(weight.decode(), part.sparse().decode().cpu()):
                raise _other_bits(path, f"{prefix}.{name}")


def _compare(path: Path, tensors: dict[str, Array]) -> None:
    with opened(path) as handle:
        for key, tensor in tensors.items():
            read = handle.get_tensor(key)
            same = read.dtype == tensor.dtype and read.shape == tensor.shape
            if not (same and torch.equal(_bytes(read), _bytes(tensor))):
                raise _other_bits(path, key)


def _bytes(tensor: Array) -> Array:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _other_bits(path: Path, key: str) -> ModelError:
    return ModelError(
        f"{path} reads back other values of {key} than were written",
        remedy="check the disk, and convert again",
    )


def _writing(path: Path, write: Callable[[], object]) -> None:
    try:
        write()
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ModelError(
            f"{path} cannot be written ({reason.splitlines()[0]})",
            remedy="choose a folder with room that is writable",
        ) from None
