"""`samoyeds-gen compile`: the resource report of one kernel, and what making it took."""

import time
from dataclasses import dataclass

from samoyeds_gen.cli.console import print_facts, print_json
from samoyeds_gen.cli.options import (
    DEFAULT_DTYPE,
    DEFAULT_FORMAT,
    DtypeText,
    FormatText,
    Json,
    MaybeFile,
    Request,
    ShapeText,
    TargetText,
    parse_shape,
    resolve_or_choose,
)
from samoyeds_gen.compiler import Plan, compile_plan, emit
from samoyeds_gen.runtime import Build, compile_source, require_clean


@dataclass(frozen=True, slots=True)
class Compilation:
    """A plan, its source and build, and the seconds emission took."""

    plan: Plan
    source: str
    build: Build
    emission: float


def compile_schedule(
    file: MaybeFile = None,
    shape: ShapeText = None,
    format: FormatText = DEFAULT_FORMAT,
    dtype: DtypeText = DEFAULT_DTYPE,
    target: TargetText = None,
    json: Json = False,
) -> None:
    """Compile a schedule and print its resource report and the time it took; needs no GPU."""
    wanted = None if shape is None else parse_shape(shape)
    request = resolve_or_choose(file, format, dtype, target, wanted)
    made = make(request)
    if json:
        print_json({**as_json(made), "choice": str(request.choice)})
    else:
        print_facts([*facts(made), ("choice", request.choice)])
    require_clean(made.build.report, allow_spills=made.plan.schedule.resident.spills)


def make(request: Request) -> Compilation:
    """Plan, emit and compile. Raises SamoyedsError; a spill is for the caller to refuse."""
    began = time.perf_counter()
    plan = compile_plan(request.schedule, request.problem, request.target)
    source = emit(plan)
    emission = time.perf_counter() - began
    build = compile_source(source, name=plan.source_name, target=plan.target.name)
    return Compilation(plan, source, build, emission)


def facts(made: Compilation) -> list[tuple[str, object]]:
    """The report as name and value pairs; sizes in bytes, registers of a thread."""
    plan, build, report = made.plan, made.build, made.build.report
    m, n, k = plan.tile
    spills = f"{report.spill_stores} B stored, {report.spill_loads} B loaded"
    when = "earlier, from the cache" if build.cached else "now"
    return [
        ("kernel", f"{plan.entry} for {plan.target.name}"),
        ("schedule", f"{plan.schedule.name} {plan.schedule.digest}"),
        ("tile", f"{m} features x {n} tokens, k in steps of {k}, {plan.threads} threads"),
        (
            "registers",
            f"{report.registers} of {plan.target.registers_per_thread} "
            f"(estimated {plan.geometry.registers})",
        ),
        ("shared", f"{plan.shared_bytes} B of {plan.target.shared_per_cta} B"),
        ("spills", spills if report.spills else "none"),
        ("advice", "; ".join(report.advice) or "none"),
        ("emission", f"{made.emission * 1e3:.1f} ms"),
        ("compile", f"{build.seconds * 1e3:.0f} ms, {when}"),
        ("cubin", f"{len(build.cubin)} B"),
        ("files", build.directory or "not kept"),
    ]


def as_json(made: Compilation) -> dict[str, object]:
    """The report as plain data: sizes in bytes, times in seconds."""
    plan, build = made.plan, made.build
    return {
        "kernel": plan.entry,
        "schedule": plan.schedule.as_dict(),
        "digest": plan.schedule.digest,
        "format": str(plan.problem.format),
        "dtype": plan.problem.dtype.name,
        "target": plan.target.name,
        "tile": list(plan.tile),
        "threads": plan.threads,
        "shared_bytes": plan.shared_bytes,
        "report": build.report.to_json(),
        "emission_seconds": made.emission,
        "compile_seconds": build.seconds,
        "cached": build.cached,
        "directory": str(build.directory) if build.directory else None,
    }
