"""The few array operations on which encode, decode and validate stand, for numpy and for torch.

One algorithm written against `Arrays` gives the same bits on both. Decides how each library spells
an operation, and that torch is imported only when a tensor was given.
"""

import sys
from typing import Any, Protocol, TypeAlias

import ml_dtypes
import numpy as np

Array: TypeAlias = Any
"""A numpy array or a torch tensor; which of the two is known only by its `Arrays`."""

Device: TypeAlias = Any
"""What torch takes for a device: a name such as "cuda:0", a torch.device or an index."""


class Arrays(Protocol):
    """Operations that numpy and torch spell differently; `kind` is a dtype name such as "int16"."""

    chunk: int
    """How many dense elements to work on at a time."""

    def cast(self, array: Array, kind: str) -> Array:
        """Convert values to `kind`, rounding to nearest even; overflow gives infinity, silently."""

    def view(self, array: Array, kind: str) -> Array:
        """Reinterpret the bytes of a contiguous array as `kind`."""

    def full(self, shape: tuple[int, ...], value: float, kind: str) -> Array:
        """Allocate a new array holding `value` everywhere."""

    def arange(self, count: int) -> Array:
        """Integers 0 .. count - 1, usable as an index."""

    def where(self, condition: Array, yes: Array, no: Array) -> Array:
        """Choose elementwise."""

    def stack(self, parts: list[Array]) -> Array:
        """Join along a new last axis."""

    def join(self, parts: list[Array], axis: int) -> Array:
        """Join along an axis that all have."""

    def nonzero(self, mask: Array) -> Array:
        """Flat positions of the true elements, increasing."""

    def here(self, array: Array) -> Array:
        """An array of the same library where the others are: itself if it is there already."""


class NumpyArrays:
    """`Arrays` on numpy."""

    chunk = 1 << 20

    def cast(self, array: Array, kind: str) -> Array:
        """See Arrays."""
        with np.errstate(all="ignore"):
            return array.astype(_numpy_kind(kind), order="C", copy=False)

    def view(self, array: Array, kind: str) -> Array:
        """See Arrays."""
        return np.ascontiguousarray(array).view(_numpy_kind(kind))

    def full(self, shape: tuple[int, ...], value: float, kind: str) -> Array:
        """See Arrays."""
        return np.full(shape, value, _numpy_kind(kind))

    def arange(self, count: int) -> Array:
        """See Arrays."""
        return np.arange(count)

    def where(self, condition: Array, yes: Array, no: Array) -> Array:
        """See Arrays."""
        return np.where(condition, yes, no)

    def stack(self, parts: list[Array]) -> Array:
        """See Arrays."""
        return np.stack(parts, axis=-1)

    def join(self, parts: list[Array], axis: int) -> Array:
        """See Arrays."""
        return np.concatenate(parts, axis=axis)

    def nonzero(self, mask: Array) -> Array:
        """See Arrays."""
        return np.flatnonzero(mask)

    def here(self, array: Array) -> Array:
        """See Arrays."""
        return array


def is_tensor(value: object) -> bool:
    """True for a torch tensor; does not import torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def arrays_of(array: Array) -> Arrays:
    """The `Arrays` of a numpy array, or of a torch tensor on that tensor's own device."""
    if not is_tensor(array):
        return NumpyArrays()
    from samoyeds_gen.formats.torch_arrays import TorchArrays

    return TorchArrays(array.device)


def to_numpy(array: Array) -> Array:
    """A numpy array with the bits of `array`; shares memory where it can, copies from a device."""
    if not is_tensor(array):
        return array
    kind = str(array.dtype).removeprefix("torch.")
    if kind == "bfloat16":
        return array.detach().cpu().view(sys.modules["torch"].int16).numpy().view(_numpy_kind(kind))
    return array.detach().cpu().numpy()


def to_torch(array: Array, device: Device) -> Array:
    """A tensor on `device` with the bits of `array`, which shares no memory with a numpy array."""
    if is_tensor(array):
        return array.to(device)
    from samoyeds_gen.formats.torch_arrays import tensor_of

    return tensor_of(array, device)


def _numpy_kind(kind: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind)
