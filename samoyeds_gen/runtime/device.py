"""The GPU of this process: whether there is one, what it is, its primary context and its streams.

Decides what happens without a driver: every question has an answer and nothing is loaded, so that
no object of cuda.core is ever made that would hang. Failures are worded by driver.py.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from cuda.bindings import driver

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.runtime.driver import call, error_name

_Attribute = driver.CUdevice_attribute


@dataclass(frozen=True, slots=True)
class Device:
    """What a GPU is: sizes in bytes, `capability` as (major, minor), `driver` as CUDA's version.

    `shared_per_block` is what a block may use after opting in (CUDA programming guide, "Compute
    Capabilities"); `target` is the architecture whose cubins use all of its instructions.
    """

    ordinal: int
    name: str
    capability: tuple[int, int]
    target: str
    multiprocessors: int
    shared_per_block: int
    memory: int
    driver: str

    def __str__(self) -> str:
        return f"{self.name} ({self.target}, {self.multiprocessors} multiprocessors)"


def driver_present() -> bool:
    """Whether a CUDA driver with at least one device answers. Asked once; never raises."""
    return driver_problem() is None


@cache
def driver_problem() -> str | None:
    """Why no kernel can be launched here, or None when one can. Asked once; never raises."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no CUDA driver is installed (libcuda.so.1 is not found)"
    status = library.cuInit(0)
    if status != 0:
        return f"the CUDA driver does not start ({_status_name(status)})"
    count = ctypes.c_int(0)
    status = library.cuDeviceGetCount(ctypes.byref(count))
    if status != 0 or count.value == 0:
        return "the CUDA driver sees no device"
    return None


def require_driver() -> None:
    """Refuse, with a LaunchError that names the cause, to go on without a GPU."""
    if (problem := driver_problem()) is not None:
        raise LaunchError(
            f"there is no GPU to run on: {problem}",
            remedy='use device="cpu", which runs the kernel on the simulator',
        )


def device_count() -> int:
    """The number of visible GPUs; 0 without a driver."""
    if not driver_present():
        return 0
    return int(call(driver.cuDeviceGetCount, doing="counting devices"))


def current_device() -> int:
    """The ordinal of the device of this thread's current context, or 0 when it has none.

    This is also what torch.cuda.set_device and torch.cuda.device choose. LaunchError without a GPU.
    """
    require_driver()
    if int(call(driver.cuCtxGetCurrent, doing="reading the current context")) == 0:
        return 0
    return int(call(driver.cuCtxGetDevice, doing="reading the current device"))


def device_info(ordinal: int | None = None) -> Device:
    """The GPU `ordinal` (None: the current one). LaunchError when there is no such GPU."""
    return _device_info(current_device() if ordinal is None else ordinal)


@cache
def _device_info(ordinal: int) -> Device:
    require_driver()
    if not 0 <= ordinal < device_count():
        raise LaunchError(
            f"device {ordinal} does not exist, {device_count()} are visible",
            remedy="choose a smaller number or change CUDA_VISIBLE_DEVICES",
        )
    handle = call(driver.cuDeviceGet, ordinal, doing=f"opening device {ordinal}")

    def attribute(name: str) -> int:
        which = getattr(_Attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(call(driver.cuDeviceGetAttribute, which, handle, doing=f"reading {name}"))

    capability = attribute("COMPUTE_CAPABILITY_MAJOR"), attribute("COMPUTE_CAPABILITY_MINOR")
    name = call(driver.cuDeviceGetName, 128, handle, doing="reading the device's name")
    version = int(call(driver.cuDriverGetVersion, doing="reading the driver's version"))
    return Device(
        ordinal=ordinal,
        name=name.split(b"\0")[0].decode(),
        capability=capability,
        target=target_of(capability),
        multiprocessors=attribute("MULTIPROCESSOR_COUNT"),
        shared_per_block=attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"),
        memory=int(call(driver.cuDeviceTotalMem, handle, doing="reading the memory size")),
        driver=f"{version // 1000}.{version % 1000 // 10}",
    )


def device_target(ordinal: int | None = None) -> str | None:
    """The architecture to compile for on GPU `ordinal` (None: the current one); None without one.

    "sm_90a" for compute capability 9.0, and likewise from there on, because only the "a" targets
    have the matrix instructions of their generation; plain "sm_80", "sm_86", "sm_89" before.
    """
    return device_info(ordinal).target if driver_present() else None


def target_of(capability: tuple[int, int]) -> str:
    """The architecture that uses all instructions of a compute capability (major, minor)."""
    major, minor = capability
    return f"sm_{major}{minor}{'a' if major >= 9 else ''}"


def runs_on(target: str, capability: tuple[int, int]) -> bool:
    """Whether a cubin for `target` loads on a device of that compute capability.

    A plain cubin runs on its own major version from its minor version on, and so does an "f" one;
    an "a" cubin on exactly its capability (CUDA C++ programming guide, "Binary Compatibility").
    """
    number = int(target.removeprefix("sm_").rstrip("af"))
    major, minor = divmod(number, 10)
    if target.endswith("a"):
        return (major, minor) == capability
    return major == capability[0] and minor <= capability[1]


@cache
def primary_context(ordinal: int) -> driver.CUcontext:
    """The primary context of a device, which torch and the CUDA runtime use too; kept for good."""
    _device_info(ordinal)
    handle = call(driver.cuDeviceGet, ordinal, doing=f"opening device {ordinal}")
    return call(driver.cuDevicePrimaryCtxRetain, handle, doing=f"opening device {ordinal}")


@contextmanager
def context(ordinal: int) -> Iterator[None]:
    """Make the primary context of a device current inside the with-block.

    A thread that had no current context keeps this one, as after a call of the CUDA runtime.
    """
    wanted = primary_context(ordinal)
    current = int(call(driver.cuCtxGetCurrent, doing="reading the current context"))
    if current == 0:
        call(driver.cuCtxSetCurrent, wanted, doing="choosing the device")
    if current in (0, int(wanted)):
        yield
        return
    call(driver.cuCtxPushCurrent, wanted, doing="choosing the device")
    try:
        yield
    finally:
        call(driver.cuCtxPopCurrent, doing="returning to the previous device")


def stream_handle(stream: Any) -> int:
    """The driver's handle of a stream: an int, a torch or cupy stream, or `__cuda_stream__`.

    None is the legacy default stream, 0. LaunchError for anything else.
    """
    if type(stream) is int:
        return stream
    if stream is None:
        return 0
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        version, handle = protocol() if callable(protocol) else protocol
        if version == 0:
            return int(handle)
    for attribute in ("cuda_stream", "ptr"):
        if isinstance(handle := getattr(stream, attribute, None), int):
            return handle
    try:
        return int(stream)
    except (TypeError, ValueError):
        raise LaunchError(
            f"a value of type {type(stream).__name__} is not a CUDA stream",
            remedy="pass an int handle, a torch stream or an object with __cuda_stream__",
        ) from None


def current_stream(ordinal: int) -> int:
    """The handle of the stream on which the caller's work on a device is queued.

    Torch's current stream when torch is loaded and uses CUDA, else the legacy default stream, 0.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    raw = getattr(torch._C, "_cuda_getCurrentRawStream", None)
    if raw is not None:
        return int(raw(ordinal))
    return int(torch.cuda.current_stream(ordinal).cuda_stream)


def capturing(stream: Any, ordinal: int) -> bool:
    """Whether work queued on a stream of a device goes into a graph that is being captured."""
    with context(ordinal):
        handle = stream_handle(stream)
        status = call(driver.cuStreamIsCapturing, handle, doing="asking for a capture")
    return bool(status != driver.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_NONE)


def synchronise(stream: Any = None) -> None:
    """Wait for all work of a stream; LaunchError without a GPU or when a kernel on it failed.

    None is the legacy default stream of this thread's context, of device 0 when it has none.
    """
    require_driver()
    if int(call(driver.cuCtxGetCurrent, doing="reading the current context")) == 0:
        with context(0):
            pass
    call(driver.cuStreamSynchronize, stream_handle(stream), doing="waiting for the stream")


def _status_name(status: int) -> str:
    try:
        return error_name(status)
    except ValueError:
        return f"error {status}"
