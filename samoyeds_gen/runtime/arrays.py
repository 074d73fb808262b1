"""Arrays of other libraries, seen as pointer, shape, strides and dtype; and what a call refuses.

Decides what an array is to this package. Torch and cupy are looked at only when the caller has
loaded them. Allocating and copying are memory.py's.
"""

import sys
from collections.abc import Callable, Collection, Mapping
from math import prod
from typing import Any, Literal, NamedTuple

import ml_dtypes
import numpy as np

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.runtime.device import current_stream, require_driver, stream_handle

DTYPES = (
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "bfloat16",
    "float16",
    "float32",
    "float64",
)
"""The dtype names that a view can have."""

_NUMPY_DTYPES = {name: np.dtype(getattr(ml_dtypes, name, name)) for name in DTYPES}
_NAMES = {dtype: name for name, dtype in _NUMPY_DTYPES.items()}
_HOST_DEVICES = (1, 3)  # DLPack: kDLCPU, kDLCUDAHost
_CUDA_DEVICES = (2, 13)  # DLPack: kDLCUDA, kDLCUDAManaged
_LEGACY_STREAM = 1  # DLPack's number for it, where 0 is refused as ambiguous


class ArrayView(NamedTuple):
    """Where an array is and how it is laid out, without a copy. Frozen.

    `pointer` is the address of element [0, ..., 0] in host or device memory, `strides` count
    elements, `dtype` is a name of `DTYPES`, `device` the GPU's ordinal (-1 on the host). `family`
    tells whose array it is and therefore what kind of array a call returns; `owner` keeps the
    memory alive. A named tuple because a call makes several and must stay under 10 microseconds;
    compare fields, not views, since owners are arrays.
    """

    kind: Literal["host", "device"]
    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    device: int
    family: Literal["numpy", "torch", "cupy", "dlpack"]
    owner: Any

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return _NUMPY_DTYPES[self.dtype].itemsize

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie in C order without gaps."""
        return self.size == 0 or all(
            extent == 1 or stride == expected
            for extent, stride, expected in zip(
                self.shape, self.strides, row_major(self.shape), strict=True
            )
        )

    def __str__(self) -> str:
        place = "the host" if self.kind == "host" else f"device {self.device}"
        return f"{self.family} {self.dtype} {list(self.shape)} on {place}"


def describe(array: Any, *, stream: Any = None) -> ArrayView:
    """The view of a numpy array, a torch tensor (CPU or CUDA) or any object with DLPack.

    A DLPack object on a GPU is asked to make its data ready for `stream` (None: the current one
    of `stream_for`); torch and cupy arrays are used on the stream that the caller chose.
    Raises LaunchError for anything else, and for a dtype or layout that no kernel takes.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        return _torch_view(torch, array)
    if isinstance(array, np.ndarray):
        return _numpy_view(array)
    if isinstance(array, ArrayView):
        return array
    if hasattr(array, "__dlpack__") and hasattr(array, "__dlpack_device__"):
        return _dlpack_view(array, stream)
    raise LaunchError(
        f"a value of type {type(array).__name__} is not an array",
        remedy="pass a numpy array, a torch tensor or an object with __dlpack__",
    )


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype of a name of `DTYPES`; bfloat16 comes from ml_dtypes."""
    return _NUMPY_DTYPES[name]


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides, in elements, of a C-ordered array of that shape."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def require_dtype(view: ArrayView, allowed: Collection[str], what: str) -> None:
    """Refuse an array called `what` whose dtype is not one of `allowed`, with a LaunchError."""
    if view.dtype not in allowed:
        raise LaunchError(
            f"{what} has dtype {view.dtype}, allowed is {' or '.join(allowed)}",
            remedy=f"convert {what} before the call",
        )


def require_axes(view: ArrayView, axes: int, what: str) -> None:
    """Refuse an array called `what` that has not `axes` axes, with a LaunchError."""
    if len(view.shape) != axes:
        raise LaunchError(
            f"{what} has {len(view.shape)} axes, {list(view.shape)}, it must have {axes}",
            remedy="reshape it before the call",
        )


def require_rows(view: ArrayView, what: str) -> None:
    """Refuse an array called `what` whose last axis is not contiguous, with a LaunchError.

    Rows may lie at any distance, in any order, and repeat.
    """
    if view.size and view.shape and view.shape[-1] > 1 and view.strides[-1] != 1:
        raise LaunchError(
            f"the last axis of {what} is not contiguous, its stride is {view.strides[-1]} elements",
            remedy="pass a contiguous copy",
        )


def common_place(views: Mapping[str, ArrayView]) -> tuple[str, int]:
    """The one place of several arrays, as (kind, device): ("host", -1) or ("device", 0).

    `views` are by the names that the refusal uses. Raises LaunchError when they are in two places.
    """
    first, *others = views.items()
    for name, view in others:
        if (view.kind, view.device) != (first[1].kind, first[1].device):
            raise LaunchError(
                f"{first[0]} is on {_place(first[1])} and {name} is on {_place(view)}",
                remedy="move all arrays of a call to one place",
            )
    return first[1].kind, first[1].device


def stream_for(view: ArrayView) -> int:
    """The handle of the stream on which the owner of a device array queues its work.

    Cupy's current stream for cupy arrays, else torch's current one when torch uses CUDA, else the
    legacy default stream, 0.
    """
    if view.family == "cupy":
        return int(sys.modules["cupy"].cuda.get_current_stream().ptr)
    return current_stream(view.device)


def _place(view: ArrayView) -> str:
    return "the host" if view.kind == "host" else f"device {view.device}"


def _numpy_view(array: np.ndarray[Any, Any]) -> ArrayView:
    itemsize = array.itemsize
    name = _NAMES.get(array.dtype)
    if name is None or not array.dtype.isnative:
        raise _unknown_dtype(str(array.dtype))
    if any(stride % itemsize for stride in array.strides):
        raise LaunchError(
            f"an array has strides {array.strides} bytes, which are not whole elements",
            remedy="pass a contiguous copy",
        )
    strides = tuple(stride // itemsize for stride in array.strides)
    return ArrayView("host", array.ctypes.data, array.shape, strides, name, -1, "numpy", array)


def _torch_view(torch: Any, tensor: Any) -> ArrayView:
    name = str(tensor.dtype)[6:]
    if name not in _NUMPY_DTYPES:
        raise _unknown_dtype(name)
    device = tensor.device.type
    if tensor.layout is not torch.strided or device not in ("cpu", "cuda"):
        raise LaunchError(
            f"a torch tensor has layout {tensor.layout} on {device}, allowed is torch.strided on "
            "cpu or cuda",
            remedy="convert the tensor, for example with .to_dense() or .cuda()",
        )
    shape, strides = tuple(tensor.shape), tensor.stride()
    if device == "cuda":
        ordinal = tensor.get_device()
        return ArrayView(
            "device", tensor.data_ptr(), shape, strides, name, ordinal, "torch", tensor
        )
    return ArrayView("host", tensor.data_ptr(), shape, strides, name, -1, "torch", tensor)


def _dlpack_view(array: Any, stream: Any) -> ArrayView:
    kind, ordinal = (int(part) for part in array.__dlpack_device__())
    family: Literal["cupy", "dlpack"] = "dlpack"
    if type(array).__module__.partition(".")[0] == "cupy":
        family = "cupy"
    if kind in _HOST_DEVICES:
        return _strided_view(array, -1, "host", -1, family)
    if kind not in _CUDA_DEVICES:
        raise LaunchError(
            f"an array is on DLPack device type {kind}, allowed is the host or a CUDA GPU",
            remedy="copy it to one of these",
        )
    require_driver()
    if stream is not None:
        handle = stream_handle(stream)
    elif family == "cupy":
        handle = -1  # the work runs on cupy's own stream, there is nothing to wait for
    else:
        handle = current_stream(ordinal)
    return _strided_view(array, handle or _LEGACY_STREAM, "device", ordinal, family)


def _strided_view(
    array: Any,
    stream: int,
    kind: Literal["host", "device"],
    device: int,
    family: Literal["cupy", "dlpack"],
) -> ArrayView:
    # cuda.core's own views are read as they are: older ones cannot export bfloat16 by DLPack.
    own = type(array).__module__.startswith("cuda.core")
    view = array if own else _from_dlpack()(array, stream_ptr=stream)
    name = _NAMES.get(view.dtype)
    if name is None:
        raise _unknown_dtype(str(view.dtype))
    shape = tuple(view.shape)
    strides = row_major(shape) if view.strides is None else tuple(view.strides)
    return ArrayView(kind, int(view.ptr), shape, strides, name, device, family, (array, view))


def _from_dlpack() -> Callable[..., Any]:
    """cuda.core's reader of DLPack capsules; imported late because cuda.core is slow to import."""
    from cuda.core.utils import StridedMemoryView

    reader: Callable[..., Any] = StridedMemoryView.from_dlpack
    return reader


def _unknown_dtype(name: str) -> LaunchError:
    return LaunchError(
        f"an array has dtype {name}, which no kernel takes",
        remedy=f"convert it to one of {', '.join(DTYPES)}",
    )
