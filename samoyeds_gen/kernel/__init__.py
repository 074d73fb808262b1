"""The callable kernel: arguments checked, weights packed and cached, simulator or GPU chosen."""

from samoyeds_gen.kernel.arguments import Call, describe_call
from samoyeds_gen.kernel.choice import Choice, given
from samoyeds_gen.kernel.experts import ExpertsCall, RowsCall
from samoyeds_gen.kernel.grouped import GroupedKernel, compile_grouped, grouped_kernel
from samoyeds_gen.kernel.kernel import (
    Device,
    Kernel,
    Variant,
    build_variant,
    choose_target,
    compile,
)
from samoyeds_gen.kernel.packing import share_packings, streamed_bytes
from samoyeds_gen.kernel.routing import RoutingKernel, combine, compile_routing
from samoyeds_gen.kernel.simulated import WORK_LIMIT

__all__ = [
    "WORK_LIMIT",
    "Call",
    "Choice",
    "Device",
    "ExpertsCall",
    "GroupedKernel",
    "Kernel",
    "RoutingKernel",
    "RowsCall",
    "Variant",
    "build_variant",
    "choose_target",
    "combine",
    "compile",
    "compile_grouped",
    "compile_routing",
    "describe_call",
    "given",
    "grouped_kernel",
    "share_packings",
    "streamed_bytes",
]
