"""What a rule is, and the rules that every pipeline shape shares.

A rule returns None or a Violation, which names the directive to blame.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from samoyeds_gen.compiler.folds import plan_fold
from samoyeds_gen.formats import gate_block
from samoyeds_gen.language.atoms import copy_atom_named, matrix_atom_named
from samoyeds_gen.language.kernels import ALGORITHMS, Ssmm
from samoyeds_gen.language.schedule import (
    Cluster,
    Epilogue,
    Overlap,
    Pipeline,
    Raster,
    Resident,
    Schedule,
    Split,
    Tile,
    Warps,
)
from samoyeds_gen.language.targets import Target, target_named

MAX_WARPS = 32
MAX_STAGES = 12
DEPENDENT_FROM = 90  # compute capability of griddepcontrol
GATE_ROWS = 8  # of the matrix unit: a thread has rows that far apart


@dataclass(frozen=True, slots=True)
class Case:
    """What a rule looks at."""

    schedule: Schedule
    problem: Ssmm
    target: Target


@dataclass(frozen=True, slots=True)
class Violation:
    """Why a rule refuses: the numbers, the remedy, and the directive to blame."""

    sentence: str
    remedy: str
    directive: str


Rule = Callable[[Case], Violation | None]

NUMBERED = tuple(
    (directive, tuple(field.name for field in dataclasses.fields(kind)))
    for directive, kind in (
        ("tile", Tile),
        ("warps", Warps),
        ("pipeline", Pipeline),
        ("raster", Raster),
        ("resident", Resident),
        ("overlap", Overlap),
        ("cluster", Cluster),
        ("epilogue", Epilogue),
        ("split", Split),
    )
)
"""Directives with numbers, and the names of their values."""


def name_usable(case: Case) -> Violation | None:
    """The name can be part of a C identifier."""
    name = case.schedule.name
    if name.isascii() and name.isidentifier():
        return None
    return Violation(
        f"schedule name {name!r} is not an identifier",
        "use letters, digits and underscores",
        "target",
    )


def numbers_positive(case: Case) -> Violation | None:
    """Every number of a schedule counts something; only a skew may be none. Directives check it
    too, JSON does not.
    """
    for directive, names in NUMBERED:
        part = getattr(case.schedule, directive)
        for name in names:
            number = getattr(part, name)
            least = int(name != "skew")
            if isinstance(number, int) and not isinstance(number, bool) and number < least:
                return Violation(
                    f"{directive} {name}={number} is not a positive integer",
                    f"give {name} as an integer from {least}",
                    directive,
                )
    return None


def algorithm_known(case: Case) -> Violation | None:
    """The algorithm is one this compiler has."""
    names = [each.name for each in ALGORITHMS]
    if case.schedule.algorithm in names:
        return None
    return Violation(
        f"algorithm {case.schedule.algorithm!r} is not one of {', '.join(names)}",
        "schedule one of these",
        "target",
    )


def target_order(case: Case) -> Violation | None:
    """A schedule runs on its own target and later ones."""
    least = target_named(case.schedule.target)
    if case.target.accepts(least):
        return None
    return Violation(
        f"a schedule for {least.name} cannot be compiled for {case.target.name}",
        f"compile for {least.name}" + ("" if least.specific else " or a later target"),
        "target",
    )


def launch_dependent(case: Case) -> Violation | None:
    """CTAs that begin early wait for the launch before, which takes instructions of sm_90; those
    that do not have no time to ask for weight in.
    """
    launch = case.schedule.launch
    if launch.prefetch and not launch.dependent:
        return Violation(
            "launch prefetch=True asks for weight before the wait that dependent=True makes",
            "add dependent=True, or leave it out",
            "launch",
        )
    if not launch.dependent or case.target.capability >= DEPENDENT_FROM:
        return None
    return Violation(
        f"launch dependent=True needs sm_{DEPENDENT_FROM}, the target is {case.target.name}",
        "leave it out, or choose a later target",
        "launch",
    )


def atom_target(case: Case) -> Violation | None:
    """The target has the instructions the atoms name."""
    for atom in (
        matrix_atom_named(case.schedule.tensorize),
        copy_atom_named(case.schedule.pipeline.copy),
    ):
        only = getattr(atom, "target", None)
        if only is not None and case.target.name != only:
            return Violation(
                f"{atom.name} exists on {only} alone, the target is {case.target.name}",
                f"choose the target {only}, or another atom",
                "tensorize",
            )
        if case.target.capability < atom.least_capability:
            return Violation(
                f"{atom.name} needs sm_{atom.least_capability}, the target is {case.target.name}",
                "choose a later target",
                "tensorize",
            )
    return None


def warps_count(case: Case) -> Violation | None:
    """A CTA has at most 1024 threads."""
    warps = case.schedule.warps
    count = warps.m * warps.n * warps.k
    if count <= MAX_WARPS:
        return None
    product = f"{warps.m} x {warps.n}" + (f" x {warps.k}" if warps.k > 1 else "")
    return Violation(
        f"{product} warps are {count}, more than {MAX_WARPS}",
        "use fewer warps",
        "warps",
    )


def weight_space(case: Case) -> Violation | None:
    """A warp's matrix steps take weight values from registers anyway."""
    if case.schedule.stationary.weight == "shared":
        return None
    return Violation(
        "stationary(weight.data) is for warpgroups, a warp has its values in registers anyway",
        "leave it out, or use copy=atoms.TMA",
        "stationary.weight.data",
    )


def one_weight(case: Case) -> Violation | None:
    """Streams know neither the tiles of experts nor gates."""
    if not (case.problem.grouped or case.problem.gated):
        return None
    return Violation(
        f"{case.schedule.pipeline.copy} kernels multiply one weight, without a gate",
        "use copy=atoms.CP_ASYNC_16B, or copy=atoms.TMA",
        "pipeline",
    )


def gate_rows(case: Case) -> Violation | None:
    """Eight rows of the matrix unit are a block of gates, or of up projections, of the weight."""
    f, fold = case.problem.format, plan_fold(case.schedule, case.problem)
    if not case.problem.gated:
        return None
    if GATE_ROWS % f.m:
        return Violation(
            f"gate and up rows alternate by {GATE_ROWS}, the format ({f}) has blocks of {f.m}",
            "use a format whose M divides 8",
            "stationary",
        )
    block, own = gate_block(f), GATE_ROWS * (f.m if fold in ("exchange", "prefix") else 1)
    if block == own:
        return None
    other = "fold='expand'" if block == GATE_ROWS else "fold='prefix' or fold='exchange'"
    return Violation(
        f"gate and up rows of ({f}) alternate by {block}, fold {fold} takes them by {own}",
        f"use {other}",
        "stationary",
    )


def gather_place(case: Case) -> Violation | None:
    """Only where experts share a launch do rows gathered before it lie together."""
    if case.schedule.pack.gather == "on_load" or case.problem.grouped:
        return None
    return Violation(
        "tokens are gathered before the launch, which only products of several experts do",
        "use pack(tokens, gather='on_load')",
        "pack.tokens",
    )


def ring_too_large(case: Case, stage: int, limit: int, what: str) -> Violation | None:
    """A ring whose stages of `stage` bytes take more than `limit`, which `what` says more of."""
    stages, fits = case.schedule.pipeline.stages, limit // stage
    if stages <= fits:
        return None
    return Violation(
        f"{stages} stages of {stage} bytes take {stages * stage}, {case.target.name} has "
        f"{limit} {what}",
        f"use stages={fits}" if fits >= 2 else "use a smaller tile",
        "pipeline",
    )


def ring_depth(case: Case) -> Violation | None:
    """A ring overlaps only from two stages up; more than a dozen is a typing mistake."""
    stages = case.schedule.pipeline.stages
    if 2 <= stages <= MAX_STAGES:
        return None
    return Violation(
        f"pipeline stages={stages} is outside 2..{MAX_STAGES}",
        "use at least two stages" if stages < 2 else "use fewer stages",
        "pipeline",
    )


def resident_threads(case: Case) -> Violation | None:
    """The resident CTAs' threads fit one SM."""
    ctas, threads = case.schedule.resident.ctas, case.schedule.warps.threads
    if ctas * threads <= case.target.threads_per_sm:
        return None
    return Violation(
        f"{ctas} resident CTAs of {threads} threads exceed the {case.target.threads_per_sm} "
        f"of a {case.target.name} SM",
        "ask for fewer CTAs",
        "resident",
    )


COMMON: dict[str, Rule] = {
    "name-usable": name_usable,
    "numbers-positive": numbers_positive,
    "algorithm-known": algorithm_known,
    "target-order": target_order,
    "atom-target": atom_target,
    "launch-dependent": launch_dependent,
    "warps-count": warps_count,
    "gather-place": gather_place,
}
