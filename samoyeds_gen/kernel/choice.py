"""Which schedule a kernel has, and why: given by the caller, or chosen by the tune room."""

from dataclasses import dataclass
from typing import Literal

from samoyeds_gen.language import Schedule

Source = Literal["given", "table", "nearest", "model"]


@dataclass(frozen=True, slots=True)
class Choice:
    """A schedule and where it came from.

    `source` is "given" by the caller, the tuning "table" for this very shape, the "nearest" entries
    of the table, or the analytic "model" alone. `expected_us` is the time of a launch that this
    foresees, None for a given schedule.
    """

    schedule: Schedule
    source: Source
    reason: str
    expected_us: float | None = None

    def __str__(self) -> str:
        about = f", {self.expected_us:.1f} us expected" if self.expected_us is not None else ""
        return f"{self.schedule.name} {self.schedule.digest}: {self.reason}{about}"


def given(schedule: Schedule) -> Choice:
    """The choice of a caller who names the schedule."""
    return Choice(schedule, "given", "given by the caller")
