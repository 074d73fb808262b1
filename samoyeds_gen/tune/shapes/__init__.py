"""What tuning knows of each pipeline shape: the values worth trying, and what a step of it costs.

A new pipeline shape is one module beside ring.py and one row here; until it has one its shipped
schedules are candidates as they are, and plain.py reckons with their tiles.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from samoyeds_gen.language import Schedule, Ssmm, Target, atoms
from samoyeds_gen.tune.demand import Demand
from samoyeds_gen.tune.machines import Machine
from samoyeds_gen.tune.shapes import plain, ring, stream, warp_specialised
from samoyeds_gen.tune.suites import Shape


@dataclass(frozen=True, slots=True)
class TunedShape:
    """One pipeline shape: `copy` is its copy atom.

    `variants(base, problem, target)` yields schedules near a shipped one, legal or not, without
    names; `demand(schedule, problem, target, shape, machine)` is what the model reckons with.
    """

    copy: str
    variants: Callable[[Schedule, Ssmm, Target], Iterator[Schedule]]
    demand: Callable[[Schedule, Ssmm, Target, Shape, Machine], Demand]


SHAPES = (
    TunedShape(atoms.CP_ASYNC_16B.name, ring.variants, ring.demand),
    TunedShape(atoms.LDG_STREAM_16B.name, stream.variants, stream.demand),
    TunedShape(atoms.TMA.name, warp_specialised.variants, warp_specialised.demand),
)


def tuned_shape(schedule: Schedule) -> TunedShape:
    """The row of a schedule's pipeline shape, else one that varies nothing."""
    copy = schedule.pipeline.copy
    found = (shape for shape in SHAPES if shape.copy == copy)
    return next(found, TunedShape(copy, plain.variants, plain.demand))


__all__ = ["SHAPES", "TunedShape", "tuned_shape"]
