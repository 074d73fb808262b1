"""A PTX module as data: variables, functions, instructions and their operands.

Names are already resolved: a nested scope's registers and labels carry a suffix that makes them
unique in their function. Meaning is given elsewhere, by the rows of `instructions`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Site:
    """Where an instruction stands: opcode, 1-based PTX line, and the source line if `.loc` says."""

    opcode: str
    line: int
    source: str | None = None

    def __str__(self) -> str:
        source = f", {self.source}" if self.source else ""
        return f"PTX line {self.line}{source}: {self.opcode}"


@dataclass(frozen=True, slots=True)
class Register:
    """A virtual register; `type` is its declared type without the dot, `pred` for predicates."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Immediate:
    """A literal: an integer, or the bits of a float literal with `type` f32 or f64."""

    value: int
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Special:
    """A special register such as `tid.x`, without the percent sign."""

    name: str


@dataclass(frozen=True, slots=True)
class Symbol:
    """A label, variable, parameter or function, plus a byte offset."""

    name: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Address:
    """A bracketed operand: base plus byte offset; `coordinates` only for tensor copies."""

    base: "Register | Symbol | Immediate | Special"
    offset: int = 0
    coordinates: "Vector | None" = None


@dataclass(frozen=True, slots=True)
class Negated:
    """A predicate read inverted, written with an exclamation mark."""

    register: Register


@dataclass(frozen=True, slots=True)
class Pair:
    """Two destinations written `first|second`, as setp and shfl have."""

    first: "Register | Sink"
    second: "Register | Sink"


@dataclass(frozen=True, slots=True)
class Sink:
    """The underscore: a result nobody wants."""


@dataclass(frozen=True, slots=True)
class Vector:
    """Operands in braces, or the argument list of a call."""

    items: "tuple[Operand, ...]"


Operand = Register | Immediate | Special | Symbol | Address | Negated | Pair | Sink | Vector


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; `guard` is its predicate and whether it is negated."""

    opcode: str
    operands: tuple[Operand, ...]
    site: Site
    guard: tuple[Register, bool] | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """A branch target, or the name of a `.branchtargets` list (then `targets` is set)."""

    name: str
    targets: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Variable:
    """A declared variable: state space, size and alignment in bytes, initial bytes if given.

    Size 0 is an extern array: the dynamic shared memory of the launch.
    """

    name: str
    space: str
    size: int
    align: int
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Function:
    """A kernel (`entry`) or device function with its flat body and its variables.

    `cluster` is what `.reqnctapercluster` asks for (a single dimension), `register_limit` what
    `.maxnreg` does.
    """

    name: str
    entry: bool
    parameters: tuple[Variable, ...]
    results: tuple[Variable, ...]
    body: tuple[Instruction | Label, ...]
    variables: tuple[Variable, ...]
    cluster: int | None = None
    register_limit: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A parsed PTX module. `target` is its `.target`, for example `sm_90a`."""

    target: str
    functions: Mapping[str, Function]
    variables: tuple[Variable, ...]
    cache: dict[object, object] = field(default_factory=dict, repr=False)

    @property
    def entries(self) -> tuple[str, ...]:
        """Names of the kernels of this module, in order of appearance."""
        return tuple(name for name, function in self.functions.items() if function.entry)


def named_registers(operands: tuple[Operand, ...]) -> tuple[Register, ...]:
    """Every register that operands mention."""
    found: list[Register] = []
    for operand in operands:
        match operand:
            case Register():
                found.append(operand)
            case Negated(register):
                found.append(register)
            case Pair(first, second):
                found.extend(named_registers((first, second)))
            case Vector(items):
                found.extend(named_registers(items))
            case Address(base, _, coordinates):
                found.extend(named_registers((base, *(coordinates.items if coordinates else ()))))
            case _:
                pass
    return tuple(found)


def written(instruction: Instruction) -> tuple[Register, ...]:
    """The registers that an instruction writes: those of its first operand, unless that is an
    address, as in a store.
    """
    target = instruction.operands[:1]
    return () if target and isinstance(target[0], Address) else named_registers(target)
