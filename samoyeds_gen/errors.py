"""Every refusal of the package, one tree and one shape.

A message is one sentence: where, which rule, what was given, what is allowed, and after a
semicolon the remedy. `assert` marks our own bugs; a `SamoyedsError` is about the caller's input.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a user's file: path as given by the user, and 1-based line."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


class SamoyedsError(Exception):
    """Base of every refusal.

    `sentence` says what was given and what is allowed, `remedy` what to do instead, `rule` names
    the broken rule, `where` the place it was written. `str(error)` joins them in one line.
    """

    def __init__(
        self,
        sentence: str,
        *,
        remedy: str | None = None,
        rule: str | None = None,
        where: Where | None = None,
    ) -> None:
        self.sentence = sentence
        self.remedy = remedy
        self.rule = rule
        self.where = where
        head = "".join(f"{part}: " for part in (where, rule) if part is not None)
        tail = f"; {remedy}" if remedy else ""
        super().__init__(f"{head}{sentence}{tail}")


class FormatError(SamoyedsError):
    """A weight, a format or a weight file that is not what it claims to be."""


class ScheduleError(SamoyedsError):
    """A schedule that is malformed or breaks a legality rule; carries `rule` and `where`."""


class CompileError(SamoyedsError):
    """NVRTC refused the emitted source, or its resource report breaks the schedule's limits."""


class LaunchError(SamoyedsError):
    """A call whose arguments, device or size cannot be run."""


class CheckError(SamoyedsError):
    """A check request that cannot be carried out (unknown example count, profile, device)."""


class TuneError(SamoyedsError):
    """A measurement, search or choice of a schedule that cannot be carried out."""


class ModelError(SamoyedsError):
    """A layer, a model or its calibration that cannot be pruned as asked."""
