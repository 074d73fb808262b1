"""The options that commands share, and what they mean together."""

from contextlib import closing
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, Literal

import typer

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import Choice, choose_target, given
from samoyeds_gen.language import (
    Schedule,
    Ssmm,
    Target,
    load_schedule,
    make_ssmm,
    target_named,
)
from samoyeds_gen.tune import Task, open_database, present_machine, rank


class Experts(StrEnum):
    """A kernel for the experts of a layer: of their gates and up projections, or their down ones.

    Gates meet up projections and tokens are gathered; down projections are plain.
    """

    GATE = "gate"
    DOWN = "down"

    @property
    def problem(self) -> dict[str, Any]:
        """What `make_ssmm` takes for it."""
        if self is Experts.DOWN:
            return {"grouped": True}
        return {"grouped": True, "gated": True, "activation": "silu", "index": "int32"}


class Device(StrEnum):
    """Where a kernel runs: the GPU if there is one, the simulator, or the GPU."""

    AUTO = "auto"
    CPU = "cpu"
    GPU = "gpu"


File = Annotated[
    str,
    typer.Argument(
        metavar="FILE", help="A schedule file (.py or .json), or the name of a shipped schedule."
    ),
]
MaybeFile = Annotated[
    str | None,
    typer.Argument(
        metavar="[FILE]",
        help="A schedule file (.py or .json), or the name of a shipped schedule; without one the "
        "tuning table and the model choose for the shape.",
    ),
]
FormatText = Annotated[
    str, typer.Option("--format", "-f", metavar="N,M,V", help="The weight format.")
]
DtypeText = Annotated[str, typer.Option("--dtype", "-d", metavar="DTYPE", help="bf16 or fp16.")]
TargetText = Annotated[
    str | None,
    typer.Option(
        "--target",
        "-t",
        metavar="TARGET",
        help="sm_80, sm_86, sm_89, sm_90a, sm_100a or sm_120a; by default the present GPU where "
        "the schedule is legal there, else the schedule's own.",
    ),
]
DeviceChoice = Annotated[
    Device,
    typer.Option("--device", help="auto: the GPU if there is one, else the simulator (cpu)."),
]
ExpertsChoice = Annotated[
    Experts | None,
    typer.Option(
        "--experts",
        help="Of a layer's experts: the kernel of their gates and up projections, or of their "
        "down projections.",
    ),
]
ShapeText = Annotated[
    str | None,
    typer.Option("--shape", "-s", metavar="M,K,N", help="Choose for this shape, without FILE."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]

DEFAULT_FORMAT = "1,2,64"
DEFAULT_DTYPE = "bf16"


@dataclass(frozen=True, slots=True)
class Request:
    """A schedule, given or chosen, for one format, dtype and target."""

    schedule: Schedule
    problem: Ssmm
    target: Target
    choice: Choice


def resolve(
    file: str,
    format: str,
    dtype: str,
    target: str | None,
    *,
    activation: str | None = None,
    experts: Experts | None = None,
    own_target: bool = False,
) -> Request:
    """Read and check what the options say. Raises SamoyedsError.

    `own_target` makes the schedule's own target the default, whatever GPU is present.
    """
    options: dict[str, Any] = {"activation": activation} if experts is None else experts.problem
    problem = make_ssmm(Format.parse(format), dtype, **options)
    schedule = load_schedule(file, problem.format, problem.dtype)
    if target is None and own_target:
        target = schedule.target
    return Request(schedule, problem, choose_target(schedule, problem, target), given(schedule))


def resolve_or_choose(
    file: str | None,
    format: str,
    dtype: str,
    target: str | None,
    shape: tuple[int, int, int] | None,
    *,
    index: Literal["int32", "int64"] | None = None,
) -> Request:
    """As `resolve`; without a file, what `compile` without a schedule would take for the shape.

    `index` is the type of a selection, if there is one. Raises SamoyedsError, and a usage error
    when there is neither file nor shape.
    """
    if file is not None:
        return resolve(file, format, dtype, target)
    if shape is None:
        raise typer.BadParameter("give FILE, or --shape to have one chosen", param_hint="FILE")
    problem = make_ssmm(Format.parse(format), dtype)
    machine = present_machine(target)
    task = Task(machine, target_named(machine.target), replace(problem, index=index), shape)
    with closing(open_database()) as database:
        choice = rank(task, database)[0]
    return Request(choice.schedule, problem, task.target, choice)


def parse_shape(text: str) -> tuple[int, int, int]:
    """Read "m,k,n"; LaunchError for anything but three positive integers."""
    try:
        m, k, n = (int(part) for part in text.split(","))
    except ValueError:
        m = k = n = 0
    if min(m, k, n) < 1:
        raise LaunchError(
            f"shape {text!r} is not three positive integers m,k,n", remedy="write it as 256,512,64"
        )
    return m, k, n
