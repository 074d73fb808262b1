"""Calls on torch GPU tensors that look like an earlier call: what was decided then holds.

Decides what makes two calls alike: dtypes, shapes, strides and devices, not addresses or contents.
"""

import sys
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
MOST_KEPT = 64


def call_key(*arrays: Any) -> Hashable | None:
    """What decides how these arrays are used; None unless all that are given are torch tensors."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    tensor = torch.Tensor
    parts: list[Hashable] = []
    for array in arrays:
        if array is None:
            parts.append(None)
        elif isinstance(array, tensor):
            parts.append((array.dtype, array.shape, array.stride(), array.device))
        else:
            return None
    return tuple(parts)


class Repeats(Generic[T]):
    """What was decided for calls, by their keys; forgets everything when there are too many."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, T] = {}

    def get(self, key: Hashable | None) -> T | None:
        """What was kept under a key, None for a call that cannot be repeated."""
        return None if key is None else self._kept.get(key)

    def keep(self, key: Hashable | None, value: T) -> None:
        """Keep `value` for calls of this key."""
        if key is None:
            return
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept[key] = value


def torch_stream(index: int) -> int:
    """The handle of torch's current stream on a GPU."""
    return int(sys.modules["torch"]._C._cuda_getCurrentRawStream(index))
