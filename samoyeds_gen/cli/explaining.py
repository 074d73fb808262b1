"""`samoyeds-gen explain`: everything there is to know about one kernel, in reading order."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from samoyeds_gen.check import Case, make_inputs
from samoyeds_gen.check.trial import run_kernel
from samoyeds_gen.cli.compiling import Compilation, facts, make
from samoyeds_gen.cli.console import print_facts, print_section, print_table, progress, stdout
from samoyeds_gen.cli.counters import MOST_OPCODES, counter_rows
from samoyeds_gen.cli.options import (
    DEFAULT_DTYPE,
    DEFAULT_FORMAT,
    DtypeText,
    ExpertsChoice,
    File,
    FormatText,
    TargetText,
    resolve,
)
from samoyeds_gen.cli.running import make_data
from samoyeds_gen.compiler import mermaid, print_plan
from samoyeds_gen.kernel import Kernel, Variant
from samoyeds_gen.pictures import draw_pipeline, draw_shared_memory
from samoyeds_gen.runtime import disassemble


def explain(
    file: File,
    format: FormatText = DEFAULT_FORMAT,
    dtype: DtypeText = DEFAULT_DTYPE,
    target: TargetText = None,
    experts: ExpertsChoice = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the pictures go.")
    ] = Path(),
    source: Annotated[bool, typer.Option("--source", help="Print the CUDA file too.")] = False,
    sass: Annotated[
        bool, typer.Option("--sass", help="Print the machine code too (extra: inspect).")
    ] = False,
) -> None:
    """Explain a schedule's kernel: schedule, plan, dependences, resources, counters, pictures."""
    made = make(resolve(file, format, dtype, target, experts=experts))
    plan = made.plan
    machine_code = disassemble(made.build.cubin) if sass else ""
    print_section("schedule", str(plan.schedule))
    print_section("plan", print_plan(plan))
    graph = mermaid(plan.loop, plan.ring_depth)
    print_section("dependences of the loop (mermaid)", graph)
    if source:
        print_section(plan.source_name, made.source)
    _title("resources")
    print_facts(facts(made))
    _counters(made)
    if sass:
        print_section("machine code", machine_code)
    _title("pictures")
    output.mkdir(parents=True, exist_ok=True)
    for kind, picture in (
        ("shared", draw_shared_memory(plan)),
        ("pipeline", draw_pipeline(plan)),
    ):
        path = output / f"{plan.entry}.{kind}.svg"
        path.write_text(picture)
        sys.stdout.write(f"wrote {path}\n")


def small_shape(made: Compilation) -> tuple[int, int, int]:
    """m, k, n of one CTA's output, with a k long enough to refill the ring."""
    m, n, k = made.plan.tile
    tiles = made.plan.ring_depth + 2
    v = made.plan.problem.format.v
    return m, -(-max(k * tiles, 2 * v) // v) * v, n


def _counters(made: Compilation) -> None:
    plan = made.plan
    m, k, n = shape = small_shape(made)
    with progress("simulating") as advance:
        if plan.problem.grouped:  # one expert that has every token
            case = Case(m, k, n, n, counts=(n,))
            variant = Variant(plan, made.source, made.build)
            _, report = run_kernel(variant, make_inputs(case, plan.problem), "cpu")
        else:
            kernel = Kernel(plan.schedule, plan.problem, plan.target)
            data = make_data(kernel, shape, None, seed=0)
            kernel(data.w, data.tokens, device="cpu", progress=advance)
            report = kernel.last_report
    assert report is not None
    sys.stdout.write("\n")
    _title(f"simulator counters of one CTA at m={m}, k={k}, n={n}")
    print_table(("counter", ">value", ""), counter_rows(report.counters, MOST_OPCODES))


def _title(title: str) -> None:
    stdout().rule(title, align="left", style="dim", characters="-")
