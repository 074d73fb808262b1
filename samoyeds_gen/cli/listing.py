"""`samoyeds-gen list`: the shipped schedules and the targets, or every rule."""

import ast
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from samoyeds_gen.assets import asset_directory
from samoyeds_gen.check.strategies import SHIPPED
from samoyeds_gen.cli.console import print_json, print_table
from samoyeds_gen.cli.options import Json
from samoyeds_gen.cli.rules import every_rule
from samoyeds_gen.compiler import first_violation
from samoyeds_gen.language import TARGETS, load_template, make_ssmm, target_named


def list_shipped(
    rules: Annotated[
        bool, typer.Option("--rules", help="List every rule a refusal can name instead.")
    ] = False,
    json: Json = False,
) -> None:
    """List the shipped schedules and the targets, or with --rules what can be refused."""
    if rules:
        _list_rules(json)
        return
    schedules = [_shipped(path) for path in sorted(asset_directory("schedules").glob("*.py"))]
    if json:
        targets = [{"name": each.name, "shared_per_cta": each.shared_per_cta} for each in TARGETS]
        print_json({"schedules": [asdict(each) for each in schedules], "targets": targets})
        return
    print_table(
        ("schedule", "least target", "formats", "what it is"),
        [(each.name, each.target, _summary(each.formats), each.about) for each in schedules],
    )
    print_table(
        ("target", ">shared memory of a CTA", ">threads of an SM"),
        [(each.name, f"{each.shared_per_cta} B", each.threads_per_sm) for each in TARGETS],
    )


@dataclass(frozen=True, slots=True)
class Shipped:
    """A shipped schedule file, and the shipped formats it takes."""

    name: str
    algorithm: str
    target: str
    formats: list[str]
    about: str


def _list_rules(json: bool) -> None:
    rules = every_rule()
    if json:
        print_json([asdict(rule) for rule in rules])
    else:
        rows = [(rule.stage, rule.name, rule.sentence) for rule in rules]
        print_table(("stage", "rule", "what it holds"), rows)


def _shipped(path: Path) -> Shipped:
    template = load_template(path)
    algorithm, target = template.algorithm.name, template.target
    return Shipped(path.stem, algorithm, target, legal_formats(path), about(path))


def legal_formats(path: Path) -> list[str]:
    """The shipped formats that a schedule file takes in bfloat16, as "n,m,v"."""
    template = load_template(path)
    legal = []
    for format in SHIPPED:
        problem = make_ssmm(format, "bfloat16")
        schedule = template(problem.format, problem.dtype)
        if first_violation(schedule, problem, target_named(schedule.target)) is None:
            legal.append(str(problem.format))
    return legal


def about(path: Path) -> str:
    """The first line of a schedule file's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return text.partition("\n")[0]


def _summary(formats: list[str]) -> str:
    full = len(SHIPPED)
    return f"all {full}" if len(formats) == full else f"{len(formats)} of {full}"
