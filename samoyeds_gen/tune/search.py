"""The search for a shape's best schedule: prune by the model, compile, halve by timing, refine.

Every measurement is stored as soon as it is made, under the compiled code's key, so that an ended
search goes on where it stopped and a changed compiler is measured again. What compiles and what
measures is given; see building.py and measuring.py.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from samoyeds_gen.errors import SamoyedsError, TuneError
from samoyeds_gen.language import Schedule
from samoyeds_gen.tune.candidates import (
    SHARES,
    Candidate,
    anonymous,
    candidates,
    neighbours,
    prune,
    recommended,
)
from samoyeds_gen.tune.choice import Task, shipped_schedules
from samoyeds_gen.tune.database import Database
from samoyeds_gen.tune.record import FINAL, Record, Status
from samoyeds_gen.tune.timing import Effort


@dataclass(frozen=True, slots=True)
class Rung:
    """One round of halving: `number` of them are timed with `effort`, stored as effort `level`."""

    level: int
    number: int
    effort: Effort


RUNGS: Final = (
    Rung(1, 48, Effort(rounds=1, sample_ms=10.0, settle_ms=20.0, warmup_s=0.05)),
    Rung(2, 16, Effort(rounds=3, sample_ms=20.0, settle_ms=60.0, warmup_s=0.1)),
    Rung(FINAL, 5, Effort(rounds=7, sample_ms=40.0, settle_ms=150.0, warmup_s=0.5)),
)
"""The last rung times its candidates in turn, so that they meet the same clocks."""

NEIGHBOURS: Final = 24
BETTER: Final = 3
REFINEMENTS: Final = 2
"""How many neighbours of a winner are timed, how many of them to the end, and how often a new
winner has its own: the model cannot tell all choices apart.
"""

QUICK_RUNGS: Final = (
    Rung(1, 12, Effort(rounds=1, sample_ms=10.0, settle_ms=20.0, warmup_s=0.05)),
    Rung(FINAL, 4, Effort(rounds=5, sample_ms=20.0, settle_ms=60.0, warmup_s=0.2)),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of measuring: microseconds a launch, or why there are none."""

    us: float | None
    status: Status = "ok"
    note: str = ""


class Measure(Protocol):
    """Checks schedules in full at the task's shape, then times those that are right in turn."""

    def __call__(self, schedules: Sequence[Schedule], effort: Effort) -> Mapping[Schedule, Outcome]:
        """An outcome for each schedule."""


Build = Callable[[Sequence[Schedule]], Iterable[tuple[Schedule, "str | SamoyedsError"]]]
"""Compiles schedules for the task: the key of each one's code, or the refusal."""

Progress = Callable[[int, int, str], None]
"""`progress(done, total, sentence)`; the total grows when a winner's neighbours are tried."""


@dataclass(slots=True)
class Found:
    """What a search brought: the winner, all final records quickest first, and what it took."""

    winner: Record
    final: list[Record]
    generated: int = 0
    compiled: int = 0
    measured: int = 0
    reused: int = 0
    refused: list[tuple[Schedule, str]] = field(default_factory=list)


def search(
    task: Task,
    database: Database,
    build: Build,
    measure: Measure,
    *,
    bases: Sequence[Schedule] | None = None,
    rungs: Sequence[Rung] = RUNGS,
    refinements: int = REFINEMENTS,
    only_recommended: bool = False,
    progress: Progress = lambda done, total, sentence: None,
) -> Found:
    """Find the quickest schedule for a task among variants of `bases` (None: the shipped ones, with
    those that measurements nearby recommend).

    After the last rung the winner's neighbours are timed, at most `refinements` times. With
    `only_recommended` neither variants nor neighbours are: a shape takes seconds.

    Raises TuneError when no candidate is legal, compiles, and computes the right thing.
    """
    everything, pruned = _entering(task, database, bases, rungs[0].number, only_recommended)
    if not pruned and only_recommended:
        raise TuneError(
            f"no measurement recommends a schedule for {task}", remedy="search among all of them"
        )
    if not pruned:
        raise TuneError(
            f"no schedule is legal for {task}", remedy="give a schedule file of your own to vary"
        )
    run = _Run(task, database, measure, progress, len(pruned) + sum(r.number for r in rungs))
    progress(0, run.total, f"{len(everything)} legal candidates, {len(pruned)} after the model")
    remaining = run.halve(rungs, run.compile(build, pruned))
    for _ in range(refinements if remaining else 0):
        leader = remaining[0]
        near = neighbours(leader.schedule, everything)
        better = run.refine(
            rungs, build, [each for each in near if each.schedule not in run.records]
        )
        remaining = sorted([*remaining, *better], key=run.quickest)[: rungs[-1].number]
        if remaining[0] is leader:
            break
    if not remaining:
        raise TuneError(
            f"no candidate for {task} could be measured, the first said: {run.first_refusal()}",
            remedy="check the schedule with samoyeds-gen check",
        )
    final = [run.records[each.schedule] for each in remaining]
    return Found(
        winner=final[0],
        final=final,
        generated=len(everything),
        compiled=run.compiled,
        measured=run.measured,
        reused=run.reused,
        refused=run.refused,
    )


def _entering(
    task: Task,
    database: Database,
    bases: Sequence[Schedule] | None,
    number: int,
    only_recommended: bool,
) -> tuple[list[Candidate], list[Candidate]]:
    """Every candidate, and those that are compiled: at most `number` but for those to keep."""
    if only_recommended:
        return [], recommended(task, database, number)
    given = shipped_schedules(task.problem.format, task.problem.dtype) if bases is None else bases
    known = [] if bases is not None else recommended(task, database, number // SHARES)
    everything = _unlike(known, list(candidates(task, given)))
    keep = {*given, *(each.schedule for each in known)}
    return everything, prune(everything, number, keep=keep)


def _unlike(known: Sequence[Candidate], others: Sequence[Candidate]) -> list[Candidate]:
    """The known ones, and others that are none of them under another name."""
    taken = {anonymous(each.schedule) for each in known}
    return [*known, *(each for each in others if anonymous(each.schedule) not in taken)]


class _Run:
    """One search under way: what was compiled, measured and reused."""

    def __init__(
        self,
        task: Task,
        database: Database,
        measure: Measure,
        progress: Progress,
        total: int,
    ) -> None:
        self.task = task
        self.database = database
        self.measure = measure
        self.progress = progress
        self.total = total
        self.done = self.compiled = self.measured = self.reused = 0
        self.records: dict[Schedule, Record] = {}
        self.refused: list[tuple[Schedule, str]] = []

    def compile(self, build: Build, wanted: Sequence[Candidate]) -> list[Candidate]:
        """Those that compile cleanly, with the key of their code."""
        by_schedule = {each.schedule: each for each in wanted}
        built = []
        for schedule, made in build([each.schedule for each in wanted]):
            if isinstance(made, SamoyedsError):
                self.refused.append((schedule, str(made)))
                self.step(f"{schedule.name} is left out: {made}")
            else:
                self.compiled += 1
                built.append(replace(by_schedule[schedule], kernel=made))
                self.step(f"{schedule.name} compiled")
        return sorted(built, key=lambda each: (each.modelled_us, each.schedule.digest))

    def halve(self, rungs: Sequence[Rung], candidates: Sequence[Candidate]) -> list[Candidate]:
        """Those that the last of the rungs measured well, quickest first."""
        remaining = list(candidates)
        for rung in rungs:
            remaining = self.rung(rung, remaining)
        return remaining

    def refine(
        self, rungs: Sequence[Rung], build: Build, near: Sequence[Candidate]
    ) -> list[Candidate]:
        """Those of a winner's neighbours that the last two rungs leave, quickest first."""
        near = near[:NEIGHBOURS]
        steps = [replace(each, number=NEIGHBOURS) for each in rungs[-2:-1]]
        steps.append(replace(rungs[-1], number=BETTER))
        self.total += len(near) + sum(min(len(near), each.number) for each in steps)
        return self.halve(steps, self.compile(build, near))

    def rung(self, rung: Rung, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Measure a rung's candidates that have no measurement yet; the good ones, quickest first.

        The last rung measures its candidates together, the others one by one.
        """
        known = self.database.measured(**self.task.where, shape=self.task.shape, effort=rung.level)
        entering = candidates[: rung.number]
        missing = []
        for each in entering:
            record = known.get((each.schedule.digest, each.kernel))
            if record is None:
                missing.append(each)
            else:
                self.reused += 1
                self.records[each.schedule] = record
                self.step(f"{each.schedule.name} {_words(record)}, measured before")
        batches = [missing] if rung.level == FINAL else [[each] for each in missing]
        for batch in batches:
            self._measure(rung, batch)
        good = [each for each in entering if self.records[each.schedule].us is not None]
        return sorted(good, key=self.quickest)

    def _measure(self, rung: Rung, batch: Sequence[Candidate]) -> None:
        if not batch:
            return
        outcomes = self.measure([each.schedule for each in batch], rung.effort)
        made = []
        for each in batch:
            outcome = outcomes[each.schedule]
            record = Record(
                **self.task.where,
                shape=self.task.shape,
                schedule=each.schedule,
                effort=rung.level,
                us=outcome.us,
                status=outcome.status,
                note=outcome.note,
                kernel=each.kernel,
            )
            self.records[each.schedule] = record
            made.append(record)
            if outcome.us is None:
                self.refused.append((each.schedule, outcome.note))
        self.database.store(made)
        self.measured += len(made)
        for record in made:
            assert record.schedule is not None
            self.step(f"{record.schedule.name} {_words(record)}")

    def quickest(self, each: Candidate) -> tuple[float, str]:
        """The order of measured candidates."""
        return self.records[each.schedule].us or 0.0, each.schedule.digest

    def step(self, sentence: str) -> None:
        self.done += 1
        self.progress(min(self.done, self.total), self.total, sentence)

    def first_refusal(self) -> str:
        return self.refused[0][1] if self.refused else "nothing"


def _words(record: Record) -> str:
    return f"{record.us:.1f} us" if record.us is not None else f"{record.status}: {record.note}"
