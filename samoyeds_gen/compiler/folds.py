"""Which fold a kernel really needs."""

from samoyeds_gen.compiler.plan import PlanFold
from samoyeds_gen.language.kernels import Ssmm
from samoyeds_gen.language.schedule import Schedule


def plan_fold(schedule: Schedule, problem: Ssmm) -> PlanFold:
    """The schedule's fold; with N = M no sub-row is absent, and rows stay in place."""
    return "direct" if problem.format.n == problem.format.m else schedule.stationary.fold
