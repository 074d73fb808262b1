"""Advice for a shape: which format and schedule to use, what to expect, when dense is better."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from samoyeds_gen.errors import TuneError
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import Choice
from samoyeds_gen.language import make_ssmm, target_named
from samoyeds_gen.tune.choice import Task, dense_expected, rank
from samoyeds_gen.tune.database import Database
from samoyeds_gen.tune.machines import Machine
from samoyeds_gen.tune.suites import Shape

FORMATS: Final = tuple(
    Format(*each)
    for each in (
        (1, 2, 128),
        (1, 2, 64),
        (1, 2, 32),
        (1, 2, 16),
        (4, 8, 32),
        (8, 16, 32),
        (1, 1, 64),
    )
)
"""What is compared unless formats are asked for: 75 % sparsity, the coarsest first, then 2:4."""

WORTH: Final = 1.05
"""Speed-ups below this are within what the model and a changed clock leave open."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One format at one shape: what would run, how long it is expected to take, how much quicker
    than dense that is, and the share of a dense weight's bytes.
    """

    format: Format
    choice: Choice
    us: float
    speedup: float
    bytes_share: float


@dataclass(frozen=True, slots=True)
class Advice:
    """Offers, quickest first, beside the dense product; `best` is None where dense is better."""

    shape: Shape
    machine: Machine
    dense_us: float
    dense_source: str
    offers: list[Offer]

    @property
    def best(self) -> Offer | None:
        """The quickest offer that is worth it."""
        first = self.offers[0] if self.offers else None
        return first if first is not None and first.speedup >= WORTH else None

    @property
    def sentence(self) -> str:
        """What to do, in one line."""
        best = self.best
        if best is None:
            most = f", the best format reaches {self.offers[0].speedup:.2f}x" if self.offers else ""
            return f"keep the weight dense: {self.dense_us:.1f} us{most}"
        return (
            f"use ({best.format}) with {best.choice.schedule.name}: {best.us:.1f} us instead of "
            f"{self.dense_us:.1f} us dense, {best.speedup:.2f}x"
        )


def advise(
    shape: Shape,
    machine: Machine,
    database: Database,
    *,
    formats: Sequence[Format] = FORMATS,
    dtype: str = "bfloat16",
) -> Advice:
    """Compare formats at a shape on a GPU, which need not be present.

    A format that no shipped schedule takes is left out. Raises TuneError when none is left.
    """
    target = target_named(machine.target)
    tasks = [Task(machine, target, make_ssmm(each, dtype), shape) for each in formats]
    dense, source = dense_expected(tasks[0], database)
    offers = []
    refusal: TuneError | None = None
    for task in tasks:
        try:
            choice = rank(task, database)[0]
        except TuneError as error:
            refusal = error
            continue
        format, us = task.problem.format, choice.expected_us or float("inf")
        offers.append(Offer(format, choice, us, dense / us, stored_share(format)))
    if refusal is not None and not offers:
        raise refusal
    return Advice(shape, machine, dense, source, sorted(offers, key=lambda each: each.us))


def stored_share(format: Format) -> float:
    """Stored bytes over those of a dense 16-bit weight: values, a nibble per group, a byte per
    sub-row.
    """
    values, nibbles = format.density, format.density / 8
    indices = 0.0 if format.plain else format.n / format.m / format.v / 2
    return values + nibbles + indices
