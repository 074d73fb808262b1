"""The compiler in one screen: an ordered list of named passes, verified as it goes."""

from collections.abc import Callable

from samoyeds_gen.compiler.constants import name_constants
from samoyeds_gen.compiler.legality import check_legal
from samoyeds_gen.compiler.lower import add_buffers, lower
from samoyeds_gen.compiler.pipeline import add_operations, order_loop, verify_synchronisation
from samoyeds_gen.compiler.plan import Plan
from samoyeds_gen.compiler.storage import place_buffers
from samoyeds_gen.language.kernels import Ssmm
from samoyeds_gen.language.schedule import Schedule
from samoyeds_gen.language.targets import Target, target_named

PASSES: tuple[tuple[str, Callable[[Plan], Plan]], ...] = (
    # What lies in shared memory and registers, and for how long.
    ("buffers", add_buffers),
    # What happens: setup, prologue, loop body, epilogue.
    ("operations", add_operations),
    # The loop body in an order that its dependences allow.
    ("order", order_loop),
    # Every hazard has its wait and its barrier, and the ring is deep enough.
    ("synchronisation", verify_synchronisation),
    # Byte offsets; buffers of disjoint lives share bytes.
    ("storage", place_buffers),
    # Names for every number of the emitted file.
    ("constants", name_constants),
)


def compile_plan(schedule: Schedule, problem: Ssmm, target: Target | None = None) -> Plan:
    """Lower a schedule for a problem; `target` defaults to the schedule's own.

    Raises `ScheduleError` with the rule's name and the schedule's line if it is not legal.
    """
    target = target or target_named(schedule.target)
    check_legal(schedule, problem, target)
    plan = lower(schedule, problem, target)
    for _, run in PASSES:
        plan = run(plan)
    return plan
