"""`samoyeds-gen bench`: kernels and peers on the GPU, checked in full and then timed in turn."""

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from samoyeds_gen.cli.console import print_table, steps
from samoyeds_gen.cli.options import parse_shape
from samoyeds_gen.errors import FormatError, LaunchError, TuneError
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import Kernel
from samoyeds_gen.pictures import draw_measurements
from samoyeds_gen.runtime import device_info, nvrtc_version, require_driver
from samoyeds_gen.tune import SUITES, AutoKernel, Shape, compile, group_of, suite_named
from samoyeds_gen.tune.bench import Results, Written, run_bench
from samoyeds_gen.tune.machines import machine_of
from samoyeds_gen.tune.results import Mean, Row, require_suffix, write_results
from samoyeds_gen.tune.timing import FULL, QUICK, Effort

AUTO = "auto"
DEFAULT_SUITE = "mma"
OWN_SHAPES = "given"
LAYER_SUITES = ("moe", "model", "memory")

Ours = tuple[str, Format, Any]


def bench(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE..",
            help="Schedule files, or names of shipped ones; auto, and nothing, is what compile "
            "without a schedule chooses.",
        ),
    ] = None,
    format: Annotated[
        list[str] | None,
        typer.Option(
            "--format", "-f", metavar="N,M,V", help="A weight format; several as N,M,V,N,M,V.."
        ),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            "--suite",
            metavar="NAME",
            help=f"Which shapes: {', '.join(SUITES)}; or which layers: {', '.join(LAYER_SUITES)}.",
        ),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option("--shape", "-s", metavar="M,K,N", help="A shape of your own."),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, help="Samples of each contender; 9.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Short samples and 3 rounds: a look, no figures.")
    ] = False,
    peers: Annotated[
        bool,
        typer.Option(
            "--peers/--no-peers",
            help="Time cuBLAS and cuSPARSELt too; of layers, what transformers has.",
        ),
    ] = True,
    config: Annotated[
        list[str] | None,
        typer.Option("--config", metavar="NAME", help="A layer of the suite; all of them."),
    ] = None,
    tokens: Annotated[
        str | None,
        typer.Option("--tokens", metavar="T,T,..", help="Tokens a call, of the suite moe."),
    ] = None,
    routing: Annotated[
        str,
        typer.Option("--routing", help="How skewed choices are, of moe: uniform, zipf or one."),
    ] = "uniform",
    within: Annotated[
        float | None,
        typer.Option("--within", metavar="SECONDS", help="Begin no case of a layer after that."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Of moe: only run what the .json file of -o lacks."),
    ] = False,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", help="Write the figures as .json or .csv, or a plot as .svg."
        ),
    ] = None,
) -> None:
    """Time bf16 kernels and peers in one run: equal work, interleaved, sustained, medians.

    Every element is compared with a float64 product before anything is timed. Launches are replayed
    from CUDA graphs, over buffers rotated beyond L2. The suite moe does so for layers of experts,
    model for decoder layers around them, and memory says how many tokens fit.
    """
    outputs = output or []
    for path in outputs:
        require_suffix(path, (".json", ".csv", ".svg"))
    if set(suite or []) & set(LAYER_SUITES):
        # It uses what is here; imported at the top each would wait for the other.
        from samoyeds_gen.cli.layer_benching import LayerRequest, bench_layers

        if len(suite or []) > 1 or files or shape:
            raise TuneError(
                f"suites of layers ({', '.join(LAYER_SUITES)}) take neither other suites nor "
                "schedules and shapes",
                remedy="run them one by one",
            )
        given = LayerRequest(config, tokens, routing, rounds, quick, peers, outputs, within, resume)
        bench_layers((suite or [])[0], parse_formats(format or ["1,2,128"]), given)
        return
    if config or tokens or routing != "uniform" or within is not None or resume:
        raise TuneError(
            "--config, --tokens, --routing, --within and --resume are options of layers",
            remedy=f"add --suite {LAYER_SUITES[0]}",
        )
    for name in suite or []:
        if name not in SUITES:
            names = ", ".join([*SUITES, *LAYER_SUITES])
            raise TuneError(f"suite {name!r} is not one of {names}", remedy=f"use one of {names}")
    shapes = chosen_shapes(suite or [], shape or [])
    formats = parse_formats(format or ["1,2,128"])
    require_torch("bench", "for its peers and the float64 check")
    base = QUICK if quick else FULL
    effort = Effort(rounds or base.rounds, base.sample_ms, base.settle_ms, base.warmup_s)
    ours = [each for name in files or [AUTO] for each in contenders(name, formats)]
    print_results(measure(shapes, ours, effort, _writer(outputs, effort), with_peers=peers))
    typer.echo(f"{device_info()}, bfloat16, {effort.rounds} rounds of {effort.sample_ms:.0f} ms")


def _writer(outputs: Sequence[Path], effort: Effort) -> Written:
    """Writes every file that was asked for, anew after every shape."""
    record = about(effort)

    def written(results: Results) -> None:
        for path in outputs:
            if path.suffix == ".svg":
                path.write_text(draw_measurements(results.rows, title=str(record["gpu"])))
            else:
                write_results(path, results.rows, results.failed, record)

    return written


def measure(
    shapes: Sequence[tuple[str, Shape]],
    ours: Sequence[Ours],
    effort: Effort,
    written: Written,
    *,
    with_peers: bool,
) -> Results:
    """Run the comparison on the present GPU with its progress on stderr."""
    from samoyeds_gen.tune.rig import TorchRig

    rig = TorchRig(machine_of(device_info()), ours, with_peers=with_peers)
    with steps("bench") as advance:
        return run_bench(shapes, rig, effort, advance, written)


def contenders(name: str, formats: Sequence[Format]) -> list[Ours]:
    """A schedule, or the automatic choice, in each format it is asked for."""
    if name == AUTO:
        return [
            (f"auto ({f})", f, partial(_automatic, compile(n=f.n, m=f.m, v=f.v))) for f in formats
        ]
    return [(f"{Path(name).stem} ({f})", f, partial(_given, name, f)) for f in formats]


def _automatic(kernel: AutoKernel, shape: Shape) -> Kernel:
    return kernel.kernel_for(*shape)


def _given(name: str, format: Format, shape: Shape) -> Kernel:
    return compile(name, n=format.n, m=format.m, v=format.v)


def chosen_shapes(suites: Sequence[str], shapes: Sequence[str]) -> list[tuple[str, Shape]]:
    """Every shape with the group that its mean belongs to; the suite mma if none is asked for."""
    if not suites and not shapes:
        suites = [DEFAULT_SUITE]
    found = [(group_of(name, each), each) for name in suites for each in suite_named(name)]
    return found + [(OWN_SHAPES, parse_shape(text)) for text in shapes]


def parse_formats(texts: Sequence[str]) -> list[Format]:
    """Formats from "n,m,v" texts, of which each may hold several. Raises FormatError."""
    formats = []
    for text in texts:
        parts = text.split(",")
        if len(parts) % 3:
            raise FormatError(
                f"formats {text!r} are not triples n,m,v",
                remedy="write them as 1,2,64 or 1,2,64,4,8,32",
            )
        formats += [Format.parse(",".join(parts[at : at + 3])) for at in range(0, len(parts), 3)]
    return list(dict.fromkeys(formats))


def require_torch(command: str, why: str) -> None:
    """Refuse to go on without a GPU or without torch, with a LaunchError."""
    require_driver()
    if importlib.util.find_spec("torch") is None:
        raise LaunchError(
            f"{command} needs torch {why}, and it is not installed",
            remedy="pip install 'samoyeds-gen[torch]'",
        )


def about(effort: Effort) -> dict[str, object]:
    """The machine, versions and options that made the figures."""
    device = device_info()
    return {
        "gpu": device.name,
        "driver": device.driver,
        "nvrtc": nvrtc_version(),
        "torch": version("torch"),
        "date": datetime.now(UTC).date().isoformat(),
        "dtype": "bfloat16",
        "effort": asdict(effort),
    }


def print_results(results: Results) -> None:
    """Every row, then the means, then what failed."""
    print_table(
        (
            "m, k, n",
            "contender",
            ">time",
            ">TFLOP/s",
            ">of cuBLAS",
            ">TB/s",
            ">of roof",
            "schedule",
        ),
        [_cells(row) for row in results.rows],
    )
    for row in results.rows:
        if row.replay != "graph":
            typer.echo(f"* {row.m}, {row.k}, {row.n} {row.contender}: timed from the {row.replay}")
    if results.means:
        print_table(
            ("geometric mean", "contender", ">of cuBLAS", ">least", ">shapes"),
            [_mean(each) for each in results.means],
        )
    if results.failed:
        print_table(
            ("m, k, n", "not counted", "error"),
            [(f"{r.m}, {r.k}, {r.n}", r.contender, r.error) for r in results.failed],
        )


def _cells(row: Row) -> tuple[str, ...]:
    how = "" if row.replay == "graph" else " *"
    return (
        f"{row.m}, {row.k}, {row.n}",
        row.contender + how,
        f"{row.median_us:.1f} us",
        f"{row.tflops:.0f}",
        "" if row.ratio is None else f"{row.ratio:.2f}x",
        f"{row.weight_tbs:.2f}",
        "" if row.roof is None else f"{100 * row.roof:.0f} %",
        f"{row.schedule} {row.digest}".strip(),
    )


def _mean(mean: Mean) -> tuple[str, ...]:
    shapes = str(mean.of) if mean.shapes == mean.of else f"{mean.shapes} of {mean.of}"
    return mean.group, mean.contender, f"{mean.ratio:.2f}x", f"{mean.least:.2f}x", shapes
