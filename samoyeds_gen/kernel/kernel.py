"""The callable: one schedule compiled for one format, dtype and target.

Chooses between simulator and GPU, and compiles one concrete kernel per combination of arguments
(selection, bias, scale, activation, output dtype) when it is first called.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from samoyeds_gen.compiler import Plan, compile_plan, emit, first_violation
from samoyeds_gen.errors import LaunchError
from samoyeds_gen.formats import Format, SparseWeight
from samoyeds_gen.kernel.arguments import Call, describe_call
from samoyeds_gen.kernel.choice import Choice, given
from samoyeds_gen.kernel.launched import Launcher
from samoyeds_gen.kernel.repeat import Repeat
from samoyeds_gen.kernel.simulated import require_simulable, simulate
from samoyeds_gen.language import (
    Schedule,
    ScheduleSource,
    Ssmm,
    Target,
    load_schedule,
    make_ssmm,
    target_named,
)
from samoyeds_gen.runtime import (
    ArrayView,
    Build,
    compile_source,
    current_device,
    device_target,
    driver_present,
    load,
    require_clean,
    require_driver,
)
from samoyeds_gen.simulator import Report

Device = Literal["auto", "cpu", "gpu"]
DEVICES = ("auto", "cpu", "gpu")


@dataclass(frozen=True, slots=True)
class Variant:
    """One concrete kernel: its plan, its source, and what NVRTC made of it."""

    plan: Plan
    source: str
    build: Build
    _launchers: dict[int, Launcher] = field(default_factory=dict, repr=False, compare=False)

    def launcher(self, device: int) -> Launcher:
        """The kernel loaded on GPU `device`, once."""
        found = self._launchers.get(device)
        if found is None:
            loaded = load(
                self.build,
                self.plan.entry,
                shared_bytes=self.plan.shared_bytes,
                device=device,
                cluster=(self.plan.cluster, 1, 1),
            )
            found = self._launchers[device] = Launcher(self.plan, loaded, device)
        return found


class Kernel:
    """`kernel(w, tokens, selection)`: out[i] = scale[i] * act(w @ tokens[selection[i]] + bias).

    Made by `compile`. `schedule`, `problem` (without per-call options) and `target` say what it
    is; `variant(...)` gives plan, source and build of one concrete kernel; `choice` says why it is
    this schedule.
    """

    def __init__(
        self, schedule: Schedule, problem: Ssmm, target: Target, choice: Choice | None = None
    ) -> None:
        self.schedule = schedule
        self.problem = problem
        self.target = target
        self.choice = choice or given(schedule)
        self._variants: dict[tuple[object, ...], Variant] = {}
        self._repeat: Repeat | None = None
        self.last_report: Report | None = None

    def __repr__(self) -> str:
        problem = self.problem
        return (
            f"Kernel({self.schedule.name} {self.schedule.digest}, ({problem.format}) "
            f"{problem.dtype.name}, {self.target.name})"
        )

    def __call__(
        self,
        w: SparseWeight,
        tokens: Any,
        selection: Any = None,
        *,
        bias: Any = None,
        scale: Any = None,
        activation: str | None = None,
        out_dtype: str | None = None,
        device: Device = "auto",
        stream: Any = None,
        out: Any = None,
        check: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Any:
        """Multiply: tokens [T, k] of the weight's dtype -> [n, m] of `out_dtype` (tokens' dtype).

        selection [n] picks token rows (any order, repeats, empty); bias [m] and scale [n] are
        float32; activation is None, "relu", "silu", "gelu" (erf) or "gelu_tanh".
        device "auto" runs where the tokens are: torch.cuda and other GPU arrays on their GPU and
        stream, host arrays on a present GPU, else in the simulator up to a work limit. The result
        is of the tokens' library, or `out`, a C-ordered [n, m] GPU array. Host selections are
        checked; a GPU selection out of range gives rows of NaN, unless `check` asks for the
        synchronising check.

        Raises LaunchError for arguments that do not fit, and CompileError or ScheduleError when
        this combination cannot be compiled.
        """
        arrays = (tokens, selection, bias, scale)
        options = (activation, out_dtype, device, check)
        repeat = self._repeat if out is None and stream is None else None
        if repeat is not None and repeat.matches(w, arrays, options):
            return repeat.launch()
        call = describe_call(
            w, self.problem.format, self.problem.dtype.name, tokens, selection, bias, scale
        )
        variant = self.variant(
            index=call.selection.dtype if call.selection is not None else None,  # type: ignore[arg-type]
            bias=bias is not None,
            scale=scale is not None,
            activation=activation,
            out_dtype=out_dtype,
        )
        if runs_on_gpu(device, call.tokens):
            ordinal = call.tokens.device if call.tokens.kind == "device" else current_device()
            launcher = variant.launcher(ordinal)
            result, arguments = launcher(call, stream, out, check)
            if out is None and stream is None:
                self._repeat = launcher.repeat(call, arrays, options, arguments, result)
            return result
        if out is not None:
            raise LaunchError("out is only taken on a GPU", remedy="leave it out for the simulator")
        return self._simulate(variant, call, device, progress)

    def variant(
        self,
        *,
        index: Literal["int32", "int64"] | None = None,
        bias: bool = False,
        scale: bool = False,
        activation: str | None = None,
        out_dtype: str | None = None,
    ) -> Variant:
        """The concrete kernel for this combination, compiled on first use.

        Raises CompileError when ptxas spills registers or serialises matrix work.
        """
        key = (index, bias, scale, activation, out_dtype)
        found = self._variants.get(key)
        if found is None:
            base = self.problem
            problem = make_ssmm(
                base.format,
                base.dtype.name,
                out_dtype=out_dtype or base.out_dtype.name,
                index=index,
                bias=bias,
                activation=activation or base.activation,
                scale=scale,
            )
            found = self._variants[key] = build_variant(self.schedule, problem, self.target)
        return found

    def _simulate(
        self,
        variant: Variant,
        call: Call,
        device: Device,
        progress: Callable[[int, int], None] | None,
    ) -> Any:
        if device == "auto":
            require_simulable(variant.plan, call.m, call.n, call.k)
        out, report = simulate(variant.plan, variant.build, call, progress)
        self.last_report = report
        return as_family(out, call.tokens)


def runs_on_gpu(device: Device, tokens: ArrayView) -> bool:
    """Whether a call runs on a GPU; LaunchError where that contradicts the tokens' place."""
    if device not in DEVICES:
        raise LaunchError(
            f"device {device!r} is not one of {', '.join(DEVICES)}",
            remedy="use 'auto', 'cpu' or 'gpu'",
        )
    if tokens.kind == "device":
        if device == "cpu":
            raise LaunchError(
                f"device='cpu' was asked for, the tokens are on device {tokens.device}",
                remedy="move the tokens to the host",
            )
        return True
    if device == "gpu":
        require_driver()
    return device == "gpu" or (device == "auto" and driver_present())


def build_variant(schedule: Schedule, problem: Ssmm, target: Target) -> Variant:
    """Plan, emit and compile one concrete kernel, and refuse spills the schedule does not allow."""
    plan = compile_plan(schedule, problem, target)
    source = emit(plan)
    build = compile_source(source, name=plan.source_name, target=target.name)
    require_clean(build.report, allow_spills=schedule.resident.spills)
    return Variant(plan, source, build)


def as_family(out: Any, tokens: ArrayView) -> Any:
    """The simulator's numpy result as an array of the caller's library."""
    if tokens.family != "torch":
        return out
    import torch

    result = torch.empty(out.shape, dtype=getattr(torch, out.dtype.name))
    result.view(torch.uint8).numpy()[...] = out.view("uint8")
    return result


def compile(
    schedule: ScheduleSource,
    *,
    n: int,
    m: int,
    v: int,
    dtype: str = "bfloat16",
    target: str | None = None,
    activation: str | None = None,
    out_dtype: str | None = None,
) -> Kernel:
    """Compile a schedule for weights of format (n, m, v) and `dtype`.

    `schedule` is a .py or .json file, the name of a shipped schedule, or a Schedule. `target`
    None means the present GPU where the schedule is legal there, else the schedule's own target.
    The first concrete kernel is compiled here, so that mistakes show now.

    Raises FormatError, ScheduleError (with file, line and rule) or CompileError.
    """
    problem = make_ssmm(Format(n, m, v), dtype, out_dtype=out_dtype, activation=activation)
    value = load_schedule(schedule, problem.format, problem.dtype)
    kernel = Kernel(value, problem, choose_target(value, problem, target))
    kernel.variant()
    return kernel


def choose_target(schedule: Schedule, problem: Ssmm, target: str | None) -> Target:
    """The named target; None: the present GPU's if the schedule is legal there, else its own."""
    own = target_named(schedule.target)
    if target is not None:
        return target_named(target)
    present = device_target()
    if present is None:
        return own
    try:
        candidate = target_named(present)
    except Exception:  # a GPU this package has no row for
        return own
    return own if first_violation(schedule, problem, candidate) else candidate


__all__ = ["Kernel", "Variant", "build_variant", "choose_target", "compile"]
