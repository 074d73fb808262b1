"""`samoyeds-gen emit`: the checked-in kernels and plans, written or compared.

Decides which format stands for a schedule in generated/; text and plan come from the compiler.
"""

import difflib
from pathlib import Path
from typing import Annotated

import typer

from samoyeds_gen.assets import asset_directory, for_experts
from samoyeds_gen.cli.console import complain
from samoyeds_gen.cli.options import DEFAULT_DTYPE, DtypeText, Experts, resolve
from samoyeds_gen.compiler import (
    Combine,
    RoutingPlan,
    Step,
    compile_plan,
    emit,
    emit_routing,
    lower_combine,
    lower_step,
    print_plan,
    print_routing_plan,
)
from samoyeds_gen.errors import ScheduleError
from samoyeds_gen.language import Routing, target_named
from samoyeds_gen.language.dtypes import BFLOAT16, FLOAT32

REPRESENTATIVES = ("1,2,64", "4,8,32", "1,1,64")
"""A schedule is shown for the first of these formats that it is legal for; one that expands
(1,2,64) is shown where expansion is needed, from the second on."""

SOFTMAX = Routing(64, 6, "softmax_topk", renormalise=False)
SIGMOID = Routing(
    256, 8, "sigmoid_grouped", True, scaling=2.5, groups=8, top_groups=4, bias=True, shared=1
)
"""The routings that kernels without a schedule are shown for."""

SUFFIXES = (".cu", ".plan.txt")


def emit_files(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE]...", help="Schedule files; all shipped ones by default."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare instead of writing; exit 1 on a difference.")
    ] = False,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the files lie.")
    ] = Path("generated"),
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="N,M,V",
            help=f"By default the first legal one of {' '.join(REPRESENTATIVES)}.",
        ),
    ] = None,
    dtype: DtypeText = DEFAULT_DTYPE,
    target: Annotated[
        str | None,
        typer.Option("--target", "-t", metavar="TARGET", help="By default the schedule's own."),
    ] = None,
) -> None:
    """Write <name>.cu and <name>.plan.txt of every schedule, or check that they are current.

    Without FILE, kernels of routing are written too, which have no schedule.
    """
    texts: dict[str, str] = {}
    for file in files or shipped_schedules():
        texts |= generated_texts(file, format, dtype, target)
    if not files:
        texts |= routing_texts()
    if not check:
        output.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (output / name).write_text(text)
            typer.echo(f"wrote {output / name}")
        return
    difference = drift(texts, output, whole=not files)
    if difference:
        typer.echo(difference, nl=False)
        complain(f"{output} is not what the schedules emit; run samoyeds-gen emit")
        raise typer.Exit(1)
    typer.echo(f"{len(texts)} files in {output} are current")


def shipped_schedules() -> list[str]:
    """The paths of the shipped schedule files."""
    return [str(path) for path in sorted(asset_directory("schedules").glob("*.py"))]


def generated_texts(
    file: str, format: str | None = None, dtype: str = DEFAULT_DTYPE, target: str | None = None
) -> dict[str, str]:
    """File name -> text of one schedule's kernel and plan. Raises SamoyedsError.

    Without a format, that of `REPRESENTATIVES`; without a target, the schedule's own. A schedule
    for experts is shown by the two kernels of a layer.
    """
    if for_experts(Path(file)):
        return expert_texts(file, format or REPRESENTATIVES[0], dtype, target)
    formats = [format] if format else list(REPRESENTATIVES)
    for position, each in enumerate(formats):
        request = resolve(file, each, dtype, target, own_target=True)
        try:
            plan = compile_plan(request.schedule, request.problem, request.target)
        except ScheduleError:
            if position + 1 == len(formats):
                raise
            continue
        if plan.geometry.fold == "expand" and each == REPRESENTATIVES[0] and not format:
            continue
        name = request.schedule.name
        return {f"{name}.cu": emit(plan), f"{name}.plan.txt": print_plan(plan)}
    raise AssertionError("formats is never empty")


def expert_texts(file: str, format: str, dtype: str, target: str | None) -> dict[str, str]:
    """File name -> text of the kernels for a layer's experts and their plans."""
    texts: dict[str, str] = {}
    for experts in Experts:
        request = resolve(file, format, dtype, target, experts=experts, own_target=True)
        plan = compile_plan(request.schedule, request.problem, request.target)
        name = f"{request.schedule.name}_{experts}"
        texts |= {f"{name}.cu": emit(plan), f"{name}.plan.txt": print_plan(plan)}
    return texts


def routing_plans() -> dict[str, RoutingPlan]:
    """The kernels of routing that are shown, by name."""
    target = target_named("sm_80")
    return {
        "route_sm80": lower_step(Step(SOFTMAX, "route", FLOAT32), target),
        "choose_sm80": lower_step(Step(SIGMOID, "choose", FLOAT32), target),
        "place_sm80": lower_step(Step(SIGMOID, "place"), target),
        "combine_sm80": lower_combine(Combine(SIGMOID.choices, BFLOAT16, 8, weighted=True), target),
    }


def routing_texts() -> dict[str, str]:
    """File name -> text of the kernels of routing and their plans."""
    texts: dict[str, str] = {}
    for name, plan in routing_plans().items():
        texts |= {f"{name}.cu": emit_routing(plan), f"{name}.plan.txt": print_routing_plan(plan)}
    return texts


def drift(texts: dict[str, str], directory: Path, *, whole: bool) -> str:
    """The unified diff from the files in `directory` to `texts`; empty when they agree.

    With `whole`, generated files of the directory that `texts` lacks are differences too.
    """
    wanted = dict(texts)
    if whole and directory.is_dir():
        for path in directory.iterdir():
            if path.name.endswith(SUFFIXES):
                wanted.setdefault(path.name, "")
    lines: list[str] = []
    for name, text in sorted(wanted.items()):
        path = directory / name
        present = path.read_text() if path.is_file() else ""
        lines += difflib.unified_diff(
            present.splitlines(keepends=True),
            text.splitlines(keepends=True),
            f"{directory / name}",
            f"{name} as emitted",
        )
    return "".join(lines)
