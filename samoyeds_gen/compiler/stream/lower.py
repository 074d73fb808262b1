"""From a legal schedule to the skeleton of a stream's plan: parameters, packings and buffers."""

from dataclasses import replace
from math import prod

from samoyeds_gen.compiler.plan import Buffer, KernelPlan, Packing, Parameter
from samoyeds_gen.compiler.stream.geometry import (
    FRAGMENT_TOKENS,
    GROUP_COLUMNS,
    GROUP_STEPS,
    StreamGeometry,
    StreamPlan,
    derive_geometry,
)
from samoyeds_gen.language.atoms import matrix_atom_named
from samoyeds_gen.language.kernels import Ssmm
from samoyeds_gen.language.layouts import swizzle_named
from samoyeds_gen.language.schedule import Schedule
from samoyeds_gen.language.targets import Target


def lower(schedule: Schedule, problem: Ssmm, target: Target) -> StreamPlan:
    """The plan's skeleton: geometry, parameters and packings; later passes fill the rest."""
    geometry = derive_geometry(schedule, problem)
    sources = ["weight.fragments", "weight.metadata_pairs"]
    sources += [] if geometry.fold == "direct" else ["weight.offsets"]
    return KernelPlan(
        entry=f"{schedule.name}_{problem.suffix}",
        schedule=schedule,
        problem=problem,
        target=target,
        atom=matrix_atom_named(schedule.tensorize),
        geometry=geometry,
        template="stream.cu.jinja",
        parameters=_parameters(problem, geometry, schedule.split.k > 1),
        threads=schedule.warps.threads,
        packings=tuple(
            Packing(source, "stored", geometry.weight_rows, GROUP_COLUMNS) for source in sources
        ),
        rows_on_y=True,
    )


def add_buffers(plan: StreamPlan) -> StreamPlan:
    """Shared-memory buffers with their lives, and what a lane keeps in registers."""
    g, s = plan.geometry, plan.schedule
    # What lives longest comes first, so that sums fit where the tokens were.
    buffers = []
    if plan.problem.index:
        note = "rows of tokens of this tile, -1 for none"
        rows = Buffer("token_rows", "shared", "s32", (s.tile.n,), 4 * s.tile.n, note)
        buffers.append(replace(rows, last="epilogue"))
    if s.split.k > 1:
        note = "whether this CTA took the tile's last ticket"
        last = Buffer("last", "shared", "s32", (1,), 4, note)
        buffers.append(replace(last, first="epilogue", last="epilogue"))
    ring = (g.chunks, s.tile.k // 64, s.tile.n, 64)
    note = "resident tokens: chunks of columns, in panels of 64"
    tokens = plan.problem.dtype.short, ring, g.chunks * g.chunk_bytes, note
    buffers.append(Buffer("token_ring", "shared", *tokens, swizzle=swizzle_named(s.layout.tokens)))
    shape = (s.warps.k, FRAGMENT_TOKENS, g.sum_stride)
    note = "sums of 8 tokens, of each warp along k"
    sums = Buffer("sums", "shared", "f32", shape, 4 * prod(shape), note)
    buffers.append(replace(sums, first="epilogue", last="epilogue"))
    return replace(plan, buffers=(*buffers, *_registers(plan)))


def _registers(plan: StreamPlan) -> tuple[Buffer, ...]:
    g = plan.geometry
    accumulators = (g.accumulator_sets, g.fragments_m, g.fragments_n, 4)
    words = g.accumulator_sets * g.fragments_m * g.fragments_n * 4
    weight = (g.groups, g.fragments_m, GROUP_STEPS, 4)
    return (
        Buffer("acc", "register", "f32", accumulators, 4 * words, _accumulator_note(plan)),
        Buffer(
            "weight_words",
            "register",
            "u32",
            weight,
            16 * g.groups * g.fragments_m * GROUP_STEPS,
            "weights in flight, a step's registers together",
        ),
    )


def _accumulator_note(plan: StreamPlan) -> str:
    sets = plan.geometry.accumulator_sets
    return {
        "prefix": f"running sum, then {sets - 1} rows of each block",
        "expand": f"a set for each of {sets} rows it may belong to",
    }.get(plan.geometry.fold, "output rows")


def _parameters(problem: Ssmm, geometry: StreamGeometry, split: bool) -> tuple[Parameter, ...]:
    """Kernel parameters in order; `source` is what the launcher looks up."""

    def pointer(name: str, type_name: str, source: str, note: str) -> Parameter:
        return Parameter(name, f"const {type_name}* __restrict__ {name}", source, note)

    parameters = [
        pointer("weight", "unsigned", "weight.fragments", "registers of k32 steps"),
        pointer("metadata", "unsigned", "weight.metadata_pairs", "two words a lane and group"),
    ]
    if geometry.fold != "direct":
        note = "a nibble: position less place in the band"
        parameters.append(pointer("offsets", "unsigned", "weight.offsets", note))
    parameters.append(pointer("tokens", "Element", "tokens", "[token_count, k]"))
    if problem.index is not None:
        parameters.append(pointer("selection", "Index", "selection", "[n] rows of tokens"))
    if problem.bias:
        parameters.append(pointer("bias", "float", "bias", "[m]"))
    if problem.scale:
        parameters.append(pointer("scale", "float", "scale", "[n]"))
    parameters.append(Parameter("out", "Output* __restrict__ out", "out", "[n, m]"))
    if split:
        parameters += [
            Parameter("parts", "float* parts", "split.parts", "[tiles, splits, tile n, tile m]"),
            Parameter("tickets", "unsigned* tickets", "split.tickets", "[tiles], all zero"),
        ]
    parameters += [
        Parameter("token_stride", "long long token_stride", "tokens.stride", "elements"),
        Parameter("out_stride", "long long out_stride", "out.stride", "elements"),
        Parameter("m", "int m", "m", "output features"),
        Parameter("n", "int n", "n", "output tokens"),
        Parameter("k", "int k", "k", "input features"),
    ]
    if problem.index is not None:
        parameters.append(Parameter("token_count", "long long token_count", "tokens.count", "rows"))
    return tuple(parameters)
