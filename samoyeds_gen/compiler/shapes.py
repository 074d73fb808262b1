"""The pipeline shapes: a schedule's copy atom decides which passes and templates make its kernel.

A new pipeline shape is one package beside `ring`, one template file, and one row here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from samoyeds_gen.compiler import ring, stream, warp_specialised
from samoyeds_gen.compiler.plan import Pass, Plan
from samoyeds_gen.compiler.rules import Rule
from samoyeds_gen.compiler.text import KernelText
from samoyeds_gen.language.atoms import CP_ASYNC_16B, LDG_STREAM_16B, TMA, copy_atom_named
from samoyeds_gen.language.kernels import Ssmm
from samoyeds_gen.language.schedule import Schedule
from samoyeds_gen.language.targets import Target


@dataclass(frozen=True, slots=True)
class PipelineShape:
    """One pipeline shape: its rules, the plan's skeleton, and what it does in each pass."""

    copy: str
    rules: dict[str, Rule]
    lower: Callable[[Schedule, Ssmm, Target], Plan]
    add_buffers: Pass
    add_operations: Pass
    order: Pass
    verify_synchronisation: Pass
    name_constants: Pass
    text: Callable[..., KernelText]


RING = PipelineShape(
    CP_ASYNC_16B.name,
    ring.RULES,
    ring.lower,
    ring.add_buffers,
    ring.add_operations,
    ring.order_loop,
    ring.verify_synchronisation,
    ring.name_constants,
    ring.RingText,
)
WARP_SPECIALISED = PipelineShape(
    TMA.name,
    warp_specialised.RULES,
    warp_specialised.lower,
    warp_specialised.add_buffers,
    warp_specialised.add_operations,
    warp_specialised.order_loop,
    warp_specialised.verify_synchronisation,
    warp_specialised.name_constants,
    warp_specialised.SpecialisedText,
)
STREAM = PipelineShape(
    LDG_STREAM_16B.name,
    stream.RULES,
    stream.lower,
    stream.add_buffers,
    stream.add_operations,
    stream.order_loop,
    stream.verify_synchronisation,
    stream.name_constants,
    stream.StreamText,
)
SHAPES = (RING, WARP_SPECIALISED, STREAM)


def shape_of(schedule: Schedule) -> PipelineShape:
    """The shape of a schedule. Raises `ScheduleError` for a copy atom that does not exist."""
    copy = copy_atom_named(schedule.pipeline.copy).name
    return next(shape for shape in SHAPES if shape.copy == copy)
