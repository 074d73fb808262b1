"""samoyeds-gen: a code-generation compiler for structured-sparse GPU kernels."""

from importlib import import_module
from typing import Any

from samoyeds_gen import reference
from samoyeds_gen.errors import (
    CheckError,
    CompileError,
    FormatError,
    LaunchError,
    ModelError,
    SamoyedsError,
    ScheduleError,
    TuneError,
)
from samoyeds_gen.formats import Format, SparseWeight, encode, load
from samoyeds_gen.kernel import Choice, GroupedKernel, Kernel, compile_grouped
from samoyeds_gen.language import Schedule
from samoyeds_gen.tune import AutoKernel, compile

__version__ = "0.1.0"

__all__ = [
    "AutoKernel",
    "CheckError",
    "Choice",
    "CompileError",
    "Format",
    "FormatError",
    "GroupedKernel",
    "Kernel",
    "LaunchError",
    "ModelError",
    "SamoyedsError",
    "Schedule",
    "ScheduleError",
    "SparseWeight",
    "TuneError",
    "compile",
    "compile_grouped",
    "encode",
    "load",
    "reference",
]


def __getattr__(name: str) -> Any:
    """`samoyeds_gen.moe`, which needs torch, when it is first asked for."""
    if name == "moe":
        return import_module("samoyeds_gen.moe")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
