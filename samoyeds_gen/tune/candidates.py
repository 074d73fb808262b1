"""Candidates of a search: every legal variant, what the model keeps, and a winner's neighbours."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Final

from samoyeds_gen.language import Schedule, Ssmm, Target
from samoyeds_gen.tune.choice import Task, legal, modelled, rank
from samoyeds_gen.tune.database import Database
from samoyeds_gen.tune.naming import named
from samoyeds_gen.tune.shapes import tuned_shape

PARTS: Final = tuple(each.name for each in fields(Schedule) if each.name not in ("name", "where"))
"""What makes a schedule, its name and where it was written apart."""

ALIKE: Final = 3
"""Candidates of one tile, warps and way of the weight that are kept: the model hardly tells their
depths apart.
"""


SHARES: Final = 8
"""One part in so many of what is kept belongs to each pipeline shape, however it is modelled, and
one to what measurements recommend.
"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A legal schedule, its modelled time, and the key of its compiled code once it has one.

    A variant of `base` has the base's name until it is one of few: names cost more than the model.
    """

    schedule: Schedule
    modelled_us: float
    kernel: str = ""
    base: Schedule | None = None

    def under_its_name(self) -> "Candidate":
        """The same with a name that tells it from others."""
        if self.base is None:
            return self
        return dataclasses.replace(self, schedule=_named(self.schedule, self.base), base=None)


def candidates(task: Task, bases: Sequence[Schedule]) -> Iterator[Candidate]:
    """Every legal variant of the bases once, with its modelled time."""
    seen: set[Schedule] = set()
    for base in bases:
        for schedule in legal_variants(base, task.problem, task.target):
            if anonymous(schedule) not in seen:
                seen.add(anonymous(schedule))
                yield Candidate(schedule, modelled(schedule, task).us, base=base)


def recommended(task: Task, database: Database, number: int) -> list[Candidate]:
    """What measurements recommend for the task, the best `number` of it.

    The user's own of this shape do not count: a search that goes on would recommend others.
    """
    ranked = rank(task, database, own=False)
    known = [each.schedule for each in ranked if each.source != "model"]
    return [Candidate(each, modelled(each, task).us) for each in known[:number]]


def anonymous(schedule: Schedule) -> Schedule:
    """What a schedule is, whatever it is called."""
    return dataclasses.replace(schedule, name="", where=())


@cache
def legal_variants(base: Schedule, problem: Ssmm, target: Target) -> tuple[Schedule, ...]:
    """The legal variants of a base, which is the first; the same for every shape."""
    variants = tuned_shape(base).variants(base, problem, target)
    return tuple(each for each in dict.fromkeys(variants) if legal(each, problem, target))


def _named(variant: Schedule, base: Schedule) -> Schedule:
    return base if variant == base else named(variant, base.name)


def prune(everything: Sequence[Candidate], number: int, *, keep: set[Schedule]) -> list[Candidate]:
    """The `number` quickest by the model under names of their own, at most a few of one tile.

    First those to keep, then some of every pipeline shape: between shapes the model errs more than
    within one.
    """
    ordered = sorted(everything, key=lambda each: each.modelled_us)
    kept = [each for each in ordered if each.schedule in keep]
    alike: dict[object, int] = {}
    shares: dict[str, int] = {}
    for share in (max(1, number // SHARES), number):
        for each in ordered:
            schedule = each.schedule
            like = (schedule.tile, schedule.warps, schedule.stationary, schedule.pack)
            copy = schedule.pipeline.copy
            full = len(kept) >= number or shares.get(copy, 0) >= share
            if full or each in kept or alike.get(like, 0) >= ALIKE:
                continue
            alike[like] = alike.get(like, 0) + 1
            shares[copy] = shares.get(copy, 0) + 1
            kept.append(each)
    return [each.under_its_name() for each in kept[: max(number, len(keep))]]


def neighbours(winner: Schedule, everything: Sequence[Candidate]) -> list[Candidate]:
    """Candidates that differ from the winner in exactly one choice, quickest by the model first."""
    mine = _choices(winner)
    near = []
    for each in everything:
        if _parts_apart(each.schedule, winner) > MOST_PARTS:
            continue
        theirs = _choices(each.schedule)
        differ = sum(value != theirs[name] for name, value in mine.items())
        if differ == 1 and each.schedule.pipeline.copy == winner.pipeline.copy:
            near.append(each.under_its_name())
    return sorted(near, key=lambda each: each.modelled_us)


MOST_PARTS: Final = 3
"""Parts of a schedule that one choice may change: a tile, its warps and its swizzles."""


def _parts_apart(one: Schedule, other: Schedule) -> int:
    """In how many parts two schedules differ, names apart."""
    return sum(getattr(one, name) != getattr(other, name) for name in PARTS)


TOGETHER: Final = {"tile.m": "rows", "warps": "rows", "tile.k": "columns", "layout": "columns"}
"""Values of one choice: warps come with the rows they own, swizzles with a row's length."""


def _choices(schedule: Schedule) -> dict[str, list[object]]:
    """A schedule's values by the choice that decides them; its name is none."""
    choices: dict[str, list[object]] = {}
    for part in PARTS:
        value = getattr(schedule, part)
        leaves = (
            [(f"{part}.{each.name}", getattr(value, each.name)) for each in fields(value)]
            if dataclasses.is_dataclass(value)
            else [(part, value)]
        )
        for path, leaf in leaves:
            choice = TOGETHER.get(path, TOGETHER.get(part, path))
            choices.setdefault(choice, []).append(leaf)
    return choices
