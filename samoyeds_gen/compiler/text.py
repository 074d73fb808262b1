"""What templates see as `kernel`: the plan, and the words it implies. Knows no Jinja."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar

from samoyeds_gen.compiler.ops import Op
from samoyeds_gen.compiler.plan import Buffer, Parameter, Plan
from samoyeds_gen.language.kernels import Ssmm

Macros = Callable[[str, tuple[str, ...]], Callable[..., str]]
"""Finds the macro of a name in some template files."""


@dataclass(frozen=True, slots=True)
class Swizzled:
    """One swizzle function of the emitted file."""

    name: str
    note: str
    expression: str


class KernelText:
    """The words every pipeline shape's templates use; each shape adds its own."""

    operations: ClassVar[tuple[str, ...]] = ()

    def __init__(self, plan: Plan, macros: Macros) -> None:
        self.plan = plan
        self._macros = macros
        self.nan = plan.problem.out_dtype.nan
        self.index_type = {"int32": "int", "int64": "long long", None: ""}[plan.problem.index]
        self.token_row = "selection[i]" if plan.problem.index else "i"
        self._name_problem(plan.problem)

    def _name_problem(self, problem: Ssmm) -> None:
        """What the weight is, and where a tile's rows of the output and their features lie."""
        self.grouped, self.gated = problem.grouped, problem.gated
        self.ungrouped = not problem.grouped
        self.first_token = "first_row" if problem.grouped else "tile_n * kTileN"
        self.last_token = "last_row" if problem.grouped else "n"
        self.bias = "(bias + expert * m)" if problem.grouped else "bias"
        self.features = "m / 2" if problem.gated else "m"

    def __getattr__(self, name: str) -> object:
        return getattr(self.plan, name)

    @property
    def origin(self) -> str:
        """Where the schedule came from, without directories of this machine."""
        path = self.plan.schedule.source_path
        return f"schedules/{PurePosixPath(path).name}" if path else "a schedule value"

    def separator(self, parameter: Parameter) -> str:
        """A comma behind every parameter but the last."""
        return "" if parameter is self.plan.parameters[-1] else ","

    def macro(self, name: str) -> Callable[..., str]:
        """The macro of this name, from whichever operation template has it."""
        return self._macros(name, self.operations)

    def render(self, op: Op) -> str:
        """The text of one operation, with the operations inside it."""
        inner = "\n".join(self.render(each) for each in getattr(op, "body", ()))
        return self.macro(op.macro)(op=op, kernel=self, body=inner)


def swizzled(name: str, buffer: Buffer) -> Swizzled:
    """The swizzle function of a buffer."""
    swizzle = buffer.swizzle
    assert swizzle is not None
    if swizzle.bits == 0:
        return Swizzled(name, "Rows lie one behind the other.", "")
    note = f"Layout {swizzle.name}: 16-byte chunks are permuted so that 8 rows meet 8 bank groups."
    return Swizzled(name, note, f" ^ ((offset & {swizzle.mask:#x}) >> {swizzle.shift})")
