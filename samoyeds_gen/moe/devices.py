"""Devices by name: which of them exist here."""

import torch

from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats.arrays import Device


def device_named(device: Device) -> torch.device:
    """The torch.device of a name, an index or a device; ModelError for one that is not there."""
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError, ValueError):
        raise ModelError(
            f"device {device!r} is not a device of torch", remedy="use 'cpu', 'cuda' or 'cuda:0'"
        ) from None
    count = torch.cuda.device_count() if found.type == "cuda" else 1
    if (found.index or 0) >= count:
        raise ModelError(
            f"device {str(found)!r} is asked for, but torch sees {count} GPUs",
            remedy="use 'cpu', or a torch with CUDA on a machine with a GPU",
        )
    return found
