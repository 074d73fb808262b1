"""One measurement as tuning keeps it: what was timed, where, how well, and what came out."""

from dataclasses import dataclass
from typing import Final, Literal

from samoyeds_gen.language import Schedule
from samoyeds_gen.tune.suites import Shape

Status = Literal["ok", "wrong", "failed"]

FINAL: Final = 100
"""The effort of a measurement that choices may rest on; smaller ones only sort candidates out."""

USER: Final = "user"
"""The origin of what was measured on this machine; shipped tables have their file's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A timed schedule; `schedule` None is the dense product of a library at the same shape.

    `us` is microseconds a launch, None unless `status` is "ok"; `kernel` names the compiled code,
    so that a changed compiler is measured again; `effort` is how long it was timed.
    """

    gpu: str
    format: str
    dtype: str
    shape: Shape
    schedule: Schedule | None
    effort: int
    us: float | None
    status: Status = "ok"
    note: str = ""
    kernel: str = ""
    origin: str = USER

    @property
    def digest(self) -> str:
        """The schedule's digest; empty for the dense product."""
        return self.schedule.digest if self.schedule else ""

    @property
    def key(self) -> tuple[str, str, str, int, int, int]:
        """What a table is looked up by, before buckets: GPU, format, dtype and shape."""
        return (self.gpu, self.format, self.dtype, *self.shape)
