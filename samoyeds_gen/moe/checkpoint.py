"""Tensors of a model's folder under the names of transformers 5, whichever layout was saved.

Decides how experts saved one by one become the fused tensors of today's models, and which
checkpoints are refused. Reads one tensor at a time.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats.arrays import Array, Device
from samoyeds_gen.moe.families import Family

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

_EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(gate_proj|up_proj|down_proj|w1|w3|w2)\.weight")
_PART = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}
_QUANTIZED = ("_scale_inv", ".weight_scale", ".qweight", ".qzeros", ".weight_packed", ".absmax")

Stored = tuple[str, str]
"""File and key of one tensor."""


class Checkpoint:
    """A folder of safetensors: `names` of tensors as transformers 5 calls them, and their values.

    Tensors of layers behind `layers` are left out (DeepSeek-V3 keeps a head for training there), as
    are saved rotary frequencies. Raises ModelError for a folder without safetensors, with a broken
    index or file, with quantized weights, or with an incomplete list of experts.
    """

    def __init__(self, folder: Path, family: Family, layers: int) -> None:
        self.folder = folder
        self._plain: dict[str, Stored] = {}
        self._experts: dict[str, dict[tuple[str, int], Stored]] = {}
        for key, file in index_of(folder).items():
            if key.endswith(_QUANTIZED):
                raise ModelError(
                    f"{folder} holds quantized weights ({key})",
                    remedy="convert a checkpoint in bfloat16, float16 or float32",
                )
            name = key
            for before, after in family.renames:
                name = name.replace(before, after)
            place = re.match(r"model\.layers\.(\d+)\.", name)
            if (place and int(place[1]) >= layers) or name.endswith("rotary_emb.inv_freq"):
                continue
            found = _EXPERT.fullmatch(name)
            if found is None:
                self._plain[name] = (file, key)
            else:
                part = (_PART.get(found[3], found[3]), int(found[2]))
                self._experts.setdefault(found[1], {})[part] = (file, key)
        for prefix, parts in self._experts.items():
            _complete(folder, prefix, parts)

    @property
    def names(self) -> set[str]:
        """Names of all tensors, fused ones in place of single experts."""
        fused = {f"{prefix}.{name}" for prefix in self._experts for name in _FUSED}
        return set(self._plain) | fused

    def dtype(self, name: str) -> str:
        """Type of a tensor as its file has it, such as "bfloat16"."""
        file, key = self._sources(name)[0]
        with opened(self.folder / file) as handle:
            part = handle.get_slice(key)
            kinds = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
            return kinds.get(part.get_dtype(), str(part.get_dtype()))

    def tensor(self, name: str, device: Device = "cpu") -> Array:
        """The tensor called `name`, on `device`; single experts are put together there."""
        prefix, _, last = name.rpartition(".")
        if name in self._plain:
            return self._read([self._plain[name]], device)[0]
        parts = self._experts[prefix]
        count = len(parts) // 3
        wanted = [
            self._read([parts[each, expert] for each in _FUSED[last]], device)
            for expert in range(count)
        ]
        return torch.stack([torch.cat(each) for each in wanted])

    def fill(self, module: nn.Module, prefix: str, device: Device) -> None:
        """Give a module, called `prefix` in the model, its parameters and buffers on `device`."""
        tensors = {name: self.tensor(f"{prefix}.{name}", device) for name in module.state_dict()}
        assign(module, tensors, prefix, self.folder)
        module.requires_grad_(False)
        module.to(device)

    def require(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Raise ModelError unless every name is there, and all but experts have their shapes."""
        missing = sorted(set(shapes) - self.names)
        if missing:
            more = f" and {len(missing) - 1} more tensors" if len(missing) > 1 else ""
            raise ModelError(
                f"{self.folder} lacks {missing[0]}{more}",
                remedy="use the config.json that came with the weights, or download them again",
            )
        by_file: dict[str, list[tuple[str, str]]] = {}
        for name in shapes:
            if name in self._plain:
                file, key = self._plain[name]
                by_file.setdefault(file, []).append((name, key))
        for file, pairs in by_file.items():
            with opened(self.folder / file) as handle:
                for name, key in pairs:
                    found = tuple(handle.get_slice(key).get_shape())
                    if found != shapes[name]:
                        raise _misfit(self.folder, name, found, shapes[name])

    def _sources(self, name: str) -> list[Stored]:
        if name in self._plain:
            return [self._plain[name]]
        return list(self._experts[name.rpartition(".")[0]].values())

    def _read(self, sources: list[Stored], device: Device) -> list[Array]:
        tensors = []
        for file, key in sources:
            with opened(self.folder / file, device) as handle:
                tensors.append(read(handle, key))
        return tensors


_FUSED = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}


@contextmanager
def opened(path: Path, device: Device = "cpu") -> Iterator[Any]:
    """A safetensors file; ModelError when it is missing or broken."""
    try:
        with safe_open(path, framework="pt", device=str(device)) as handle:
            yield handle
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ModelError(
            f"{path} cannot be read ({reason})", remedy="download or convert it again"
        ) from None


def read(handle: Any, key: str) -> Array:
    """One tensor of an opened file, in memory of its own and hence aligned as any other.

    What lies in the file itself is not, and sums of a CPU may then round otherwise.
    """
    tensor = handle.get_tensor(key)
    return tensor.clone() if tensor.device.type == "cpu" else tensor


def assign(module: nn.Module, tensors: dict[str, Array], prefix: str, path: Path) -> None:
    """Put tensors in place of a module's own, some or all; `prefix` and `path` are for the error.

    Raises ModelError for a tensor that the module has not, or of another shape.
    """
    own = module.state_dict()
    dot = f"{prefix}." if prefix else ""
    for name, tensor in tensors.items():
        if name not in own:
            raise ModelError(
                f"{path} holds {dot}{name}, which the model of its config.json has not",
                remedy="use the config.json that came with the weights",
            )
        # A stored weight's header says more than a shape, and is checked where it is loaded.
        if tensor.shape != own[name].shape and f"{name.rpartition('.')[0]}.header" not in own:
            raise _misfit(path, f"{dot}{name}", tuple(tensor.shape), tuple(own[name].shape))
    try:
        module.load_state_dict(tensors, strict=False, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ModelError(
            f"{path} does not fit its configuration ({reason})", remedy="convert the model again"
        ) from None


def _misfit(path: Path, name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> ModelError:
    return ModelError(
        f"{path} does not fit its configuration ({name} is {list(found)}, but {list(wanted)} is "
        "required)",
        remedy="use the config.json that came with the weights",
    )


def index_of(folder: Path) -> dict[str, str]:
    """File of every tensor in a folder of safetensors; ModelError when there is none."""
    index, single = folder / INDEX, folder / SINGLE
    if index.is_file():
        try:
            found = json.loads(index.read_text())["weight_map"]
            return {str(key): str(file) for key, file in found.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise ModelError(
                f"{index} is not an index of safetensors files", remedy="download it again"
            ) from None
    if single.is_file():
        with opened(single) as handle:
            return dict.fromkeys(handle.keys(), SINGLE)
    raise ModelError(
        f"{folder} has neither {INDEX} nor {SINGLE}",
        remedy="save the model with save_pretrained, which writes safetensors",
    )


def _complete(folder: Path, prefix: str, parts: dict[tuple[str, int], Stored]) -> None:
    count = 1 + max(expert for _, expert in parts)
    for expert in range(count):
        for part in ("gate_proj", "up_proj", "down_proj"):
            if (part, expert) not in parts:
                raise ModelError(
                    f"{folder} lacks {prefix}.{expert}.{part}.weight",
                    remedy="download the checkpoint again",
                )
