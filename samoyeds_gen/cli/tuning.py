"""`samoyeds-gen tune`: search the best schedule of each shape and keep it for `compile`."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from samoyeds_gen.cli.benching import chosen_shapes, parse_formats, require_torch
from samoyeds_gen.cli.console import print_table, steps
from samoyeds_gen.cli.options import DEFAULT_DTYPE, DtypeText
from samoyeds_gen.errors import TuneError
from samoyeds_gen.formats import Format
from samoyeds_gen.language import Schedule, load_schedule, make_ssmm, target_named
from samoyeds_gen.runtime import device_info
from samoyeds_gen.tune import Database, Task, open_database
from samoyeds_gen.tune.building import build_all
from samoyeds_gen.tune.machines import machine_of
from samoyeds_gen.tune.record import USER
from samoyeds_gen.tune.search import QUICK_RUNGS, RUNGS, Found, Rung, search
from samoyeds_gen.tune.suites import Shape
from samoyeds_gen.tune.tables import write_table


def tune(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE..", help="Schedules to vary; all shipped ones if none is given."
        ),
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option("--shape", "-s", metavar="M,K,N", help="A shape to tune.")
    ] = None,
    suite: Annotated[
        list[str] | None, typer.Option("--suite", metavar="NAME", help="Tune a suite's shapes.")
    ] = None,
    format: Annotated[
        list[str] | None,
        typer.Option(
            "--format", "-f", metavar="N,M,V", help="A weight format; several as N,M,V,N,M,V.."
        ),
    ] = None,
    dtype: DtypeText = DEFAULT_DTYPE,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer candidates, shorter samples.")
    ] = False,
    recommended: Annotated[
        int,
        typer.Option(
            "--recommended",
            metavar="N",
            min=0,
            help="Only time the N schedules that measurements nearby recommend; takes seconds.",
        ),
    ] = 0,
    database: Annotated[
        Path | None,
        typer.Option("--database", metavar="PATH", help="Another file than the user's own."),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="PATH", help="Then write the results as a table (JSON)."),
    ] = None,
) -> None:
    """Search legal schedules for each shape: modelled, compiled, checked in full, then timed.

    Every measurement is kept at once: an ended search goes on where it stopped.
    """
    if shape or suite or export is None:
        shapes = [each for _, each in chosen_shapes(suite or [], shape or [])]
        formats = parse_formats(format or ["1,2,128"])
        require_torch("tune", "for buffers and the float64 check")
    else:
        shapes, formats = [], []
    if recommended and files:
        raise TuneError(
            "--recommended takes the schedules of measurements, and files are given, too",
            remedy="leave one of them out",
        )
    rungs = QUICK_RUNGS if quick or recommended else RUNGS
    if recommended:
        rungs = (replace(rungs[0], number=recommended), *rungs[1:])
    with closing(open_database(database)) as opened:
        found = [
            tune_one(task(each, form, dtype), opened, files, rungs, only=recommended > 0)
            for each in dict.fromkeys(shapes)
            for form in formats
        ]
        if found:
            print_found(found)
        if export is not None:
            export.write_text(write_table(opened.exported()))
            typer.echo(f"wrote {export}")


def task(shape: Shape, format: Format, dtype: str) -> Task:
    """A shape and format on the present GPU."""
    machine = machine_of(device_info())
    return Task(machine, target_named(machine.target), make_ssmm(format, dtype), shape)


def tune_one(
    task: Task,
    database: Database,
    files: Sequence[str] | None,
    rungs: Sequence[Rung],
    *,
    only: bool = False,
) -> tuple[Task, Found, float | None]:
    """Search one task, and time the dense product unless that is known; (task, found, dense us)."""
    from samoyeds_gen.tune.measuring import Measuring

    bases: list[Schedule] | None = None
    if files:
        bases = [load_schedule(name, task.problem.format, task.problem.dtype) for name in files]
    measuring = Measuring(task)
    dense = dense_known(task, database)
    if dense is None:
        record = measuring.dense(rungs[-1].effort)
        if record is not None:
            database.store([record])
            dense = record.us
    with steps(str(task)) as advance:
        found = search(
            task,
            database,
            partial(build_all, task),
            measuring,
            bases=bases,
            rungs=rungs,
            only_recommended=only,
            progress=advance,
        )
    return task, found, dense


def dense_known(task: Task, database: Database) -> float | None:
    """The dense product's time at the task's very shape, if it was measured on this machine."""
    records = database.final(format="", dtype=task.problem.dtype.name)
    here = (task.machine.name, task.shape, USER)
    times = [each.us for each in records if (each.gpu, each.shape, each.origin) == here]
    return times[0] if times else None


def print_found(found: Sequence[tuple[Task, Found, float | None]]) -> None:
    """The winner of each task, and what finding it took."""
    rows = []
    for task, each, dense in found:
        winner = each.winner
        assert winner.us is not None
        assert winner.schedule is not None
        m, k, n = task.shape
        rows.append(
            (
                f"{m}, {k}, {n}",
                f"({task.problem.format})",
                f"{winner.us:.1f} us",
                "" if dense is None else f"{dense / winner.us:.2f}x",
                f"{winner.schedule.name} {winner.digest}",
                each.generated,
                each.measured,
                each.reused,
                len(each.refused),
            )
        )
    print_table(
        (
            "m, k, n",
            "format",
            ">time",
            ">of cuBLAS",
            "schedule",
            ">legal",
            ">timed",
            ">known",
            ">refused",
        ),
        rows,
    )
