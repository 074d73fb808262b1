"""What is checked: one schedule for one problem and target, compiled once and run many times.

Decides which formats, types and epilogues a schedule file is checked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

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
GROUPED_KERNELS = 8


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

    @property
    def weights(self) -> str:
        """What is multiplied: "one" weight, those of "experts", or of "gated experts"."""
        experts = "gated experts" if self.problem.gated else "experts"
        return experts if self.problem.grouped else "one"

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
    dtype, selection type, bias, scale, activation and output type, in as many pairs as fit. Behind
    them a few kernels for several experts, with a gate and without, if its pipeline has them.

    `format` or `dtype` fix these; with a format every pair is covered. Raises `ScheduleError` for a
    file that is none, and if no format is legal the refusal of the first.
    """
    dtypes = DTYPES if dtype is None else (dtype_named(dtype, operand=True).name,)
    wanted = [format] if format else SHIPPED
    legal_formats(source, wanted, dtypes[0], target)  # refuses what takes none of them
    factors: dict[str, Sequence[object]] = {
        "format": _legal(source, wanted, dtypes[0], target)[0],
        "dtype": dtypes,
        "index": INDICES,
        "bias": (False, True),
        "scale": (False, True),
        "activation": (None, *ACTIVATIONS),
        "output": OUTPUTS,
    }
    if limit is None and format is None:
        limit = max(DEFAULT_KERNELS, len(factors["format"]))
    given = [{"format": each} for each in factors["format"]]
    rows = covering(factors, given=given, limit=limit) if given else []
    rows += _grouped_rows(source, factors, wanted, target)
    return [_subject(source, row, target) for row in rows]


def _grouped_rows(
    source: ScheduleSource,
    factors: Mapping[str, Sequence[object]],
    wanted: Sequence[Format],
    target: str | None,
) -> list[Row]:
    """Rows of kernels for several experts, gates and formats dealt to them evenly."""
    dtype = str(factors["dtype"][0])
    formats, _ = _legal(source, wanted, dtype, target, grouped=True)
    if not formats:
        return []
    gates, _ = _legal(source, wanted, dtype, target, grouped=True, gated=True, activation="silu")
    places = [each * len(formats) // GROUPED_KERNELS for each in range(GROUPED_KERNELS)]
    given = [
        {"format": formats[place], "gated": number % 2 == 0} for number, place in enumerate(places)
    ]

    def legal(row: Row) -> bool:
        if not row["gated"]:
            return True
        return row["format"] in gates and row["activation"] is not None and not row["bias"]

    base = load_schedule(source, formats[0], dtype_named(dtype))
    several = {**factors, "format": formats, "grouped": (True,), "gated": (False, True)}
    several["index"] = (None,) if base.pack.gather == "before" else factors["index"]
    return covering(several, legal=legal, given=given, limit=len(given))


def _subject(source: ScheduleSource, row: Row, target: str | None) -> Subject:
    problem = make_ssmm(
        row["format"],  # type: ignore[arg-type]
        str(row["dtype"]),
        out_dtype=str(row["output"]),
        index=row["index"],  # type: ignore[arg-type]
        bias=bool(row["bias"]),
        activation=row["activation"],  # type: ignore[arg-type]
        scale=bool(row["scale"]),
        grouped=bool(row.get("grouped")),
        gated=bool(row.get("gated")),
    )
    schedule = load_schedule(source, problem.format, problem.dtype)
    origin = None if isinstance(source, Schedule) else schedule.source_path or str(source)
    return Subject(schedule, problem, choose_target(schedule, problem, target), origin)


def legal_formats(
    source: ScheduleSource, formats: Sequence[Format], dtype: str, target: str | None
) -> list[Format]:
    """Those the schedule is legal for, with one expert or several; if there are none the first
    refusal is raised.
    """
    single, refusals = _legal(source, formats, dtype, target)
    several, _ = _legal(source, formats, dtype, target, grouped=True)
    legal = [each for each in formats if each in single or each in several]
    if not legal:
        raise refusals[0]
    return legal


def _legal(
    source: ScheduleSource,
    formats: Sequence[Format],
    dtype: str,
    target: str | None,
    **options: Any,
) -> tuple[list[Format], list[ScheduleError]]:
    """The formats that the schedule is legal for, and the refusals of the others."""
    legal, refusals = [], []
    for format in formats:
        problem = make_ssmm(format, dtype, **options)
        try:
            schedule = load_schedule(source, format, problem.dtype)
            check_legal(schedule, problem, choose_target(schedule, problem, target))
            legal.append(format)
        except ScheduleError as error:
            refusals.append(error)
    return legal, refusals
