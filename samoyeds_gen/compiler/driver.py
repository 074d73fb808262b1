"""The compiler in one screen: an ordered list of named passes, verified as it goes."""

from dataclasses import replace

from samoyeds_gen.compiler.legality import check_legal
from samoyeds_gen.compiler.plan import Pass, Plan
from samoyeds_gen.compiler.shapes import PipelineShape, shape_of
from samoyeds_gen.compiler.storage import place_buffers
from samoyeds_gen.language.kernels import Ssmm
from samoyeds_gen.language.schedule import Schedule
from samoyeds_gen.language.targets import Target, target_named


def passes(shape: PipelineShape) -> tuple[tuple[str, Pass], ...]:
    """The passes from a plan's skeleton to a plan that can be emitted, in order."""
    return (
        # What lies in shared memory and registers, and for how long.
        ("buffers", shape.add_buffers),
        # What happens: setup, prologue, loop body, epilogue.
        ("operations", shape.add_operations),
        # The loop body in an order that its dependences allow.
        ("order", shape.order),
        # Every hazard has its wait and its barrier, and the ring is deep enough.
        ("synchronisation", shape.verify_synchronisation),
        # Byte offsets; buffers of disjoint lives share bytes.
        ("storage", place_buffers),
        # Names for every number of the emitted file.
        ("constants", shape.name_constants),
    )


def compile_plan(schedule: Schedule, problem: Ssmm, target: Target | None = None) -> Plan:
    """Lower a schedule for a problem; `target` defaults to the schedule's own.

    Raises `ScheduleError` with the rule's name and the schedule's line if it is not legal.
    """
    target = target or target_named(schedule.target)
    check_legal(schedule, problem, target)
    shape = shape_of(schedule)
    if schedule.pack.gather == "before":  # the kernel then takes its tokens in order
        problem = replace(problem, index=None)
    plan = shape.lower(schedule, problem, target)
    for _, run in passes(shape):
        plan = run(plan)
    return plan
