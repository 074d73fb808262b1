"""What is checked: one schedule for one problem and target, compiled once and run many times.

Decides which formats, types and epilogues a schedule file is checked for.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from samoyeds_gen.check.covering import Row, covering
from samoyeds_gen.check.strategies import DTYPES, INDICES, OUTPUTS, SHIPPED
from samoyeds_gen.compiler import check_legal
from samoyeds_gen.errors import SamoyedsError, ScheduleError
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import Variant, build_variant, choose_target
from samoyeds_gen.language import (
    ACTIVATIONS,
    Schedule,
    ScheduleSource,
    Ssmm,
    Target,
    dtype_named,
    load_schedule,
    make_ssmm,
)

DEFAULT_KERNELS = len(SHIPPED)


@dataclass(frozen=True, slots=True)
class Subject:
    """A kernel to be checked. `origin` is the file it came from, if the schedule is that file's."""

    schedule: Schedule
    problem: Ssmm
    target: Target
    origin: str | None = None

    def __str__(self) -> str:
        return f"{self.schedule.name} {self.problem.suffix} {self.fold} {self.target.name}"

    @property
    def fold(self) -> str:
        """The fold its plan has: "direct" where no sub-row is left out."""
        return "direct" if self.problem.format.plain else self.schedule.stationary.fold

    def size(self) -> tuple[object, ...]:
        """A measure by which one kernel is simpler than another."""
        tile, s = self.schedule.tile, self.schedule
        shape = tile.m * tile.n * tile.k * s.warps.threads * s.pipeline.stages
        return (shape, len(self.problem.suffix), str(self))


def compiled(
    subjects: Sequence[Subject], threads: int = 1
) -> Iterator[tuple[Subject, Variant | SamoyedsError]]:
    """Subjects in order, each with what the compiler made of it; later ones compile meanwhile."""
    with ThreadPoolExecutor(threads, thread_name_prefix="check-compile") as pool:
        futures: list[Future[Variant]] = [
            pool.submit(build_variant, each.schedule, each.problem, each.target)
            for each in subjects
        ]
        try:
            for subject, future in zip(subjects, futures, strict=True):
                error = future.exception()
                if isinstance(error, SamoyedsError):
                    yield subject, error
                else:
                    yield subject, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def subjects_of(
    source: ScheduleSource,
    *,
    format: Format | None = None,
    dtype: str | None = None,
    target: str | None = None,
    limit: int | None = None,
) -> list[Subject]:
    """A covering set of kernels that `source` gives: each legal format once, and in them every
    dtype, selection type, bias, scale, activation and output type, in as many pairs as fit.

    `format` or `dtype` fix these; with a format every pair is covered. Raises `ScheduleError` for a
    file that is none, and if no format is legal the refusal of the first.
    """
    dtypes = DTYPES if dtype is None else (dtype_named(dtype, operand=True).name,)
    formats = legal_formats(source, [format] if format else SHIPPED, dtypes[0], target)
    factors: dict[str, Sequence[object]] = {
        "format": formats,
        "dtype": dtypes,
        "index": INDICES,
        "bias": (False, True),
        "scale": (False, True),
        "activation": (None, *ACTIVATIONS),
        "output": OUTPUTS,
    }
    if limit is None and format is None:
        limit = max(DEFAULT_KERNELS, len(formats))
    rows = covering(factors, given=[{"format": each} for each in formats], limit=limit)
    return [_subject(source, row, target) for row in rows]


def _subject(source: ScheduleSource, row: Row, target: str | None) -> Subject:
    problem = make_ssmm(
        row["format"],  # type: ignore[arg-type]
        str(row["dtype"]),
        out_dtype=str(row["output"]),
        index=row["index"],  # type: ignore[arg-type]
        bias=bool(row["bias"]),
        activation=row["activation"],  # type: ignore[arg-type]
        scale=bool(row["scale"]),
    )
    schedule = load_schedule(source, problem.format, problem.dtype)
    origin = None if isinstance(source, Schedule) else schedule.source_path or str(source)
    return Subject(schedule, problem, choose_target(schedule, problem, target), origin)


def legal_formats(
    source: ScheduleSource, formats: Sequence[Format], dtype: str, target: str | None
) -> list[Format]:
    """Those the schedule is legal for; the first refusal is raised when there are none."""
    legal, refusals = [], []
    for format in formats:
        problem = make_ssmm(format, dtype)
        try:
            schedule = load_schedule(source, format, problem.dtype)
            check_legal(schedule, problem, choose_target(schedule, problem, target))
            legal.append(format)
        except ScheduleError as error:
            refusals.append(error)
    if not legal:
        raise refusals[0]
    return legal
