"""Pieces of a check that can run in other processes: some kernels, listed or drawn, on one device.

Decides how one piece runs. How a check is cut into pieces is decided in checking.py.
"""

from dataclasses import dataclass, replace
from time import perf_counter

from hypothesis import assume
from hypothesis import strategies as st

from samoyeds_gen.check.failure import Failure
from samoyeds_gen.check.report import KernelReport
from samoyeds_gen.check.search import explore, search
from samoyeds_gen.check.strategies import formats, problems, schedules
from samoyeds_gen.check.subjects import Subject, compiled
from samoyeds_gen.check.tally import Tally
from samoyeds_gen.check.trial import LAUNCH_FAILED, Device, Finding, name_line
from samoyeds_gen.compiler import first_violation
from samoyeds_gen.errors import CompileError, SamoyedsError, ScheduleError
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import Variant, build_variant
from samoyeds_gen.language import TARGETS, ScheduleSource, load_schedule, target_named

KERNEL_SHRINKS = 20
"""Other kernels tried after one failed, in search of a smaller one that fails too."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a piece of work found."""

    kernels: tuple[KernelReport, ...]
    counters: Tally


@dataclass(frozen=True, slots=True)
class Listed:
    """Check these kernels, each with its number of examples."""

    subjects: tuple[Subject, ...]
    examples: tuple[int, ...]
    device: Device
    seed: int

    @property
    def total(self) -> int:
        """Examples it will run."""
        return sum(self.examples)

    def run(self) -> Result:
        """Compile the kernels one ahead of the other and search each for a failure.

        A failed launch is the last: the GPU's context is lost with it.
        """
        tally = Tally()
        reports: list[KernelReport] = []
        for (subject, variant), examples in zip(
            compiled(self.subjects), self.examples, strict=True
        ):
            report = check_kernel(subject, variant, examples, self.device, self.seed, tally)
            reports.append(report)
            if report.failure is not None and report.failure.kind == LAUNCH_FAILED:
                break
        return Result(tuple(reports), tally)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Check `kernels` drawn variations of a schedule with `examples` each.

    `format`, `dtype` and `target` fix what is not None.
    """

    source: ScheduleSource
    kernels: int
    examples: int
    device: Device
    seed: int
    format: Format | None = None
    dtype: str | None = None
    target: str | None = None

    @property
    def total(self) -> int:
        """Examples it will run."""
        return self.kernels * self.examples

    def run(self) -> Result:
        """Draw kernels and search each; the simplest failing one is reported, and every other."""
        tally = Tally()
        reports: list[KernelReport] = []
        failed: list[KernelReport] = []

        def fails(subject: Subject) -> bool:
            variant = _variant(subject)
            if _tolerated(variant):
                return False
            report = check_kernel(subject, variant, self.examples, self.device, self.seed, tally)
            if report.failure is None and not failed:
                reports.append(report)
            elif report.failure is not None:
                failed.append(report)
            return report.failure is not None

        strategy = drawn_subjects(self.source, self.format, self.dtype, self.target)
        explore(strategy, fails, examples=self.kernels, seed=self.seed, shrinks=KERNEL_SHRINKS)
        simplest = sorted(failed, key=lambda each: each.subject.size())[:1]
        return Result((*reports, *simplest), tally)


Work = Listed | Drawn


@st.composite
def drawn_subjects(
    draw: st.DrawFn,
    source: ScheduleSource,
    format: Format | None = None,
    dtype: str | None = None,
    target: str | None = None,
) -> Subject:
    """Kernels around a schedule: every format, type, epilogue, target, fold, tile and ring, for one
    weight and for those of several experts.
    """
    problem = draw(problems(st.just(format) if format else formats(), dtype=dtype))
    try:
        base = load_schedule(source, problem.format, problem.dtype)
    except ScheduleError:
        assume(False)  # the file refuses this format
    least = target_named(base.target)
    accepted = [each for each in TARGETS if each.accepts(least)]
    where = draw(st.sampled_from([target_named(target)] if target else accepted))
    several = replace(problem, grouped=True)
    packed = base.pack.gather == "before"  # which only experts have
    if first_violation(base, several, where) is None and (packed or draw(st.booleans())):
        problem = replace(several, index=None if packed else problem.index)
        if draw(st.booleans()):
            lit = problem.activation or "silu"
            problem = replace(problem, gated=True, bias=False, activation=lit)
    return Subject(draw(schedules(base, problem, where)), problem, where)


def check_kernel(
    subject: Subject,
    variant: Variant | SamoyedsError,
    examples: int,
    device: Device,
    seed: int,
    tally: Tally,
) -> KernelReport:
    """Search one kernel for a failure; one that could not be compiled has failed already."""
    start = perf_counter()
    if isinstance(variant, SamoyedsError):
        failure = Failure(subject, device, None, Finding("not compiled", str(variant)))
        return KernelReport(subject, device, 0, 0.0, None, None, failure)
    outcome = search(variant, examples=examples, device=device, seed=seed, observe=tally.add)
    found = outcome.found
    if found is not None:
        found = (found[0], name_line(variant, *found, device))
    return KernelReport(
        subject,
        device,
        outcome.examples,
        perf_counter() - start,
        variant.build.report.registers,
        variant.plan.shared_bytes,
        None if found is None else Failure(subject, device, *found),
    )


def _variant(subject: Subject) -> Variant | SamoyedsError:
    try:
        return build_variant(subject.schedule, subject.problem, subject.target)
    except SamoyedsError as error:
        return error


def _tolerated(variant: Variant | SamoyedsError) -> bool:
    """A drawn schedule may turn out to spill: that refusal is what it deserves."""
    return isinstance(variant, CompileError) and variant.rule in (
        "no-spills",
        "no-stack",
        "no-advice",
    )
