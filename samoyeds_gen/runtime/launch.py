"""A cubin on the device and the launch of its kernel.

Decides everything that can be decided at load, so that a repeated launch packs its arguments and
calls the driver. Array checks belong to arrays.py, choosing grids to whoever planned the kernel.
"""

import threading
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from cuda.bindings import driver

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.runtime.build import Build
from samoyeds_gen.runtime.device import (
    Device,
    context,
    current_device,
    device_info,
    primary_context,
    require_driver,
    runs_on,
    stream_handle,
)
from samoyeds_gen.runtime.driver import call, refusal
from samoyeds_gen.runtime.memo import MEMO
from samoyeds_gen.runtime.signature import Arguments, Signature, read_signature

Extent = int | tuple[int, ...]
"""A number of blocks or threads: x, or up to three of (x, y, z)."""

_Function = driver.CUfunction_attribute
_Attribute = driver.CUlaunchAttributeID
_AWAITS_LAUNCH = "griddepcontrol.wait"  # in the PTX of a kernel that may begin early
_SUCCESS = driver.CUresult.CUDA_SUCCESS
_GRID_LIMITS = (2**31 - 1, 65535, 65535)  # CUDA C++ programming guide, "Compute Capabilities"
_WITHOUT_OPT_IN = 48 * 1024
_PORTABLE_CLUSTER = 8


def load(
    build: Build,
    entry: str,
    *,
    shared_bytes: int = 0,
    device: int | None = None,
    cluster: tuple[int, int, int] = (1, 1, 1),
) -> "LoadedKernel":
    """Load the kernel `entry` of a build onto a GPU (None: the current one), once per process.

    `shared_bytes` is the dynamic shared memory of every launch; above 48 KB the kernel opts in
    here. `cluster` is in blocks per axis.
    Raises LaunchError without a GPU, when the build is for another architecture, when the source
    has no such kernel, or when the block needs more shared memory than the device has.
    """
    require_driver()
    ordinal = current_device() if device is None else device
    key = (build.key, entry, shared_bytes, ordinal, cluster)
    kernel: LoadedKernel | None = MEMO.kernels.get(key)
    if kernel is None:
        kernel = _load(build, entry, shared_bytes, device_info(ordinal), cluster)
        MEMO.kernels.put(key, kernel)
    return kernel


class LoadedKernel:
    """A kernel on one device, ready to launch from any thread; made by `load`.

    `max_threads` per block follows from its launch bounds and registers; `static_shared` and
    `shared_bytes` (dynamic) are bytes per block; `signature` lists the parameters. A `dependent`
    kernel waits for the launch before it by itself, so that it may begin while that one ends.
    """

    __slots__ = (
        "_context",
        "_frames",
        "_function",
        "_library",
        "cluster",
        "dependent",
        "device",
        "max_threads",
        "shared_bytes",
        "signature",
        "static_shared",
    )

    def __init__(
        self,
        library: driver.CUlibrary,
        kernel: driver.CUkernel,
        signature: Signature,
        device: Device,
        shared_bytes: int,
        cluster: tuple[int, int, int],
        *,
        dependent: bool,
    ) -> None:
        self._library = library
        self._context = int(primary_context(device.ordinal))
        self._function = call(driver.cuKernelGetFunction, kernel, doing="loading the kernel")
        self._frames = threading.local()
        self.signature = signature
        self.device = device
        self.shared_bytes = shared_bytes
        self.cluster = cluster
        self.dependent = dependent
        self.max_threads = self._attribute(_Function.CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)
        self.static_shared = self._attribute(_Function.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)

    @property
    def entry(self) -> str:
        """The kernel's symbol."""
        return self.signature.entry

    def launch(
        self,
        grid: Extent,
        threads: Extent,
        arguments: Sequence[Any],
        stream: Any = None,
    ) -> None:
        """Queue one launch of `grid` blocks of `threads` threads and return at once.

        `grid` counts blocks, also with clusters. `arguments` are in parameter order: pointers as
        ints or ArrayViews, numbers as Python or numpy scalars, structures (tensor maps) as bytes
        or CUtensorMap. `stream` is an int handle, a torch or cupy stream, an object with
        `__cuda_stream__`, or None for the legacy default stream; it must be of `device`.
        Raises LaunchError for arguments that do not fit, for extents that the kernel or device
        does not allow, and with the driver's error name for anything that the driver refuses.
        """
        try:
            frame: _Frame = self._frames.frame
        except AttributeError:
            frame = self._frames.frame = _Frame(self)
        if frame.extents != (grid, threads):
            frame.resize(self, grid, threads)
        frame.arguments.pack(arguments)
        self.queue(frame, stream if type(stream) is int else stream_handle(stream))

    def queue(self, frame: "_Frame", stream: int) -> None:
        """Hand a packed frame to the driver; LaunchError with its error name when it refuses."""
        config = frame.config
        config.hStream = stream
        if int(driver.cuCtxGetCurrent()[1]) == self._context:
            (status,) = driver.cuLaunchKernelEx(config, self._function, frame.arguments.pointers, 0)
        else:
            with context(self.device.ordinal):
                (status,) = driver.cuLaunchKernelEx(
                    config, self._function, frame.arguments.pointers, 0
                )
        if status != _SUCCESS:
            raise refusal(status, self._doing(*(frame.extents or (0, 0))))

    def prepare(self, grid: Extent, threads: Extent, arguments: Sequence[Any]) -> "PreparedLaunch":
        """The launch of these extents and arguments, packed once to be queued again and again.

        Raises LaunchError as `launch`. Use it from one thread at a time.
        """
        frame = _Frame(self)
        frame.resize(self, grid, threads)
        frame.arguments.pack(arguments)
        return PreparedLaunch(self, frame)

    def blocks_per_multiprocessor(self, threads: int) -> int:
        """How many blocks of `threads` threads are resident on one multiprocessor together."""
        with context(self.device.ordinal):
            return int(
                call(
                    driver.cuOccupancyMaxActiveBlocksPerMultiprocessor,
                    self._function,
                    threads,
                    self.shared_bytes,
                    doing=f"asking for the occupancy of kernel {self.entry}",
                )
            )

    def __repr__(self) -> str:
        return f"LoadedKernel({self.entry} on device {self.device.ordinal}, {self.device})"

    def _attribute(self, which: driver.CUfunction_attribute) -> int:
        doing = "reading a kernel attribute"
        return int(call(driver.cuFuncGetAttribute, which, self._function, doing=doing))

    def _doing(self, grid: Extent, threads: Extent) -> str:
        return (
            f"launching kernel {self.entry} with grid {_three(grid)}, threads {_three(threads)} "
            f"and {self.shared_bytes} bytes of dynamic shared memory on {self.device}"
        )


class PreparedLaunch:
    """A launch whose arguments are packed; made by `LoadedKernel.prepare`."""

    __slots__ = ("_frame", "_kernel")

    def __init__(self, kernel: LoadedKernel, frame: "_Frame") -> None:
        self._kernel = kernel
        self._frame = frame

    def __call__(self, position: int, address: int, stream: int) -> None:
        """Queue it on `stream` with the pointer argument at `position` replaced by `address`."""
        kernel, frame = self._kernel, self._frame
        frame.arguments.replace_pointer(position, address)
        kernel.queue(frame, stream)


class PreparedSequence:
    """Several prepared launches of one device that are queued one behind the other."""

    __slots__ = ("_calls", "_context", "_device", "_frames", "_kernels", "_stream")

    def __init__(self, launches: Sequence[PreparedLaunch]) -> None:
        self._kernels = [each._kernel for each in launches]
        self._frames = [each._frame for each in launches]
        self._device = self._kernels[0].device.ordinal
        self._context = self._kernels[0]._context
        self._calls = [
            (frame.config, kernel._function, frame.arguments.pointers)
            for kernel, frame in zip(self._kernels, self._frames, strict=True)
        ]
        self._stream = -1

    @property
    def device(self) -> int:
        """The ordinal of the launches' device."""
        return self._device

    @property
    def at_home(self) -> bool:
        """Whether the current context is that of the launches."""
        return int(driver.cuCtxGetCurrent()[1]) == self._context

    def replacer(self, launch: int, position: int) -> Callable[[int], None]:
        """What overwrites a pointer argument of a launch with an address."""
        return self._frames[launch].arguments.replacer(position)

    def __call__(self, stream: int) -> None:
        """Queue all on `stream`. Raises LaunchError when the driver refuses one."""
        if stream != self._stream:
            for config, _, _ in self._calls:
                config.hStream = stream
            self._stream = stream
        if self.at_home:
            self._queue()
        else:
            with context(self._device):
                self._queue()

    def _queue(self) -> None:
        for position, (config, function, pointers) in enumerate(self._calls):
            (status,) = driver.cuLaunchKernelEx(config, function, pointers, 0)
            if status != _SUCCESS:
                kernel, frame = self._kernels[position], self._frames[position]
                raise refusal(status, kernel._doing(*(frame.extents or (0, 0))))


class _Frame:
    """What one thread reuses between launches of one kernel: packed arguments and launch config."""

    __slots__ = ("arguments", "config", "extents")

    def __init__(self, kernel: LoadedKernel) -> None:
        self.arguments = Arguments(kernel.signature)
        self.extents: tuple[Extent, Extent] | None = None
        self.config = driver.CUlaunchConfig()
        self.config.sharedMemBytes = kernel.shared_bytes
        attributes = []
        if kernel.cluster != (1, 1, 1):
            value = driver.CUlaunchAttributeValue()
            value.clusterDim.x, value.clusterDim.y, value.clusterDim.z = kernel.cluster
            attributes.append(_attribute(_Attribute.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, value))
        if kernel.dependent:
            value = driver.CUlaunchAttributeValue()
            value.programmaticStreamSerializationAllowed = 1
            kind = _Attribute.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
            attributes.append(_attribute(kind, value))
        if attributes:
            self.config.attrs = attributes
            self.config.numAttrs = len(attributes)

    def resize(self, kernel: LoadedKernel, grid: Extent, threads: Extent) -> None:
        blocks, lanes = _three(grid), _three(threads)
        _require_extents(kernel, blocks, lanes)
        config = self.config
        config.gridDimX, config.gridDimY, config.gridDimZ = blocks
        config.blockDimX, config.blockDimY, config.blockDimZ = lanes
        self.extents = (grid, threads)


def _attribute(
    kind: driver.CUlaunchAttributeID, value: driver.CUlaunchAttributeValue
) -> driver.CUlaunchAttribute:
    attribute = driver.CUlaunchAttribute()
    attribute.id, attribute.value = kind, value
    return attribute


def _load(
    build: Build, entry: str, shared_bytes: int, device: Device, cluster: tuple[int, int, int]
) -> LoadedKernel:
    signature = read_signature(build.ptx, entry)
    if not runs_on(build.target, device.capability):
        raise LaunchError(
            f"kernel {entry} is compiled for {build.target}, device {device.ordinal} is a {device}",
            remedy=f"compile it with target={device.target!r}",
        )
    with context(device.ordinal):
        library = call(
            driver.cuLibraryLoadData, build.cubin, [], [], 0, [], [], 0, doing=f"loading {build}"
        )
        kernel = call(
            driver.cuLibraryGetKernel, library, entry.encode(), doing=f"looking up kernel {entry}"
        )
        dependent = _AWAITS_LAUNCH in build.ptx
        loaded = LoadedKernel(
            library, kernel, signature, device, shared_bytes, cluster, dependent=dependent
        )
        _opt_in(loaded, kernel)
    return loaded


def _opt_in(loaded: LoadedKernel, kernel: driver.CUkernel) -> None:
    """Allow what launches get only on request: much shared memory, clusters above 8 blocks."""
    device, total = loaded.device, loaded.static_shared + loaded.shared_bytes
    if total > device.shared_per_block:
        raise LaunchError(
            f"kernel {loaded.entry} needs {total} bytes of shared memory per block, "
            f"{device} has {device.shared_per_block}",
            remedy="use a smaller tile or fewer stages",
        )
    requests = []
    if total > _WITHOUT_OPT_IN:
        size = _Function.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        requests.append((size, loaded.shared_bytes))
    if prod(loaded.cluster) > _PORTABLE_CLUSTER:
        allowed = _Function.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
        requests.append((allowed, 1))
    for attribute, value in requests:
        handle = call(driver.cuDeviceGet, device.ordinal, doing="opening the device")
        call(
            driver.cuKernelSetAttribute,
            attribute,
            value,
            kernel,
            handle,
            doing=f"setting {attribute.name} of kernel {loaded.entry} to {value}",
        )


def _require_extents(
    kernel: LoadedKernel, blocks: tuple[int, int, int], lanes: tuple[int, int, int]
) -> None:
    for axis, (count, limit) in enumerate(zip(blocks, _GRID_LIMITS, strict=True)):
        if not 1 <= count <= limit:
            raise LaunchError(
                f"grid {blocks} of kernel {kernel.entry} has {count} blocks along "
                f"{'xyz'[axis]}, a grid has 1 to {limit}",
                remedy="skip empty problems, and put the longest axis on x",
            )
        if count % kernel.cluster[axis]:
            raise LaunchError(
                f"grid {blocks} of kernel {kernel.entry} is not whole clusters of {kernel.cluster}",
                remedy="round the grid up to whole clusters",
            )
    if min(lanes) < 1 or prod(lanes) > kernel.max_threads:
        raise LaunchError(
            f"kernel {kernel.entry} runs 1 to {kernel.max_threads} threads per block, "
            f"{' x '.join(map(str, lanes))} are given",
            remedy="launch the thread count that its plan names",
        )


def _three(extent: Extent) -> tuple[int, int, int]:
    """An extent as (x, y, z)."""
    values = (extent,) if isinstance(extent, int) else tuple(int(value) for value in extent)
    if not 1 <= len(values) <= 3:
        raise LaunchError(
            f"a grid or block has 1 to 3 axes, {len(values)} are given",
            remedy="pass x, (x, y) or (x, y, z)",
        )
    x, y, z = (*values, 1, 1)[:3]
    return x, y, z
