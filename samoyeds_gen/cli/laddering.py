"""`samoyeds-gen ladder`: the Hopper kernel one directive at a time, predicted and measured."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from samoyeds_gen.cli.benching import about, require_torch
from samoyeds_gen.cli.console import print_table, steps
from samoyeds_gen.cli.options import parse_shape
from samoyeds_gen.errors import TuneError
from samoyeds_gen.pictures import draw_ladder
from samoyeds_gen.runtime import device_info
from samoyeds_gen.tune.ladder import (
    DTYPE,
    FORMAT,
    SHAPES,
    contenders,
    measured,
    predicted,
)
from samoyeds_gen.tune.ladder_figures import (
    Figures,
    Step,
    as_json,
    as_markdown,
    registers_of,
)
from samoyeds_gen.tune.machines import machine_named, machine_of
from samoyeds_gen.tune.results import require_suffix
from samoyeds_gen.tune.timing import FULL, QUICK, Effort

HOPPER = "sm_90a"
DRY_GPU = "H200"


def ladder(
    shape: Annotated[
        list[str] | None,
        typer.Option("--shape", "-s", metavar="M,K,N", help="A shape; two without any."),
    ] = None,
    dry: Annotated[
        bool, typer.Option("--dry", help="Predict and compile alone: needs no GPU.")
    ] = False,
    gpu: Annotated[
        str | None, typer.Option("--gpu", metavar="NAME", help="Which GPU --dry is for; H200.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, help="Samples of each rung; 9.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Short samples and 3 rounds: a look, no figures.")
    ] = False,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", help="Write figures as .json, tables as .md, or a plot as .svg."
        ),
    ] = None,
) -> None:
    """Build the Hopper schedule up directive by directive: what each was to bring, and brought.

    Format (1,2,128), bfloat16. All rungs are checked in full and timed in one run, interleaved.
    """
    outputs = output or []
    for path in outputs:
        require_suffix(path, (".json", ".md", ".svg"))
    if gpu is not None and not dry:
        raise typer.BadParameter("--gpu names the GPU of --dry", param_hint="--gpu")
    shapes = [parse_shape(text) for text in shape or []] or list(SHAPES)
    base = QUICK if quick else FULL
    effort = Effort(rounds or base.rounds, base.sample_ms, base.settle_ms, base.warmup_s)
    if not dry:
        require_torch("ladder", "for cuBLAS and the float64 check")
    machine = machine_named(gpu or DRY_GPU) if dry else machine_of(device_info())
    if machine.target != HOPPER:
        raise TuneError(
            f"the ladder is of {HOPPER} kernels, {machine.name} is {machine.target}",
            remedy="use --dry, which reckons with an H200",
        )
    figures = predicted(machine, shapes)
    if not dry:
        figures = on_gpu(figures, effort)
    figures = replace(figures, about=_about(figures, effort, shapes, dry=dry))
    writers = {".json": as_json, ".md": as_markdown, ".svg": draw_ladder}
    for path in outputs:
        path.write_text(writers[path.suffix](figures))
    print_figures(figures)


def on_gpu(figures: Figures, effort: Effort) -> Figures:
    """Check and time every rung on the present GPU, with progress on stderr."""
    from samoyeds_gen.tune.rig import TorchRig

    machine = machine_of(device_info())
    rig = TorchRig(machine, contenders(machine), dtype=DTYPE, sparse_peers=False)
    with steps("ladder") as advance:
        return measured(figures, rig, effort, advance)


def _about(
    figures: Figures, effort: Effort, shapes: list[tuple[int, int, int]], *, dry: bool
) -> dict[str, Any]:
    """The command that makes the figures again, and on which machine they were made."""
    words = ["samoyeds-gen", "ladder", *(["--dry"] if dry else [])]
    if shapes != list(SHAPES):
        words += [f"--shape {m},{k},{n}" for m, k, n in shapes]
    made = {"device": figures.gpu} if dry else {"device": device_info().name, **about(effort)}
    made.pop("gpu", None)
    if effort.rounds != FULL.rounds and not dry:
        words.append(f"--rounds {effort.rounds}")
    own = {"command": " ".join(words), "format": str(FORMAT), "dtype": DTYPE, "measured": not dry}
    return {**made, **own}


def print_figures(figures: Figures) -> None:
    """One table a shape."""
    for shape in figures.shapes:
        m, k, n = shape
        print_table(
            (
                "rung",
                ">predicted",
                ">gain",
                ">measured",
                ">gain",
                ">of cuBLAS",
                ">registers",
                ">shared",
                "result",
            ),
            [_cells(figures, each) for each in figures.at(shape)],
            title=f"m={m}, k={k}, n={n} on {figures.gpu}",
        )


def _cells(figures: Figures, step: Step) -> tuple[str, ...]:
    return (
        f"tried: {step.name}" if step.tried else step.name,
        f"{step.predicted_us:.0f} us",
        _times(figures.predicted_gain(step)),
        "" if step.measured_us is None else f"{step.measured_us:.1f} us",
        _times(figures.measured_gain(step)),
        _times(step.ratio),
        registers_of(step),
        "" if step.shared_bytes is None else f"{step.shared_bytes} B",
        "" if step.measured_us is not None else step.verdict,
    )


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}x"
