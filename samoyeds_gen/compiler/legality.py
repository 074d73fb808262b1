"""Whether a schedule is legal for a problem and a target: the rules of its pipeline shape in order.

`check_legal` raises for the first broken rule, citing the line of the directive that broke it.
"""

from samoyeds_gen.compiler.rules import Case, Rule
from samoyeds_gen.compiler.shapes import SHAPES, shape_of
from samoyeds_gen.errors import ScheduleError
from samoyeds_gen.language.kernels import Ssmm
from samoyeds_gen.language.schedule import Schedule
from samoyeds_gen.language.targets import Target

RULES: dict[str, Rule] = {name: rule for shape in SHAPES for name, rule in shape.rules.items()}


def first_violation(schedule: Schedule, problem: Ssmm, target: Target) -> str | None:
    """The name of the first broken rule, None for a legal schedule."""
    case = Case(schedule, problem, target)
    return next((name for name, rule in shape_of(schedule).rules.items() if rule(case)), None)


def check_legal(schedule: Schedule, problem: Ssmm, target: Target) -> None:
    """Raise `ScheduleError` for the first broken rule, with the line that broke it."""
    case = Case(schedule, problem, target)
    for name, rule in shape_of(schedule).rules.items():
        violation = rule(case)
        if violation is not None:
            raise ScheduleError(
                violation.sentence,
                rule=name,
                remedy=violation.remedy,
                where=schedule.place_of(violation.directive),
            )
