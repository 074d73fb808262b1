"""Choosing a schedule for a shape: the table, else its nearest entries corrected, else the model.

Legality always has the last word: a schedule of the table that the call's options, target or format
do not allow is passed over. Both dtypes of a format take equally long, so they share measurements.
"""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from math import ceil
from typing import Final

from samoyeds_gen.assets import asset_directory, for_experts
from samoyeds_gen.compiler import first_violation
from samoyeds_gen.errors import ScheduleError, TuneError
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import Choice
from samoyeds_gen.language import DType, Schedule, Ssmm, Target, load_schedule, target_named
from samoyeds_gen.tune.buckets import FRAGMENT_TOKENS, bucket_of, distance, formats_apart
from samoyeds_gen.tune.database import Database
from samoyeds_gen.tune.demand import Estimate, dense_us, estimate
from samoyeds_gen.tune.machines import MACHINES, Machine
from samoyeds_gen.tune.naming import named
from samoyeds_gen.tune.record import USER, Record
from samoyeds_gen.tune.shapes import tuned_shape
from samoyeds_gen.tune.suites import Shape

FARTHEST: Final = 4.0
"""Octaves, over m, k and n together, from which a measurement says less than the model."""

ELSEWHERE: Final = 1.0
"""Octaves that another GPU of the architecture adds."""

DOUBT: Final = 0.05
"""What an octave of distance adds to a corrected time. Carried from shape to shape of the H200's
table, measurements miss by a tenth; the quickest of a shape left out is found most often from here.
"""


Known = tuple[Record, Schedule]
"""A measurement and its schedule."""


@dataclass(frozen=True, slots=True)
class Task:
    """A product to find a schedule for: on which GPU, for which target, of which shape."""

    machine: Machine
    target: Target
    problem: Ssmm
    shape: Shape

    @property
    def where(self) -> dict[str, str]:
        """GPU, format and dtype: the words a measurement of it is stored under."""
        return {
            "gpu": self.machine.name,
            "format": str(self.problem.format),
            "dtype": self.problem.dtype.name,
        }

    def __str__(self) -> str:
        m, k, n = self.shape
        problem = self.problem
        return f"m={m}, k={k}, n={n}, ({problem.format}) {problem.dtype.name}, {self.machine.name}"


def modelled(schedule: Schedule, task: Task) -> Estimate:
    """The model's time of a schedule that is legal for the task."""
    shape = tuned_shape(schedule)
    demand = shape.demand(schedule, task.problem, task.target, task.shape, task.machine)
    return estimate(demand, task.machine)


@lru_cache(maxsize=8192)  # a table's schedules, for every shape again
def legal(schedule: Schedule, problem: Ssmm, target: Target) -> bool:
    """Whether a schedule may be compiled for a problem and target."""
    try:
        return first_violation(schedule, problem, target) is None
    except ScheduleError:  # an atom or swizzle that this version does not have
        return False


@cache
def shipped_schedules(format: Format, dtype: DType) -> tuple[Schedule, ...]:
    """What the shipped schedule files give for a format and dtype, legal or not, by name.

    Those for the experts of a layer are chosen in experts.py.
    """
    files = asset_directory("schedules").glob("*.py")
    names = sorted(path.stem for path in files if not for_experts(path))
    return tuple(_loaded(names, format, dtype))


def _loaded(names: Sequence[str], format: Format, dtype: DType) -> Iterator[Schedule]:
    for name in names:
        try:
            yield load_schedule(name, format, dtype)
        except ScheduleError:  # the file refuses this format
            continue


def rank(task: Task, database: Database, *, own: bool = True) -> list[Choice]:
    """Every schedule there is a reason for, best first; never empty, never an illegal one.

    Without `own` the user's measurements of this very shape are left out.
    Raises TuneError when no shipped schedule is legal for the task.
    """
    shipped = [
        each
        for each in shipped_schedules(task.problem.format, task.problem.dtype)
        if legal(each, task.problem, task.target)
    ]
    known = [
        (record, schedule)
        for record, schedule in _with_schedules(database.final())
        if own or record.origin != USER or record.shape != task.shape
    ]
    ranked = [*_exact(task, known), *_nearest(task, known, shipped), *_by_model(task, shipped)]
    if not ranked:
        raise TuneError(
            f"no shipped schedule is legal for {task}, target {task.target.name}",
            remedy="give a schedule of your own to compile",
        )
    best: dict[Schedule, Choice] = {}
    for choice in ranked:
        best.setdefault(choice.schedule, choice)
    return list(best.values())


def _exact(task: Task, known: Sequence[Known]) -> list[Choice]:
    """Measurements of the task's own format and bucket on its GPU; the user's own if there are any,
    those of its own dtype if there are any.
    """
    own = (task.machine.name, str(task.problem.format), bucket_of(task.shape))
    here = [
        (record, schedule)
        for record, schedule in known
        if (record.gpu, record.format, bucket_of(record.shape)) == own
        and legal(schedule, task.problem, task.target)
    ]
    here = [each for each in here if each[0].dtype == task.problem.dtype.name] or here
    here = [each for each in here if each[0].origin == USER] or here
    here = [each for each in here if each[0].shape == task.shape] or here
    reason = f"quickest of {len(here)} measured at"
    found = [
        Choice(
            schedule, "table", f"{reason} {_name(record, task)}", _corrected(record, schedule, task)
        )
        for record, schedule in here
    ]
    return sorted(found, key=_order)


def _nearest(task: Task, known: Sequence[Known], shipped: Sequence[Schedule]) -> list[Choice]:
    """Every schedule by its own nearest measurement, carried over to this task.

    Shipped schedules that were never measured compete with the model's time, scaled by how far it
    was off where there are measurements.
    """
    closest = {
        schedule: record
        for schedule, record in _closest(task, known).items()
        if legal(schedule, task.problem, task.target)
    }
    found = [each for pair in closest.items() for each in _carried(*pair, task)]
    if not found:
        return []
    off = statistics.median(
        (each.expected_us or 0.0) / modelled(each.schedule, task).us for each in found
    )
    for schedule in shipped:
        if schedule not in closest:
            model = modelled(schedule, task)
            reason = (
                f"modelled, {model.limit} is its limit, {off:.2f} times as long as measured ones"
            )
            found.append(Choice(schedule, "model", reason, off * model.us))
    return sorted(found, key=_order)


def _closest(task: Task, known: Sequence[Known]) -> dict[Schedule, Record]:
    """Of each schedule the measurement that is the least octaves away; the task's own dtype and the
    user's own come before others.
    """
    closest: dict[Schedule, tuple[tuple[object, ...], Record]] = {}
    for record, schedule in known:
        if _apart(record, task) > FARTHEST:
            continue
        other = record.dtype != task.problem.dtype.name
        order = (_away(record, task), other, record.origin != USER, record.us)
        if schedule not in closest or order < closest[schedule][0]:
            closest[schedule] = (order, record)
    return {schedule: record for schedule, (_, record) in closest.items()}


def _carried(schedule: Schedule, record: Record, task: Task) -> Iterator[Choice]:
    """A measured schedule at another shape, and with a tile that fits its tokens."""
    away = _away(record, task)
    us = _corrected(record, schedule, task) * (1 + DOUBT * away)
    reason = f"measured at {_name(record, task)}, {away:.1f} octaves away, corrected by the model"
    yield Choice(schedule, "nearest", reason, us)
    fit = fitted(schedule, task.shape[2])
    if fit != schedule and legal(fit, task.problem, task.target):
        less = modelled(fit, task).us / modelled(schedule, task).us
        yield Choice(fit, "nearest", f"{reason}, with a tile that fits the tokens", us * less)


def fitted(schedule: Schedule, tokens: int) -> Schedule:
    """The schedule with the fewest tokens a tile, in eights, that takes `tokens` in as many tiles.

    It stays as it is where a tile would be half empty: then it was measured as something else.
    """
    tile = schedule.tile
    each = ceil(tokens / ceil(tokens / tile.n))
    n = ceil(each / FRAGMENT_TOKENS) * FRAGMENT_TOKENS
    if not tile.n / 2 < n < tile.n:
        return schedule
    return named(replace(schedule, tile=replace(tile, n=n)), schedule.name)


def _by_model(task: Task, shipped: Sequence[Schedule]) -> list[Choice]:
    found = []
    for schedule in shipped:
        model = modelled(schedule, task)
        reason = f"quickest of {len(shipped)} by the model, {model.limit} is its limit"
        found.append(Choice(schedule, "model", reason, model.us))
    return sorted(found, key=_order)


def dense_expected(task: Task, database: Database) -> tuple[float, str]:
    """Microseconds of the library's dense product, and whether "table", "nearest" or "model"."""
    known = [
        record
        for record in database.final(format="")
        if record.gpu == task.machine.name and distance(record.shape, task.shape) <= FARTHEST
    ]
    model = dense_us(task.shape, task.machine)
    if not known:
        return model, "model"
    record = min(known, key=lambda each: (distance(each.shape, task.shape), each.origin != USER))
    measured = record.us or 0.0
    if record.shape == task.shape:
        return measured, "table"
    return measured * model / dense_us(record.shape, task.machine), "nearest"


def _with_schedules(records: Iterable[Record]) -> Iterator[Known]:
    for record in records:
        if record.schedule is not None:
            yield record, record.schedule


def _apart(record: Record, task: Task) -> float:
    """Octaves between a measurement's shape and the task's; another GPU of the target adds some."""
    away = distance(record.shape, task.shape)
    if record.gpu == task.machine.name:
        return away
    theirs = _machine(record.gpu)
    if theirs is None or theirs.target != task.machine.target:
        return float("inf")
    return away + ELSEWHERE


def _away(record: Record, task: Task) -> float:
    """The same and what lies between the formats, which a carried time is doubted for.

    With the table's shapes left out one at a time, the quickest was found more often with other
    formats' measurements than without: (1,2,64) at few tokens lost 1 % instead of 4.
    """
    return _apart(record, task) + formats_apart(record.format, str(task.problem.format))


def _corrected(record: Record, schedule: Schedule, task: Task) -> float:
    """A measured time carried over to the task's shape, format and GPU by the ratio of modelled
    times.
    """
    theirs = _machine(record.gpu) or task.machine
    if theirs.name == task.machine.name:
        theirs = task.machine
    problem = task.problem
    if record.format != str(problem.format):
        problem = replace(problem, format=Format.parse(record.format))
    measured = Task(theirs, task.target, problem, record.shape)
    if measured == task:
        return record.us or 0.0
    return (record.us or 0.0) * modelled(schedule, task).us / modelled(schedule, measured).us


def _machine(name: str) -> Machine | None:
    return next((each for each in MACHINES if each.name in name), None)


def _order(choice: Choice) -> tuple[float, str]:
    return choice.expected_us or 0.0, choice.schedule.name


def _name(record: Record, task: Task) -> str:
    m, k, n = record.shape
    other = record.format != str(task.problem.format)
    return f"{m}, {k}, {n} on {record.gpu}" + (f" with ({record.format})" if other else "")


def task_target(machine: Machine) -> Target:
    """The target that a machine compiles for. Raises ScheduleError for one without a row."""
    return target_named(machine.target)
