"""The plan of a routing kernel: its numbers, its sections in order, and how it is launched."""

from dataclasses import dataclass

from samoyeds_gen.compiler.ops import State
from samoyeds_gen.compiler.plan import ConstantGroup, Parameter, Wrapper
from samoyeds_gen.compiler.routing.problem import Combine, Step
from samoyeds_gen.language.targets import Target


@dataclass(frozen=True, slots=True)
class Claim:
    """A static assertion of the emitted file."""

    condition: str
    sentence: str


@dataclass(frozen=True, slots=True)
class TypeName:
    """A type's name in the emitted file."""

    name: str
    spelling: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingPlan:
    """One kernel, ready to be emitted. `functions` and `sections` name macros, in order."""

    entry: str
    problem: Step | Combine
    target: Target
    summary: tuple[str, ...]
    template: str
    threads: int
    shared_bytes: int
    types: tuple[TypeName, ...]
    constants: tuple[ConstantGroup, ...]
    claims: tuple[Claim, ...]
    wrappers: tuple[Wrapper, ...]
    functions: tuple[State, ...]
    sections: tuple[State, ...]
    parameters: tuple[Parameter, ...]

    @property
    def source_name(self) -> str:
        """The name NVRTC reports errors under."""
        return f"{self.entry}.cu"

    def constant(self, name: str) -> int:
        """The value of a named constant; KeyError if there is none."""
        return {c.name: c.value for group in self.constants for c in group.constants}[name]


def print_routing_plan(plan: RoutingPlan) -> str:
    """One line a constant, parameter and section, as the kernel has them."""
    constants = [each for group in plan.constants for each in group.constants]
    lines = [
        f"kernel {plan.entry}",
        f"threads {plan.threads}  shared {plan.shared_bytes} B",
        *(f"constant {each.name:<14} {each.value:<8} {each.note}" for each in constants),
        *(f"parameter {each.name:<13} {each.note}" for each in plan.parameters),
        *(f"function {each.text}" for each in plan.functions),
        *(f"section {each.text}" for each in plan.sections),
    ]
    return "\n".join(lines) + "\n"
