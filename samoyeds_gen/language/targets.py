"""GPU targets as data: the limits a schedule must fit.

Figures are from the CUDA C++ Programming Guide, "Compute Capabilities" (technical
specifications per compute capability); 1 KB of each SM's shared memory is reserved per CTA.
"""

from dataclasses import dataclass

from samoyeds_gen.errors import ScheduleError


@dataclass(frozen=True, slots=True)
class Target:
    """One architecture: shared memory in bytes, registers in 32-bit words."""

    name: str
    capability: int
    shared_per_cta: int
    shared_per_sm: int
    threads_per_sm: int
    registers_per_sm: int = 65536
    registers_per_thread: int = 255

    @property
    def specific(self) -> bool:
        """Whether code for it runs on this architecture alone (the `a` suffix)."""
        return self.name.endswith("a")

    def accepts(self, least: "Target") -> bool:
        """Whether a schedule written for `least` may be compiled for this target."""
        if least.specific:
            return self == least
        return self.capability >= least.capability


KB = 1024
TARGETS = (
    Target("sm_80", 80, 163 * KB, 164 * KB, 2048),
    Target("sm_86", 86, 99 * KB, 100 * KB, 1536),
    Target("sm_89", 89, 99 * KB, 100 * KB, 1536),
    Target("sm_90a", 90, 227 * KB, 228 * KB, 2048),
    Target("sm_100a", 100, 227 * KB, 228 * KB, 2048),
    Target("sm_120a", 120, 99 * KB, 100 * KB, 1536),
)


def target_named(name: str) -> Target:
    """Look a target up by name. Raises `ScheduleError` naming the known ones."""
    for target in TARGETS:
        if target.name == name:
            return target
    names = ", ".join(target.name for target in TARGETS)
    raise ScheduleError(
        f"target {name!r} is not one of {names}", rule="target-known", remedy=f"use one of {names}"
    )
