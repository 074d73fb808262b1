"""Everything between an emitted .cu file and a kernel that runs: compile, cache, report, launch.

Compiling, caching, reading reports and disassembling need no driver; launching does.
"""

from samoyeds_gen.runtime.arrays import (
    ArrayView,
    common_place,
    describe,
    require_axes,
    require_dtype,
    require_rows,
    stream_for,
)
from samoyeds_gen.runtime.build import (
    DEFAULT,
    Build,
    Source,
    compile_many,
    compile_source,
    forget_builds,
)
from samoyeds_gen.runtime.cache import Cache, Entry, default_directory
from samoyeds_gen.runtime.device import (
    Device,
    capturing,
    current_device,
    current_stream,
    device_count,
    device_info,
    device_target,
    driver_present,
    driver_problem,
    require_driver,
    runs_on,
    stream_handle,
    synchronise,
)
from samoyeds_gen.runtime.disassembly import disassemble
from samoyeds_gen.runtime.graph import LaunchGraph
from samoyeds_gen.runtime.launch import LoadedKernel, PreparedSequence, load
from samoyeds_gen.runtime.memory import (
    DeviceBuffer,
    allocate,
    fetch,
    host_array,
    pad_rows,
    stage,
    zeroed,
)
from samoyeds_gen.runtime.nvrtc import nvrtc_version
from samoyeds_gen.runtime.report import ResourceReport, parse_log, require_clean
from samoyeds_gen.runtime.tensor_maps import tensor_map

__all__ = [
    "DEFAULT",
    "ArrayView",
    "Build",
    "Cache",
    "Device",
    "DeviceBuffer",
    "Entry",
    "LaunchGraph",
    "LoadedKernel",
    "PreparedSequence",
    "ResourceReport",
    "Source",
    "allocate",
    "capturing",
    "common_place",
    "compile_many",
    "compile_source",
    "current_device",
    "current_stream",
    "default_directory",
    "describe",
    "device_count",
    "device_info",
    "device_target",
    "disassemble",
    "driver_present",
    "driver_problem",
    "fetch",
    "forget_builds",
    "host_array",
    "load",
    "nvrtc_version",
    "pad_rows",
    "parse_log",
    "require_axes",
    "require_clean",
    "require_driver",
    "require_dtype",
    "require_rows",
    "runs_on",
    "stage",
    "stream_for",
    "stream_handle",
    "synchronise",
    "tensor_map",
    "zeroed",
]
