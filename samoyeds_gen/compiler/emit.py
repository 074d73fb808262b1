"""From a plan to CUDA C++: Jinja arranges what the plan decided. The only module that knows Jinja.

Block markers are `<% %>` and line statements `//%`, because PTX operand lists in inline assembly
start with the default block marker; StrictUndefined turns a misspelt field into an error.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import PurePosixPath

from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined

from samoyeds_gen.assets import asset_directory
from samoyeds_gen.compiler.ops import Op, StoreTile
from samoyeds_gen.compiler.plan import Buffer, Parameter, Plan

OPERATIONS = ("_ring_copies.cuh.jinja", "_ring_matrix.cuh.jinja", "_ring_ops.cuh.jinja")
EPILOGUE = "_epilogue.cuh.jinja"


@cache
def environment() -> Environment:
    """The one Jinja environment."""
    return Environment(
        loader=FileSystemLoader(asset_directory("templates")),
        undefined=StrictUndefined,
        bytecode_cache=_bytecode_cache(),
        autoescape=False,
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        line_statement_prefix="//%",
        line_comment_prefix="//#",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _bytecode_cache() -> FileSystemBytecodeCache | None:
    """Compiled templates in the user's temporary directory: parsing them takes longer than all
    the rest of an emission. None where there is no such directory.
    """
    try:
        return FileSystemBytecodeCache()
    except (OSError, RuntimeError):
        return None


@dataclass(frozen=True, slots=True)
class Swizzled:
    """One swizzle function of the emitted file."""

    name: str
    note: str
    expression: str


class KernelText:
    """What templates see as `kernel`: the plan, and the words it implies."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        g = plan.geometry
        even = "if ({}_copy_row + row < {}) "
        self.weight_copy_guard = (
            "" if g.weight_copies_even else even.format("weight", "kWeightRows")
        )
        self.token_copy_guard = "" if g.token_copies_even else even.format("token", "kTileN")
        words = g.fragment_rows // 16 * g.metadata_words * 8
        whole = words % plan.threads == 0
        bound = "if (threadIdx.x + i * kThreads < {}) "
        self.metadata_copy_guard = "" if whole else bound.format("kMetadataStage / 16")
        fold_whole = prod(g.fold_shape) // 4 % plan.threads == 0
        self.fold_copy_guard = "" if fold_whole else bound.format("kFoldStage / 16")
        wide = plan.atom.a_registers == 4
        self.weight_lane_chunk = "lane / 16 * 16" if wide else "0"
        self.token_lane_chunk = "lane / 8 * 16" if wide else "lane / 8 % 2 * 16"
        self.load_weight = f"ldmatrix_x{plan.atom.a_registers}"
        self.load_tokens = f"ldmatrix_x{plan.atom.b_registers}"
        blocked = "tile_m * kTileM / kFormatM * kFormatN"
        self.first_stored_row = blocked if g.fold != "direct" else "tile_m * kTileM"
        # Fragments start with a block when M divides 16: one row for all instead of one each.
        self.blocks_in_fragment = 16 % plan.problem.format.m == 0
        together = "block_row + f * (16 / kFormatM * kFormatN)"
        self.block_row = together if self.blocks_in_fragment else "block_row[f]"
        self.folded = g.fold != "direct"
        self.nan = plan.problem.out_dtype.nan
        self.index_type = {"int32": "int", "int64": "long long", None: ""}[plan.problem.index]
        self.token_row = "selection[i]" if plan.problem.index else "i"

    def __getattr__(self, name: str) -> object:
        return getattr(self.plan, name)

    @property
    def origin(self) -> str:
        """Where the schedule came from, without directories of this machine."""
        path = self.plan.schedule.source_path
        return f"schedules/{PurePosixPath(path).name}" if path else "a schedule value"

    @property
    def swizzled(self) -> tuple[Swizzled, ...]:
        """The swizzle functions, one an operand."""
        return (
            _swizzled("swizzle_weight", self.plan.buffer("weight_ring")),
            _swizzled("swizzle_tokens", self.plan.buffer("token_ring")),
        )

    @property
    def functions(self) -> tuple[str, ...]:
        """Epilogue functions the file defines."""
        problem = self.plan.problem
        store = next(op for op in self.plan.epilogue if isinstance(op, StoreTile))
        convert = f"convert_{8 * problem.out_dtype.bytes}" + ("_paired" if store.paired else "")
        return (*((problem.activation,) if problem.activation else ()), convert)

    def separator(self, parameter: Parameter) -> str:
        """A comma behind every parameter but the last."""
        return "" if parameter is self.plan.parameters[-1] else ","

    def render(self, op: Op) -> str:
        """The text of one operation, with the operations inside it."""
        if isinstance(op, StoreTile):
            return self._store(op)
        inner = "\n".join(self.render(each) for each in getattr(op, "body", ()))
        text: str = _macro(op.macro)(op=op, kernel=self, body=inner)
        return text

    def _store(self, op: StoreTile) -> str:
        macros = environment().get_template(EPILOGUE).module
        name = {"exchange": "rows_exchange", "prefix": "rows_prefix"}.get(op.fold, "rows_direct")
        rows = getattr(macros, name)(kernel=self)
        placed = macros.placement(kernel=self) if op.fold == "exchange" else ""  # type: ignore[attr-defined]
        text: str = macros.store_tile(op=op, kernel=self, rows=rows, placed=placed)  # type: ignore[attr-defined]
        return text


def _macro(name: str) -> Callable[..., str]:
    """The macro of this name, from whichever operation template has it."""
    modules = (environment().get_template(each).module for each in OPERATIONS)
    found = [getattr(module, name) for module in modules if hasattr(module, name)]
    assert len(found) == 1, f"{len(found)} templates define the macro {name}"
    macro: Callable[..., str] = found[0]
    return macro


def _swizzled(name: str, buffer: Buffer) -> Swizzled:
    swizzle = buffer.swizzle
    assert swizzle is not None
    if swizzle.bits == 0:
        return Swizzled(name, "Rows lie one behind the other.", "")
    note = f"Layout {swizzle.name}: 16-byte chunks are permuted so that 8 rows meet 8 bank groups."
    return Swizzled(name, note, f" ^ ((offset & {swizzle.mask:#x}) >> {swizzle.shift})")


def emit(plan: Plan) -> str:
    """The CUDA C++ of the plan: one concrete kernel, no includes, no templates."""
    template = environment().get_template(plan.template)
    text = template.render(kernel=KernelText(plan))
    return _tidy(text)


def _tidy(text: str) -> str:
    """No trailing blanks, no runs of blank lines, `#pragma` at the margin as C++ readers expect."""
    lines = [line.rstrip() for line in text.splitlines()]
    lines = [line.lstrip() if line.lstrip().startswith("#pragma") else line for line in lines]
    joined = re.sub(r"\n{3,}", "\n\n", "\n".join(lines))
    return re.sub(r"\n+(\s*\})", r"\n\1", joined).strip() + "\n"
