"""The grouped callable: the experts of a Mixture-of-Experts layer, all in one launch.

One concrete kernel, unlike `Kernel`: a layer decides its options once and calls it often.
"""

from collections.abc import Callable
from typing import Any, Literal

from samoyeds_gen.compiler import MAX_EXPERTS
from samoyeds_gen.errors import LaunchError
from samoyeds_gen.formats import Format, SparseWeight
from samoyeds_gen.kernel.arguments import Call, describe_call, describe_experts
from samoyeds_gen.kernel.combination import combine
from samoyeds_gen.kernel.kernel import Device as DeviceChoice
from samoyeds_gen.kernel.kernel import Variant, as_family, build_variant, choose_target, runs_on_gpu
from samoyeds_gen.kernel.repeat import Repeat
from samoyeds_gen.kernel.simulated import require_simulable, simulate
from samoyeds_gen.language import (
    Schedule,
    ScheduleSource,
    Ssmm,
    Target,
    load_schedule,
    make_ssmm,
)
from samoyeds_gen.runtime import current_device
from samoyeds_gen.simulator import Report


class GroupedKernel:
    """`kernel(w, tokens, offsets, selection)`: out[i] = scale[i] * act(w_e @ tokens[selection[i]]).

    Made by `compile_grouped`. e is the expert with offsets[e] <= i < offsets[e + 1].
    """

    def __init__(self, variant: Variant, problem: Ssmm) -> None:
        self.variant = variant
        self.problem = problem
        self.gathers_before = problem.index is not None and variant.plan.problem.index is None
        per_row = variant.plan.geometry.features_per_row
        self.gate_block: int = 8 * per_row if self.problem.gated else 0
        self.last_report: Report | None = None
        self._repeat: Repeat | None = None

    def __repr__(self) -> str:
        plan = self.variant.plan
        return f"GroupedKernel({plan.entry} {plan.schedule.digest}, {plan.target.name})"

    def __call__(
        self,
        w: SparseWeight,
        tokens: Any,
        offsets: Any,
        selection: Any = None,
        *,
        bias: Any = None,
        scale: Any = None,
        device: DeviceChoice = "auto",
        stream: Any = None,
        out: Any = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Any:
        """Multiply: tokens [T, k], offsets int32 [experts + 1] -> [n, features].

        `w` [experts * m, k] is a stack (`stack_weights`), for a gated kernel of gate and up
        projections (`interleave_rows` by `gate_block` rows; features = m / 2), else features = m.
        selection [n] picks token rows, None takes them in order; bias [experts * m] and scale [n]
        are float32, each given exactly if the kernel was compiled for it. Offsets on a GPU are not
        read by the host: rows beyond n are never written, rows that no expert owns stay as they
        were. Where it runs, and what `out` is, are as for `Kernel`.

        Raises LaunchError for arguments that do not fit.
        """
        if self.gathers_before and selection is not None:
            # A column of names is a combination of one row each: rows are copied as they are.
            tokens = combine(tokens, selection.reshape(-1, 1), device=device, stream=stream)
            selection = None
        arrays = (tokens, selection, bias, scale, offsets)
        repeat = self._repeat if out is None and stream is None else None
        if repeat is not None and repeat.matches(w, arrays, (device, False)):
            return repeat.launch()
        call = self.describe(w, tokens, offsets, selection, bias, scale)
        if runs_on_gpu(device, call.tokens):
            ordinal = call.tokens.device if call.tokens.kind == "device" else current_device()
            launcher = self.variant.launcher(ordinal)
            result, arguments = launcher(call, stream, out, False)
            if out is None and stream is None:
                self._repeat = launcher.repeat(call, arrays, (device, False), arguments, result)
            return result
        if out is not None:
            raise LaunchError("out is only taken on a GPU", remedy="leave it out for the simulator")
        if device == "auto":
            require_simulable(self.variant.plan, call.m, call.n, call.k)
        result, self.last_report = simulate(self.variant.plan, self.variant.build, call, progress)
        return as_family(result, call.tokens)

    def describe(
        self, w: Any, tokens: Any, offsets: Any, selection: Any, bias: Any, scale: Any
    ) -> Call:
        """The arguments, checked against the kernel and each other."""
        problem = self.problem
        call = describe_call(w, problem.format, problem.dtype.name, tokens, selection, bias, scale)
        kind = None if call.selection is None else call.selection.dtype
        index = self.variant.plan.problem.index
        for name, given, wanted in (
            ("selection", kind, index),
            ("bias", bias is not None, problem.bias),
            ("scale", scale is not None, problem.scale),
        ):
            if given != wanted:
                raise LaunchError(
                    f"{name} is {given or 'not given'}, the kernel is compiled for "
                    f"{wanted or 'none'}",
                    remedy="give what compile_grouped was told, or compile another",
                )
        return describe_experts(call, offsets, self.gate_block, MAX_EXPERTS)


def compile_grouped(
    schedule: ScheduleSource,
    *,
    n: int,
    m: int,
    v: int,
    dtype: str = "bfloat16",
    index: Literal["int32", "int64"] | None = None,
    activation: str | None = None,
    gated: bool = False,
    bias: bool = False,
    scale: bool = False,
    out_dtype: str | None = None,
    target: str | None = None,
) -> GroupedKernel:
    """Compile a schedule for a stack of experts of format (n, m, v) and `dtype`.

    `index` is the dtype of the selection the kernel gathers by, None for tokens in order; `gated`
    multiplies act(gate) with the up projection. Other arguments and errors are those of `compile`.
    """
    problem = make_ssmm(
        Format(n, m, v),
        dtype,
        out_dtype=out_dtype,
        index=index,
        bias=bias,
        activation=activation,
        scale=scale,
        grouped=True,
        gated=gated,
    )
    value = load_schedule(schedule, problem.format, problem.dtype)
    return grouped_kernel(value, problem, choose_target(value, problem, target))


def grouped_kernel(schedule: Schedule, problem: Ssmm, target: Target) -> GroupedKernel:
    """The kernel of a schedule for a grouped problem; errors are those of `compile`."""
    return GroupedKernel(build_variant(schedule, problem, target), problem)
