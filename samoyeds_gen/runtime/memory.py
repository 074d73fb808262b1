"""Device memory for arrays: outputs of the caller's family, and host arrays staged to the GPU.

Decides what a call returns for what it was given. Reading arrays is arrays.py's.
"""

import sys
import weakref
from typing import Any

import numpy as np
from cuda.bindings import driver

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.runtime.arrays import ArrayView, describe, numpy_dtype, row_major
from samoyeds_gen.runtime.device import context, device_info, stream_handle, synchronise
from samoyeds_gen.runtime.driver import call


class DeviceBuffer:
    """`nbytes` bytes on GPU `device` at address `pointer`, freed with the last reference.

    Raises LaunchError without a GPU or when its memory does not suffice.
    """

    __slots__ = ("__weakref__", "_finalizer", "device", "nbytes", "pointer")

    def __init__(self, nbytes: int, device: int) -> None:
        self.nbytes = nbytes
        self.device = device
        with context(device):
            doing = f"allocating {nbytes} bytes on {device_info(device)}"
            self.pointer = int(call(driver.cuMemAlloc, max(nbytes, 1), doing=doing))
        self._finalizer = weakref.finalize(self, _free, self.pointer, device)
        self._finalizer.atexit = False  # the driver frees everything when the process ends

    def free(self) -> None:
        """Give the memory back now; waits for the work that uses it."""
        self._finalizer()


def zeroed(nbytes: int, device: int) -> DeviceBuffer:
    """A buffer of zeros, complete on return. Raises LaunchError as DeviceBuffer."""
    buffer = DeviceBuffer(nbytes, device)
    with context(device):
        doing = f"clearing {nbytes} bytes on {device_info(device)}"
        call(driver.cuMemsetD8Async, buffer.pointer, 0, nbytes, 0, doing=doing)
        synchronise()
    return buffer


def stage(array: Any, device: int, *, stream: Any = None) -> ArrayView:
    """Copy a host array (numpy, torch CPU, DLPack) to GPU `device`, in C order.

    Returns a device view of the same family with the same shape, which owns its memory. The copy
    is made in the order of `stream` (None: the legacy default stream) and is complete on return.
    Raises LaunchError without a GPU or when its memory does not suffice.
    """
    view = describe(array)
    if view.kind == "device":
        raise LaunchError(f"an array is already on device {view.device}", remedy="pass it as it is")
    packed = np.ascontiguousarray(host_array(view))
    staged = _allocate(view.shape, view.dtype, device, view.family)
    if packed.nbytes:
        with context(device):
            call(
                driver.cuMemcpyHtoDAsync,
                staged.pointer,
                packed.ctypes.data,
                packed.nbytes,
                stream_handle(stream),
                doing=f"copying {packed.nbytes} bytes to device {device}",
            )
            synchronise(stream)  # the caller may change pinned memory as soon as this returns
    return staged


def pad_rows(view: ArrayView, multiple: int, *, stream: Any = None) -> ArrayView:
    """A copy of a device array [rows, columns] whose rows are padded with zeros, on its GPU.

    Row lengths and strides of the copy are whole multiples of `multiple` elements; the view keeps
    the shape. Queued on `stream`. Raises LaunchError when the memory does not suffice.
    """
    rows, columns = view.shape
    width = -(-columns // multiple) * multiple
    padded = _allocate((rows, width), view.dtype, view.device, view.family)
    queue = stream_handle(stream)
    doing = f"padding the rows of {view}"
    with context(view.device):
        nbytes = rows * width * view.itemsize
        call(driver.cuMemsetD8Async, padded.pointer, 0, nbytes, queue, doing=doing)
        copy = driver.CUDA_MEMCPY2D()
        copy.srcMemoryType = copy.dstMemoryType = driver.CUmemorytype.CU_MEMORYTYPE_DEVICE
        copy.srcDevice, copy.srcPitch = view.pointer, view.strides[0] * view.itemsize
        copy.dstDevice, copy.dstPitch = padded.pointer, width * view.itemsize
        copy.WidthInBytes, copy.Height = columns * view.itemsize, rows
        call(driver.cuMemcpy2DAsync, copy, queue, doing=doing)
    return padded._replace(shape=view.shape)


def fetch(
    view: ArrayView,
    *,
    into: ArrayView | None = None,
    stream: Any = None,
) -> np.ndarray[Any, Any]:
    """Copy a C-ordered device array to the host, after all work queued on `stream`.

    The result is a new numpy array, or `into`, a C-ordered host view of the same shape and dtype,
    as a numpy array over its memory. Raises LaunchError when a kernel on that stream failed, or
    when one of the arrays has gaps or they differ.
    """
    if into is None:
        into = describe(np.empty(view.shape, numpy_dtype(view.dtype)))
    result = host_array(into)
    if (into.shape, into.dtype) != (view.shape, view.dtype) or not (
        view.contiguous and into.contiguous
    ):
        raise LaunchError(
            f"{view} cannot be copied into {into}",
            remedy="give two C-ordered arrays of one shape and dtype",
        )
    with context(view.device):
        if result.nbytes:
            call(
                driver.cuMemcpyDtoHAsync,
                into.pointer,
                view.pointer,
                result.nbytes,
                stream_handle(stream),
                doing=f"copying {result.nbytes} bytes from device {view.device}",
            )
        synchronise(stream)
    return result


def host_array(view: ArrayView) -> np.ndarray[Any, Any]:
    """A host view as a numpy array over the same memory, with its strides, bfloat16 included."""
    if view.kind != "host":
        raise LaunchError(f"{view} is not on the host", remedy="use fetch")
    if view.family == "numpy":
        owner: np.ndarray[Any, Any] = view.owner
        return owner
    if view.size == 0:
        return np.empty(view.shape, numpy_dtype(view.dtype))
    return np.asarray(_HostMemory(view)).view(numpy_dtype(view.dtype))


def allocate(
    shape: tuple[int, ...],
    dtype: str,
    *,
    like: ArrayView,
    stream: Any = None,
) -> tuple[Any, ArrayView]:
    """A new uninitialised C-ordered array of the family and place of `like`, and its view.

    numpy gives numpy; torch gives torch on the same device; cupy gives cupy; another DLPack array
    on a GPU gives a torch tensor when torch uses CUDA, else a `cuda.core` StridedMemoryView, both
    of which export DLPack; on the host it gives numpy. A staged numpy array (kind "device") gives
    a view that is its own array, to be read by `fetch`. Cupy arrays and StridedMemoryViews are
    allocated in the order of `stream`.
    """
    torch = sys.modules.get("torch")
    if like.family == "torch" and not isinstance(like.owner, DeviceBuffer):
        assert torch is not None
        tensor = torch.empty(shape, dtype=getattr(torch, dtype), device=like.owner.device)
        return tensor, describe(tensor)
    if like.kind == "host":
        array = np.empty(shape, numpy_dtype(dtype))
        return array, describe(array)
    if isinstance(like.owner, DeviceBuffer):
        view = _allocate(shape, dtype, like.device, like.family)
        return view, view
    if like.family == "cupy" and dtype != "bfloat16":
        with context(like.device):
            array = sys.modules["cupy"].empty(shape, dtype=dtype)
        return array, describe(array)
    if torch is not None and torch.cuda.is_available():
        tensor = torch.empty(shape, dtype=getattr(torch, dtype), device=f"cuda:{like.device}")
        return tensor, describe(tensor)
    return _core_array(shape, dtype, like, stream_handle(stream))


class _HostMemory:
    """Host memory of another library through numpy's array interface, as unsigned integers."""

    def __init__(self, view: ArrayView) -> None:
        self.owner = view.owner
        itemsize = view.itemsize
        self.__array_interface__ = {
            "version": 3,
            "shape": view.shape,
            "strides": tuple(stride * itemsize for stride in view.strides),
            "typestr": f"<u{itemsize}",
            "data": (view.pointer, False),
        }


def _allocate(shape: tuple[int, ...], dtype: str, device: int, family: Any) -> ArrayView:
    nbytes = int(np.prod(shape, dtype=np.int64)) * numpy_dtype(dtype).itemsize
    buffer = DeviceBuffer(nbytes, device)
    return ArrayView(
        "device", buffer.pointer, shape, row_major(shape), dtype, device, family, buffer
    )


def _core_array(
    shape: tuple[int, ...], dtype: str, like: ArrayView, stream: int
) -> tuple[Any, ArrayView]:
    """An array of cuda.core, for a caller who has neither torch nor cupy."""
    from cuda.core import Device, Stream
    from cuda.core.utils import StridedMemoryView

    with context(like.device):
        device = Device(like.device)
        device.set_current()
        nbytes = int(np.prod(shape, dtype=np.int64)) * numpy_dtype(dtype).itemsize
        queue = Stream.from_handle(stream) if stream else device.default_stream
        buffer = device.allocate(max(nbytes, 1), stream=queue)
    array = StridedMemoryView.from_buffer(buffer, shape, dtype=numpy_dtype(dtype))
    view = ArrayView(
        "device", int(buffer.handle), shape, row_major(shape), dtype, like.device, "dlpack", array
    )
    return array, view


def _free(pointer: int, device: int) -> None:
    """Return memory to the driver; an error here belongs to an earlier kernel, which reports it."""
    with context(device):
        driver.cuMemFree(pointer)
