"""samoyeds-gen: a code-generation compiler for structured-sparse GPU kernels."""

from samoyeds_gen import reference
from samoyeds_gen.errors import (
    CheckError,
    CompileError,
    FormatError,
    LaunchError,
    SamoyedsError,
    ScheduleError,
)
from samoyeds_gen.formats import Format, SparseWeight, encode, load
from samoyeds_gen.kernel import Kernel, compile
from samoyeds_gen.language import Schedule

__version__ = "0.1.0"

__all__ = [
    "CheckError",
    "CompileError",
    "Format",
    "FormatError",
    "Kernel",
    "LaunchError",
    "SamoyedsError",
    "Schedule",
    "ScheduleError",
    "SparseWeight",
    "compile",
    "encode",
    "load",
    "reference",
]
