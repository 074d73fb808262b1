"""The options that commands share, and what they mean together."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import choose_target
from samoyeds_gen.language import Schedule, Ssmm, Target, load_schedule, make_ssmm


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
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]

DEFAULT_FORMAT = "1,2,64"
DEFAULT_DTYPE = "bf16"


@dataclass(frozen=True, slots=True)
class Request:
    """A schedule file, resolved for one format, dtype and target."""

    schedule: Schedule
    problem: Ssmm
    target: Target


def resolve(
    file: str,
    format: str,
    dtype: str,
    target: str | None,
    *,
    activation: str | None = None,
    own_target: bool = False,
) -> Request:
    """Read and check what the options say. Raises SamoyedsError.

    `own_target` makes the schedule's own target the default, whatever GPU is present.
    """
    problem = make_ssmm(Format.parse(format), dtype, activation=activation)
    schedule = load_schedule(file, problem.format, problem.dtype)
    if target is None and own_target:
        target = schedule.target
    return Request(schedule, problem, choose_target(schedule, problem, target))
