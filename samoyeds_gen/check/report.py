"""What a check did and found, kernel by kernel, as values, JSON and text."""

import json
from dataclasses import dataclass
from typing import Any

from samoyeds_gen.check.failure import Failure
from samoyeds_gen.check.subjects import Subject
from samoyeds_gen.check.tally import Tally


@dataclass(frozen=True, slots=True)
class KernelReport:
    """One kernel on one device: cases run, what it uses, and how it failed if it did."""

    subject: Subject
    device: str
    examples: int
    seconds: float
    registers: int | None
    shared_bytes: int | None
    failure: Failure | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        problem = self.subject.problem
        return {
            "kernel": str(self.subject),
            "format": str(problem.format),
            "dtype": problem.dtype.name,
            "fold": self.subject.fold,
            "weights": self.subject.weights,
            "target": self.subject.target.name,
            "device": self.device,
            "examples": self.examples,
            "seconds": round(self.seconds, 3),
            "registers": self.registers,
            "shared_bytes": self.shared_bytes,
            "passed": self.failure is None,
        }


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found. `devices` maps "cpu" and "gpu" to a name, or to why it was not used."""

    schedule: str
    profile: str
    devices: dict[str, str]
    kernels: tuple[KernelReport, ...]
    counters: Tally
    seconds: float

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Every failure, at most one a kernel and device."""
        return tuple(each.failure for each in self.kernels if each.failure is not None)

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    @property
    def examples(self) -> dict[str, int]:
        """Cases run, by device."""
        counts: dict[str, int] = {}
        for each in self.kernels:
            counts[each.device] = counts.get(each.device, 0) + each.examples
        return counts

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "schedule": self.schedule,
            "profile": self.profile,
            "passed": self.passed,
            "devices": self.devices,
            "examples": self.examples,
            "seconds": round(self.seconds, 3),
            "kernels": [each.as_dict() for each in self.kernels],
            "counters": self.counters.as_dict(),
            "failures": [each.as_dict() for each in self.failures],
        }

    def to_json(self) -> str:
        """The report as JSON text; NaN and infinity are written as strings."""
        return json.dumps(_finite(self.as_dict()), indent=2, allow_nan=False)

    def __str__(self) -> str:
        kernels = len({str(each.subject) for each in self.kernels})
        verdict = "passed" if self.passed else f"{len(self.failures)} failed"
        lines = [f"{self.schedule}: {kernels} kernels, {self.seconds:.1f} s, {verdict}"]
        for device, name in self.devices.items():
            ran = self.examples.get(device)
            lines.append(f"  {device}: {name}" + (f", {ran} examples" if ran else ""))
        return "\n".join([*lines, *(f"\n{failure}" for failure in self.failures)])


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: those become strings."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value
