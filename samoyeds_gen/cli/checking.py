"""`samoyeds-gen check`: property tests of a schedule's kernels, on simulator and GPU."""

import os
from typing import Annotated

import typer

from samoyeds_gen.check import PROFILES, CheckReport, check_schedule
from samoyeds_gen.cli.console import complain, print_table, progress, stdout
from samoyeds_gen.cli.options import Device, File, Json
from samoyeds_gen.formats import Format

MOST_JOBS = 8
FEW_EXAMPLES = 24
PROFILE_HELP = ", ".join(f"{each.name} ({each.examples})" for each in PROFILES)


def check(
    file: File,
    examples: Annotated[
        int | None,
        typer.Option("--examples", "-n", metavar="N", help="Problems on each device."),
    ] = None,
    profile: Annotated[
        str, typer.Option("--profile", metavar="NAME", help=f"How much: {PROFILE_HELP}.")
    ] = "default",
    format: Annotated[
        str | None,
        typer.Option("--format", "-f", metavar="N,M,V", help="Only this format."),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", "-d", metavar="DTYPE", help="Only bf16, or fp16.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", "-t", metavar="TARGET", help="Compile for this target."),
    ] = None,
    device: Annotated[
        Device,
        typer.Option("--device", help="auto: the simulator (cpu), and the GPU if there is one."),
    ] = Device.AUTO,
    seed: Annotated[int, typer.Option("--seed", help="The same seed draws the same.")] = 0,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Processes that run the simulator."),
    ] = None,
    json: Json = False,
) -> None:
    """Check a schedule's kernels against the reference on drawn problems.

    Without --format and --dtype, every shipped format the schedule is legal for is checked, in a
    covering set of kernels. A failure is shrunk and printed with Python that reproduces it.
    """
    with progress(f"checking {file}") as advance:
        report = check_schedule(
            file,
            format=Format.parse(format) if format else None,
            dtype=dtype,
            target=target,
            device=device.value,
            examples=examples,
            profile=profile,
            seed=seed,
            jobs=jobs or _jobs(examples),
            progress=advance,
        )
    if json:
        typer.echo(report.to_json())
    else:
        _print_report(report)
    if not report.passed:
        complain(f"{len(report.failures)} of {len(report.kernels)} checks failed")
        raise typer.Exit(1)


def _jobs(examples: int | None) -> int:
    """One process a core; a few examples do not repay the second that a process takes to start."""
    few = examples is not None and examples <= FEW_EXAMPLES
    return 1 if few else min(os.cpu_count() or 1, MOST_JOBS)


def _print_report(report: CheckReport) -> None:
    rows = [
        (
            each.subject.problem.format,
            each.subject.problem.dtype.short,
            each.subject.fold,
            each.subject.weights,
            each.subject.target.name,
            each.device,
            each.examples,
            f"{each.seconds:.2f} s",
            each.registers or "",
            f"{each.shared_bytes} B" if each.shared_bytes else "",
            "passed" if each.failure is None else each.failure.kind,
        )
        for each in report.kernels
    ]
    columns = ("format", "dtype", "fold", "weights", "target", "device", ">examples", ">time")
    print_table((*columns, ">registers", ">shared", "result"), rows)
    stdout().print(str(report), soft_wrap=True)
