"""A device that is not the CPU and yet computes: tensors that refuse to meet those of the host.

Where a buffer lies, and what is moved on the way, is thus tested on machines without a GPU.
"""

from contextlib import contextmanager

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "elsewhere"
MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)

_registered = []


class Elsewhere(torch.Tensor):
    """A tensor on the other device; `inner` holds its values on the host."""

    @staticmethod
    def __new__(cls, inner):
        """A tensor without memory that looks like `inner`."""
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        """Compute on the host, and refuse tensors of two devices."""
        return computed(func, args, kwargs or {})


class Machine(TorchDispatchMode):
    """Sees operations that make tensors, and those that move them there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """See `computed`."""
        return computed(func, args, kwargs or {})


def computed(func, args, kwargs):
    """The result of an operator on the device of its tensors or of `device`."""
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    there = [isinstance(each, Elsewhere) for each in tensors]
    asked = kwargs.get("device")
    if asked is not None and asked.type == NAME:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if func not in MOVES and any(there):
        lost = [t for t, away in zip(tensors, there, strict=True) if t.ndim and not away]
        if lost:
            raise RuntimeError(f"{func} was given tensors of two devices")
    args, kwargs = tree_map(
        lambda each: each.inner if isinstance(each, Elsewhere) else each, (args, kwargs)
    )
    result = func(*args, **kwargs)
    stays = there[0] if func in MOVES else any(there)
    if stays if asked is None else asked.type == NAME:
        return tree_map(
            lambda each: Elsewhere(each) if isinstance(each, torch.Tensor) else each, result
        )
    return result


@contextmanager
def other_device():
    """Let `torch.device("elsewhere")` compute inside. The process knows it from then on."""
    if not _registered:
        backend_registration._setup_privateuseone_for_python_backend(NAME)
        _registered.append(NAME)
    with Machine():
        yield torch.device(NAME, 0)
