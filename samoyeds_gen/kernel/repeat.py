"""A call with the arrays of the call before: nothing is checked twice, only launched.

The arrays are recognised by identity and by what their owner can change in place (address and
shape); their contents are free to change.
"""

import sys
import weakref
from collections.abc import Sequence
from typing import Any

from samoyeds_gen.formats import SparseWeight
from samoyeds_gen.runtime import LoadedKernel


class Repeat:
    """One launch on torch GPU tensors, ready to be queued again.

    `arrays` are what the caller passed, in the order the kernel's call takes them; `options` is
    everything else of the call. Weight and tensors are held weakly. With a `stream`, the arguments
    belong to work on that one.
    """

    __slots__ = (
        "_blank",
        "_device",
        "_launch",
        "_options",
        "_out_at",
        "_references",
        "_states",
        "_stream",
        "_torch",
        "_weight",
    )

    def __init__(
        self,
        w: SparseWeight,
        arrays: Sequence[Any],
        options: tuple[object, ...],
        loaded: LoadedKernel,
        extents: tuple[tuple[int, int, int], int],
        arguments: Sequence[Any],
        out: Any,
        out_at: int,
        stream: int | None = None,
    ) -> None:
        self._torch = sys.modules["torch"]
        self._weight = weakref.ref(w)
        self._references = [None if each is None else weakref.ref(each) for each in arrays]
        self._states = [_state(each) for each in arrays]
        self._options = options
        self._launch = loaded.prepare(*extents, arguments)
        self._out_at = out_at
        self._stream = stream
        self._device = out.device.index
        # One element in every place: torch is quicker to make a tensor like it than of a shape.
        one = self._torch.empty(1, dtype=out.dtype, device=out.device)
        self._blank = one.expand(tuple(out.shape))

    def matches(self, w: object, arrays: Sequence[Any], options: tuple[object, ...]) -> bool:
        """Whether this call is the one before again."""
        if w is not self._weight() or options != self._options:
            return False
        for array, reference, state in zip(arrays, self._references, self._states, strict=True):
            if array is None or reference is None:
                if array is not reference:
                    return False
            elif reference() is not array or _state(array) != state:
                return False
        return self._stream is None or self._stream == self._current()

    def launch(self) -> Any:
        """Queue the kernel on torch's current stream; returns a new out tensor."""
        out = self._torch.empty_like(self._blank)
        self._launch(self._out_at, out.data_ptr(), self._current())
        return out

    def _current(self) -> int:
        return int(self._torch._C._cuda_getCurrentRawStream(self._device))


def _state(array: Any) -> tuple[object, ...] | None:
    return None if array is None else (array.data_ptr(), array.shape, array.stride())
