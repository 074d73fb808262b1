"""Choosing a schedule for a shape: the table, else its nearest entries corrected, else the model.

Legality always has the last word: a schedule of the table that the call's options, target or format
do not allow is passed over.
"""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from samoyeds_gen.assets import asset_directory, for_experts
from samoyeds_gen.compiler import first_violation
from samoyeds_gen.errors import ScheduleError, TuneError
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import Choice
from samoyeds_gen.language import DType, Schedule, Ssmm, Target, load_schedule, target_named
from samoyeds_gen.tune.buckets import bucket_of, distance
from samoyeds_gen.tune.database import Database
from samoyeds_gen.tune.demand import Estimate, dense_us, estimate
from samoyeds_gen.tune.machines import MACHINES, Machine
from samoyeds_gen.tune.record import USER, Record
from samoyeds_gen.tune.shapes import tuned_shape
from samoyeds_gen.tune.suites import Shape

FARTHEST: Final = 4.0
"""Octaves, over m, k and n together, from which a measurement says less than the model."""

DOUBT: Final = 0.05
"""What an octave of distance adds to a corrected time. Carried from shape to shape of the H200's
table, measurements miss by a tenth; the quickest of a shape left out is found most often from here.
"""


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


def rank(task: Task, database: Database) -> list[Choice]:
    """Every schedule there is a reason for, best first; never empty, never an illegal one.

    Raises TuneError when no shipped schedule is legal for the task.
    """
    shipped = [
        each
        for each in shipped_schedules(task.problem.format, task.problem.dtype)
        if legal(each, task.problem, task.target)
    ]
    known = [
        record
        for record in database.final(format=str(task.problem.format), dtype=task.problem.dtype.name)
        if record.schedule is not None and legal(record.schedule, task.problem, task.target)
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


def _exact(task: Task, known: Sequence[Record]) -> list[Choice]:
    """Measurements of the task's own bucket on its GPU; the user's own if there are any."""
    bucket = bucket_of(task.shape)
    here = [
        each for each in known if each.gpu == task.machine.name and bucket_of(each.shape) == bucket
    ]
    here = [each for each in here if each.origin == USER] or here
    same = [each for each in here if each.shape == task.shape] or here
    reason = f"quickest of {len(same)} measured at"
    found = [
        Choice(schedule, "table", f"{reason} {_name(record)}", _corrected(record, schedule, task))
        for record, schedule in _with_schedules(same)
    ]
    return sorted(found, key=_order)


def _nearest(task: Task, known: Sequence[Record], shipped: Sequence[Schedule]) -> list[Choice]:
    """Every schedule by its own nearest measurement, carried to this shape by the model.

    Shipped schedules that were never measured compete with the model's time, scaled by how far it
    was off where there are measurements.
    """
    closest: dict[Schedule, tuple[tuple[object, ...], Record]] = {}
    for record, schedule in _with_schedules(known):
        order = (_apart(record, task), record.origin != USER, record.us)
        if order[0] <= FARTHEST and (schedule not in closest or order < closest[schedule][0]):
            closest[schedule] = (order, record)
    if not closest:
        return []
    found = []
    offs = []
    for schedule, (_, record) in closest.items():
        away = _apart(record, task)
        us = _corrected(record, schedule, task) * (1 + DOUBT * away)
        reason = f"measured at {_name(record)}, {away:.1f} octaves away, corrected by the model"
        found.append(Choice(schedule, "nearest", reason, us))
        offs.append(us / modelled(schedule, task).us)
    off = statistics.median(offs)
    for schedule in shipped:
        if schedule not in closest:
            model = modelled(schedule, task)
            reason = (
                f"modelled, {model.limit} is its limit, {off:.2f} times as long as measured ones"
            )
            found.append(Choice(schedule, "model", reason, off * model.us))
    return sorted(found, key=_order)


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
        for record in database.final(format="", dtype=task.problem.dtype.name)
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


def _with_schedules(records: Iterable[Record]) -> Iterator[tuple[Record, Schedule]]:
    for record in records:
        if record.schedule is not None:
            yield record, record.schedule


def _apart(record: Record, task: Task) -> float:
    """Octaves between a measurement's shape and the task's; another GPU of the target adds one."""
    if record.gpu == task.machine.name:
        return distance(record.shape, task.shape)
    theirs = _machine(record.gpu)
    if theirs is None or theirs.target != task.machine.target:
        return float("inf")
    return distance(record.shape, task.shape) + 1.0


def _corrected(record: Record, schedule: Schedule, task: Task) -> float:
    """A measured time carried over to the task's shape and GPU by the ratio of modelled times."""
    theirs = _machine(record.gpu) or task.machine
    if theirs.name == task.machine.name:
        theirs = task.machine
    if (record.shape, theirs) == (task.shape, task.machine):
        return record.us or 0.0
    there = modelled(schedule, Task(theirs, task.target, task.problem, record.shape)).us
    return (record.us or 0.0) * modelled(schedule, task).us / there


def _machine(name: str) -> Machine | None:
    return next((each for each in MACHINES if each.name in name), None)


def _order(choice: Choice) -> tuple[float, str, str]:
    return choice.expected_us or 0.0, choice.schedule.name, choice.schedule.digest


def _name(record: Record) -> str:
    m, k, n = record.shape
    return f"{m}, {k}, {n} on {record.gpu}"


def task_target(machine: Machine) -> Target:
    """The target that a machine compiles for. Raises ScheduleError for one without a row."""
    return target_named(machine.target)
