"""The decorator that makes a function a schedule: run for a format, it gives a Schedule."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from samoyeds_gen.formats import Format
from samoyeds_gen.language.directives import Directives
from samoyeds_gen.language.dtypes import DType
from samoyeds_gen.language.kernels import Algorithm, Operand, WeightOperand
from samoyeds_gen.language.schedule import Schedule
from samoyeds_gen.language.targets import target_named


@dataclass(frozen=True, slots=True)
class ScheduleTemplate:
    """A schedule function with its algorithm and target; called with a format, gives a Schedule."""

    name: str
    algorithm: Algorithm
    target: str
    body: Callable[..., None]
    path: str

    def __call__(self, format: Format, dtype: DType) -> Schedule:
        """Run the body for one weight format and dtype."""
        directives = Directives(self.name, self.algorithm, self.target, self.path)
        self.body(directives, WeightOperand(format, dtype), Operand("tokens"), Operand("out"))
        return directives.finish()


def schedule(
    algorithm: Algorithm, *, target: str
) -> Callable[[Callable[..., None]], ScheduleTemplate]:
    """Make a function a schedule of `algorithm` for `target` (the least architecture) and later.

    The function receives the directives and the algorithm's operands, in order.
    """
    target_named(target)

    def decorate(body: Callable[..., None]) -> ScheduleTemplate:
        path = body.__code__.co_filename
        return ScheduleTemplate(body.__name__, algorithm, target, body, str(Path(path)))

    return decorate
