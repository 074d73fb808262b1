"""`compile` with or without a schedule: without one, a kernel that chooses when it is called.

How many tokens there will be is known only then. The choice is made once for a weight's shape, a
bucket of token counts and the options of the call; repeated calls look it up.
"""

from collections.abc import Callable
from contextlib import closing
from typing import Any, overload

from samoyeds_gen.errors import CompileError
from samoyeds_gen.formats import Format, SparseWeight
from samoyeds_gen.kernel import Choice, Device, Kernel, describe_call
from samoyeds_gen.kernel import compile as compile_given
from samoyeds_gen.language import (
    TARGETS,
    ScheduleSource,
    Ssmm,
    make_ssmm,
    target_named,
)
from samoyeds_gen.runtime import device_info, device_target
from samoyeds_gen.simulator import Report
from samoyeds_gen.tune.buckets import bucket
from samoyeds_gen.tune.choice import Task, rank
from samoyeds_gen.tune.database import Database, open_database
from samoyeds_gen.tune.machines import WITHOUT_GPU, Machine, machine_for_target, machine_of

Key = tuple[object, ...]


class AutoKernel:
    """`kernel(w, tokens, selection)` as of `Kernel`, on the schedule that suits each call best.

    Made by `compile` without a schedule. `choose(m, k, n)` tells what a shape would get, and why;
    `choice` is that of the latest call.
    """

    def __init__(
        self,
        problem: Ssmm,
        machine: Machine,
        *,
        database: Callable[[], Database] = open_database,
    ) -> None:
        self.problem = problem
        self.machine = machine
        self.target = target_named(machine.target)
        self._open = database
        self._calls: dict[Key, Kernel] = {}
        self._latest: Kernel | None = None

    def __repr__(self) -> str:
        problem = self.problem
        return (
            f"AutoKernel(({problem.format}) {problem.dtype.name}, {self.target.name}, "
            f"{self.machine.name})"
        )

    @property
    def choice(self) -> Choice | None:
        """What the latest call ran and why; None before the first."""
        return None if self._latest is None else self._latest.choice

    @property
    def last_report(self) -> Report | None:
        """What the simulator counted in the latest call."""
        return None if self._latest is None else self._latest.last_report

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
        """Choose, then call: arguments, result and refusals are those of `Kernel.__call__`.

        The first call of a shape compiles the schedule that it gets.
        """
        try:
            count = tokens.shape[0] if selection is None else len(selection)
            key: Key = (
                w.shape,
                bucket(count),
                getattr(selection, "dtype", selection is None),
                bias is None,
                scale is None,
                activation,
                out_dtype,
            )
            kernel = self._calls.get(key)
        except (AttributeError, TypeError):  # an argument that `describe_call` refuses, or DLPack
            key, kernel = (), None
        if kernel is None:
            kernel = self._first(key, w, tokens, selection, bias, scale, activation, out_dtype)
        self._latest = kernel
        return kernel(
            w,
            tokens,
            selection,
            bias=bias,
            scale=scale,
            activation=activation,
            out_dtype=out_dtype,
            device=device,
            stream=stream,
            out=out,
            check=check,
            progress=progress,
        )

    def choose(self, m: int, k: int, n: int) -> Choice:
        """What a call with a [m, k] weight, n tokens and no options runs. Compiles nothing.

        Raises TuneError when no schedule is legal.
        """
        return self._ranked(self._task(self.problem, m, k, n))[0]

    def kernel_for(self, m: int, k: int, n: int) -> Kernel:
        """A compiled kernel of what `choose` names, or of the next best if that does not compile.

        Raises TuneError as `choose`, and CompileError when nothing compiles.
        """
        return self._compiled(self._task(self.problem, m, k, n), None, None)

    def _first(
        self,
        key: Key,
        w: SparseWeight,
        tokens: Any,
        selection: Any,
        bias: Any,
        scale: Any,
        activation: str | None,
        out_dtype: str | None,
    ) -> Kernel:
        """Check the arguments of a call that is new, choose, and remember the kernel."""
        base = self.problem
        call = describe_call(w, base.format, base.dtype.name, tokens, selection, bias, scale)
        problem = make_ssmm(
            base.format,
            base.dtype.name,
            out_dtype=out_dtype or base.out_dtype.name,
            index=None if call.selection is None else call.selection.dtype,  # type: ignore[arg-type]
            bias=bias is not None,
            activation=activation or base.activation,
            scale=scale is not None,
        )
        task = self._task(problem, call.m, call.k, call.n)
        kernel = self._compiled(task, activation, out_dtype)
        if key:
            self._calls[key] = kernel
        return kernel

    def _compiled(self, task: Task, activation: str | None, out_dtype: str | None) -> Kernel:
        """The best choice that compiles cleanly; the first refusal is raised when none does.

        Each shape has a kernel of its own, which remembers its latest call; equal builds are shared
        by the runtime.
        """
        problem, refusal = task.problem, None
        for choice in self._ranked(task):
            kernel = Kernel(choice.schedule, self.problem, self.target, choice)
            try:
                kernel.variant(
                    index=problem.index,
                    bias=problem.bias,
                    scale=problem.scale,
                    activation=activation,
                    out_dtype=out_dtype,
                )
            except CompileError as error:
                refusal = refusal or error
                continue
            return kernel
        assert refusal is not None, "rank never returns nothing"
        raise refusal

    def _ranked(self, task: Task) -> list[Choice]:
        """The file is open only while it is asked: calls may come from any thread."""
        with closing(self._open()) as database:
            return rank(task, database)

    def _task(self, problem: Ssmm, m: int, k: int, n: int) -> Task:
        """Token counts of one bucket are one task, so that a choice does not depend on the order
        of calls.
        """
        return Task(self.machine, self.target, problem, (m, k, bucket(n)))


@overload
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
) -> Kernel: ...


@overload
def compile(
    schedule: None = None,
    *,
    n: int,
    m: int,
    v: int,
    dtype: str = "bfloat16",
    target: str | None = None,
    activation: str | None = None,
    out_dtype: str | None = None,
) -> AutoKernel: ...


def compile(
    schedule: ScheduleSource | None = None,
    *,
    n: int,
    m: int,
    v: int,
    dtype: str = "bfloat16",
    target: str | None = None,
    activation: str | None = None,
    out_dtype: str | None = None,
) -> Kernel | AutoKernel:
    """Compile a schedule for weights of format (n, m, v) and `dtype`.

    `schedule` is a .py or .json file, the name of a shipped schedule, or a Schedule: its first
    concrete kernel is compiled here, so that mistakes show now. `target` None means the present GPU
    where the schedule is legal there, else the schedule's own target.

    Without a schedule the result is an `AutoKernel`, which chooses from the tuning table and the
    analytic model when it is called. `target` None then means the present GPU, else "sm_80".

    Raises FormatError, ScheduleError (with file, line and rule) or CompileError.
    """
    if schedule is not None:
        return compile_given(
            schedule,
            n=n,
            m=m,
            v=v,
            dtype=dtype,
            target=target,
            activation=activation,
            out_dtype=out_dtype,
        )
    problem = make_ssmm(Format(n, m, v), dtype, out_dtype=out_dtype, activation=activation)
    return AutoKernel(problem, present_machine(target))


def present_machine(target: str | None = None) -> Machine:
    """The GPU to choose for: the present one if it is of `target`, else the target's first row.

    Without either, that of the oldest target. Raises ScheduleError for an unknown target.
    """
    if target is not None:
        target_named(target)
    present = device_target()
    known = present in {each.name for each in TARGETS}
    if known and target in (None, present):
        return machine_of(device_info())
    return machine_for_target(target or WITHOUT_GPU)


__all__ = ["AutoKernel", "compile", "present_machine"]
