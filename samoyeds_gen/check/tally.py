"""Simulator counters added up over the runs of a check."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from samoyeds_gen.simulator import Report


@dataclass(slots=True)
class Tally:
    """Simulator counters added up over many runs."""

    runs: int = 0
    instructions: int = 0
    barriers: int = 0
    opcodes: Counter[str] = field(default_factory=Counter)
    shared_wavefronts: dict[str, tuple[int, int]] = field(default_factory=dict)
    global_sectors: Counter[str] = field(default_factory=Counter)
    global_requests: Counter[str] = field(default_factory=Counter)

    def add(self, report: Report) -> None:
        """Add one run."""
        c = report.counters
        self.merge(
            Tally(
                1,
                c.instructions,
                c.barriers,
                c.opcodes,
                c.shared_wavefronts,
                c.global_sectors,
                c.global_requests,
            )
        )

    def merge(self, other: "Tally") -> None:
        """Add another tally."""
        self.runs += other.runs
        self.instructions += other.instructions
        self.barriers += other.barriers
        self.opcodes.update(other.opcodes)
        self.global_sectors.update(other.global_sectors)
        self.global_requests.update(other.global_requests)
        for kind, (actual, ideal) in other.shared_wavefronts.items():
            before = self.shared_wavefronts.get(kind, (0, 0))
            self.shared_wavefronts[kind] = (before[0] + actual, before[1] + ideal)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; wavefronts as [actual, ideal]."""
        return {
            "runs": self.runs,
            "instructions": self.instructions,
            "barriers": self.barriers,
            "opcodes": dict(self.opcodes.most_common()),
            "shared_wavefronts": {k: list(v) for k, v in self.shared_wavefronts.items()},
            "global_sectors": dict(self.global_sectors),
            "global_requests": dict(self.global_requests),
        }
