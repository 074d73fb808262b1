"""Choosing and measuring: benchmarks against peers, the search for schedules, and `compile`.

Choosing needs neither torch nor a GPU; what measures imports torch in modules of its own.
"""

from samoyeds_gen.tune.auto import AutoKernel, compile, present_machine
from samoyeds_gen.tune.choice import Task, dense_expected, rank
from samoyeds_gen.tune.database import Database, open_database
from samoyeds_gen.tune.machines import MACHINES, Machine, machine_named
from samoyeds_gen.tune.suites import SUITES, Shape, group_of, suite_named

__all__ = [
    "MACHINES",
    "SUITES",
    "AutoKernel",
    "Database",
    "Machine",
    "Shape",
    "Task",
    "compile",
    "dense_expected",
    "group_of",
    "machine_named",
    "open_database",
    "present_machine",
    "rank",
    "suite_named",
]
