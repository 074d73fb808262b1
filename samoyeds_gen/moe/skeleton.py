"""A model without its weights, built by transformers from a configuration.

Decides what is real in a skeleton: buffers such as rotary frequencies are, parameters are on meta
until they are loaded. The only module that imports transformers.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from samoyeds_gen.errors import ModelError
from samoyeds_gen.moe.families import family_of


def transformers() -> Any:
    """The transformers package; ModelError where it is not installed."""
    try:
        import transformers as package
    except ImportError:
        raise ModelError(
            "models are built by transformers, which is not installed",
            remedy="pip install 'samoyeds-gen[hf]'",
        ) from None
    return package


def read_config(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Configuration of a model's folder, as transformers has it and as its file says.

    Raises ModelError for a folder without one, for one that cannot be read, and for models that
    are not supported.
    """
    path = folder / "config.json"
    if not folder.is_dir() or not path.is_file():
        raise ModelError(
            f"{folder} is not the folder of a model, since it has no config.json",
            remedy="pass the folder of a model of transformers",
        )
    try:
        values = json.loads(path.read_text())
        kind = values["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(
            f"{path} is not the configuration of a model", remedy="download it again"
        ) from None
    family_of(_Kind(kind))
    try:
        config = transformers().AutoConfig.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # whatever transformers and its validators raise
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ModelError(
            f"{path} is refused by transformers ({reason})", remedy="repair the configuration"
        ) from None
    return config, values


def skeleton(config: Any) -> Any:
    """The causal language model of a configuration, with parameters on meta, in eval mode."""
    with _parameters_on_meta():
        model = transformers().AutoModelForCausalLM.from_config(config)
    model.eval()
    model.requires_grad_(False)
    return model


class _Kind:
    """Just enough of a configuration to ask for its family."""

    def __init__(self, model_type: object) -> None:
        self.model_type = model_type


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Parameters that modules register inside hold nothing; buffers are what they always are."""
    register: Callable[..., None] = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, parameter: Any) -> None:
        if parameter is not None and not parameter.is_meta:  # tied ones stay one
            parameter = nn.Parameter(
                torch.empty_like(parameter, device="meta"), requires_grad=parameter.requires_grad
            )
        register(module, name, parameter)

    nn.Module.register_parameter = on_meta
    try:
        yield
    finally:
        nn.Module.register_parameter = register
