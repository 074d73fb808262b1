"""`samoyeds-gen bench`: schedules against cuBLAS on the GPU, checked in full and then timed."""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from samoyeds_gen.cli.console import print_table, stderr
from samoyeds_gen.errors import LaunchError
from samoyeds_gen.formats import Format
from samoyeds_gen.runtime import device_info, require_driver


def bench(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE..", help="Schedule files, or names of shipped ones."),
    ],
    format: Annotated[
        str, typer.Option("--format", "-f", metavar="N,M,V", help="The weight format.")
    ] = "1,2,128",
    suite: Annotated[
        str, typer.Option("--suite", metavar="NAME", help="Which shapes: mma.")
    ] = "mma",
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Samples of each contender.")] = 9,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the raw figures as JSON.")
    ] = None,
) -> None:
    """Time bf16 kernels and cuBLAS in one run: equal work, interleaved, sustained, medians.

    Every element is compared with a float64 product before anything is timed.
    """
    require_driver()
    if importlib.util.find_spec("torch") is None:
        raise LaunchError(
            "bench needs torch for cuBLAS and the float64 check, and it is not installed",
            remedy="pip install 'samoyeds-gen[torch]'",
        )
    from samoyeds_gen.tune.bench import SUITES, bench_ssmm, write_rows

    if suite not in SUITES:
        raise LaunchError(
            f"suite {suite!r} is not one of {', '.join(SUITES)}", remedy="choose one of these"
        )
    rows = bench_ssmm(
        SUITES[suite], files, Format.parse(format), rounds=rounds, progress=stderr().print
    )
    print_table(
        ("m, k, n", "contender", "time", "dense-equivalent", "of cuBLAS", "check"),
        [
            (
                f"{row.m}, {row.k}, {row.n}",
                row.contender,
                f"{row.median_us:.0f} us",
                f"{row.tflops:.0f} TFLOP/s",
                f"{row.ratio:.2f}x",
                row.verdict,
            )
            for row in rows
        ],
    )
    typer.echo(f"{device_info(0)}, ({format}) bfloat16, {rounds} rounds")
    if output is not None:
        write_rows(rows, output, suite=suite, format=format, rounds=rounds)
