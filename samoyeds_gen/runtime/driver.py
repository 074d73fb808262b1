"""Calls of the CUDA driver, with a failure turned into its name and a sentence.

Decides the words. The device, contexts and streams are device.py's.
"""

from collections.abc import Callable
from typing import Any

from cuda.bindings import driver

from samoyeds_gen.errors import LaunchError

_SUCCESS = driver.CUresult.CUDA_SUCCESS
_BROKEN = (
    "a kernel that ran earlier broke this process's CUDA context, every later call fails",
    "find that kernel with compute-sanitizer, then start a new process",
)
_EXPLAINED: dict[str, tuple[str, str]] = {
    "CUDA_ERROR_INVALID_VALUE": (
        "an argument of the call is outside the range that the device allows",
        "compare grid, threads and shared memory with the limits of the device",
    ),
    "CUDA_ERROR_OUT_OF_MEMORY": (
        "the device has not enough free memory",
        "free other tensors or use a smaller problem",
    ),
    "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES": (
        "a block needs more registers or shared memory than a multiprocessor has",
        "launch fewer threads per block or less shared memory",
    ),
    "CUDA_ERROR_NO_BINARY_FOR_GPU": (
        "the cubin was compiled for another architecture",
        "compile for the device: target=device_target()",
    ),
    "CUDA_ERROR_INVALID_HANDLE": (
        "a stream, kernel or context handle is not valid in this context",
        "pass a stream of the device on which the arrays are",
    ),
    "CUDA_ERROR_INVALID_CONTEXT": (
        "no usable context is current in this thread",
        "run the call in a thread whose context was not destroyed",
    ),
    "CUDA_ERROR_NOT_FOUND": (
        "the cubin has no kernel of that name",
        'declare the kernel as extern "C" __global__ under that name',
    ),
    "CUDA_ERROR_INVALID_CLUSTER_SIZE": (
        "clusters of this shape cannot be resident together",
        "use at most 8 blocks per cluster, and a grid that the cluster divides",
    ),
    "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED": (
        "the call is not allowed while a stream is being captured into a graph",
        "make this call once before the capture begins",
    ),
    "CUDA_ERROR_ILLEGAL_ADDRESS": _BROKEN,
    "CUDA_ERROR_MISALIGNED_ADDRESS": _BROKEN,
    "CUDA_ERROR_ILLEGAL_INSTRUCTION": _BROKEN,
    "CUDA_ERROR_LAUNCH_FAILED": _BROKEN,
    "CUDA_ERROR_LAUNCH_TIMEOUT": _BROKEN,
    "CUDA_ERROR_ASSERT": _BROKEN,
}


def call(function: Callable[..., Any], *arguments: object, doing: str) -> Any:
    """Call a function of cuda.bindings.driver and return its results without the status.

    One result comes bare, several as a tuple, none as None. `doing` completes the sentence
    "... failed with CUDA_ERROR_X" of the LaunchError that a failure raises.
    """
    status, *results = function(*arguments)
    if status != _SUCCESS:
        raise refusal(status, doing)
    return (results[0] if results else None) if len(results) < 2 else tuple(results)


def refusal(status: driver.CUresult, doing: str) -> LaunchError:
    """The LaunchError for a failed call: the driver's error name, what it means, what to do."""
    name = error_name(status)
    if (explained := _EXPLAINED.get(name)) is None:
        explained = (_driver_text(status), "look this error up in the CUDA driver API")
    sentence, remedy = explained
    return LaunchError(f"{doing} failed with {name}: {sentence}", remedy=remedy)


def error_name(status: driver.CUresult) -> str:
    """The driver's name of a status, such as "CUDA_ERROR_INVALID_VALUE"; needs no driver."""
    return str(driver.CUresult(status).name)


def _driver_text(status: driver.CUresult) -> str:
    found, text = driver.cuGetErrorString(status)
    return text.decode() if found == _SUCCESS and text else "no description"
