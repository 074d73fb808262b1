"""From a plan to CUDA C++: Jinja arranges what the plan decided. The only module that knows Jinja.

Block markers are `<% %>` and line statements `//%`, because PTX operand lists in inline assembly
start with the default block marker; StrictUndefined turns a misspelt field into an error.
"""

import re
from collections.abc import Callable
from functools import cache

from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined

from samoyeds_gen.assets import asset_directory
from samoyeds_gen.compiler.plan import Plan
from samoyeds_gen.compiler.routing import RoutingPlan, RoutingText
from samoyeds_gen.compiler.shapes import shape_of


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


def _macro(name: str, templates: tuple[str, ...]) -> Callable[..., str]:
    """The macro of this name, from whichever of the templates has it."""
    modules = (environment().get_template(each).module for each in templates)
    found = [getattr(module, name) for module in modules if hasattr(module, name)]
    assert len(found) == 1, f"{len(found)} templates define the macro {name}"
    macro: Callable[..., str] = found[0]
    return macro


def emit(plan: Plan) -> str:
    """The CUDA C++ of the plan: one concrete kernel, no includes, no templates."""
    template = environment().get_template(plan.template)
    text = template.render(kernel=shape_of(plan.schedule).text(plan, _macro))
    return _tidy(text)


def emit_routing(plan: RoutingPlan) -> str:
    """The CUDA C++ of a routing kernel, under the same rules."""
    return _tidy(environment().get_template(plan.template).render(kernel=RoutingText(plan, _macro)))


def _tidy(text: str) -> str:
    """No trailing blanks, no runs of blank lines, `#pragma` at the margin as C++ readers expect."""
    lines = [line.rstrip() for line in text.splitlines()]
    lines = [line.lstrip() if line.lstrip().startswith("#pragma") else line for line in lines]
    joined = re.sub(r"\n{3,}", "\n\n", "\n".join(lines))
    return re.sub(r"\n+(\s*\})", r"\n\1", joined).strip() + "\n"
