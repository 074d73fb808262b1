"""`Arrays` on torch, on the device of one tensor. The only module of the room that imports torch.

Decides nothing: every result has the bits numpy gives.
"""

import torch

from samoyeds_gen.formats.arrays import Array, Device


class TorchArrays:
    """`Arrays` on the tensors of one device."""

    chunk = 1 << 21

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type != "cpu":
            self.chunk = 1 << 25  # fewer, larger launches; a host wants its caches instead

    def cast(self, array: Array, kind: str) -> Array:
        """See Arrays."""
        return array.to(getattr(torch, kind))

    def view(self, array: Array, kind: str) -> Array:
        """See Arrays."""
        return array.contiguous().view(getattr(torch, kind))

    def full(self, shape: tuple[int, ...], value: float, kind: str) -> Array:
        """See Arrays."""
        return torch.full(shape, value, dtype=getattr(torch, kind), device=self.device)

    def arange(self, count: int) -> Array:
        """See Arrays."""
        return torch.arange(count, device=self.device)

    def where(self, condition: Array, yes: Array, no: Array) -> Array:
        """See Arrays."""
        return torch.where(condition, yes, no)

    def stack(self, parts: list[Array]) -> Array:
        """See Arrays."""
        return torch.stack(parts, dim=-1)

    def join(self, parts: list[Array], axis: int) -> Array:
        """See Arrays."""
        return torch.cat(parts, dim=axis)

    def nonzero(self, mask: Array) -> Array:
        """See Arrays."""
        return mask.reshape(-1).nonzero().reshape(-1)

    def here(self, array: Array) -> Array:
        """See Arrays."""
        return array.to(self.device)


def tensor_of(array: Array, device: Device) -> Array:
    """Copy a numpy array, bfloat16 included, into a tensor on `device`."""
    kind = array.dtype.name
    raw = torch.from_numpy(array.view("int16").copy() if kind == "bfloat16" else array.copy())
    return raw.to(device).view(getattr(torch, kind))
