"""From a legal schedule to the skeleton of a plan: numbers, parameters, packings and buffers."""

from dataclasses import replace
from math import prod
from typing import Literal

from samoyeds_gen.compiler.plan import Buffer, KernelPlan, Packing, Parameter
from samoyeds_gen.compiler.ring.geometry import (
    FRAGMENT_ROWS,
    METADATA_COLUMNS,
    SLOT_COLUMNS,
    RingPlan,
    derive_geometry,
)
from samoyeds_gen.language.atoms import matrix_atom_named
from samoyeds_gen.language.kernels import Ssmm
from samoyeds_gen.language.layouts import swizzle_named
from samoyeds_gen.language.schedule import Schedule
from samoyeds_gen.language.targets import Target


def lower(schedule: Schedule, problem: Ssmm, target: Target) -> RingPlan:
    """The plan's skeleton: geometry, parameters and packings; later passes fill the rest."""
    geometry = derive_geometry(schedule, problem)
    folded = geometry.fold in ("exchange", "prefix")
    # Words of experts are padded to fragments: one packing serves tiles of any height.
    rows = FRAGMENT_ROWS if problem.grouped else schedule.tile.m // geometry.features_per_row
    row_kind: Literal["stored", "output"] = "output" if geometry.fold == "expand" else "stored"
    packings = [Packing("weight.metadata", row_kind, rows, max(schedule.tile.k, METADATA_COLUMNS))]
    if geometry.fold != "direct":
        source = {"exchange": "weight.swaps", "prefix": "weight.selectors"}.get(
            geometry.fold, "weight.slots"
        )
        packings.append(Packing(source, row_kind, rows, 1 if folded else SLOT_COLUMNS))
    return KernelPlan(
        entry=f"{schedule.name}_{problem.suffix}",
        schedule=schedule,
        problem=problem,
        target=target,
        atom=matrix_atom_named(schedule.tensorize),
        geometry=geometry,
        template="cp_async_ring.cu.jinja",
        parameters=_parameters(problem, geometry.fold),
        packings=tuple(packings),
        threads=schedule.warps.threads,
    )


def add_buffers(plan: RingPlan) -> RingPlan:
    """Shared-memory buffers with their lives; `storage.place` gives them bytes."""
    g, tile, stages = plan.geometry, plan.schedule.tile, plan.schedule.pipeline.stages
    dtype = plan.problem.dtype.short
    buffers = [
        Buffer(
            "weight_ring",
            "shared",
            dtype,
            (stages, g.weight_rows, tile.k // 2),
            stages * g.weight_rows * g.weight_row_bytes,
            "stored weight values",
            swizzle_named(plan.schedule.layout.weight),
        ),
        Buffer(
            "token_ring",
            "shared",
            dtype,
            (stages, tile.n, tile.k),
            stages * tile.n * g.token_row_bytes,
            "token values",
            swizzle_named(plan.schedule.layout.tokens),
        ),
    ]
    fragments = g.fragment_rows // 16
    metadata = (stages, fragments, g.metadata_words, 32)
    buffers.append(
        Buffer("metadata_ring", "shared", "u32", metadata, 4 * prod(metadata), "metadata words")
    )
    if g.fold != "direct":
        fold = (stages, *g.fold_shape)
        note = f"{g.fold} words"
        buffers.append(Buffer("fold_ring", "shared", "u32", fold, 4 * prod(fold), note))
    if g.fold == "expand":
        buffers.append(Buffer("zeros", "shared", dtype, (64,), 128, "what absent sub-rows read"))
    if plan.problem.index:
        note = "rows of tokens of this tile, -1 for none"
        rows = Buffer("token_rows", "shared", "s32", (tile.n,), 4 * tile.n, note, last="epilogue")
        buffers.append(rows)
    warps = plan.schedule.warps.m * plan.schedule.warps.n
    buffers.append(
        Buffer(
            "staging",
            "shared",
            plan.problem.out_dtype.short,
            (warps, 8, g.staging_stride // plan.problem.out_dtype.bytes),
            warps * 8 * g.staging_stride,
            "output rows on their way to 16-byte stores",
            first="epilogue",
            last="epilogue",
        )
    )
    accumulators = (g.accumulator_sets, g.fragments_m, g.fragments_n, 4)
    words = accumulators[0] * accumulators[1] * accumulators[2] * 4
    buffers.append(
        Buffer("acc", "register", "f32", accumulators, 4 * words, _accumulator_note(plan))
    )
    return replace(plan, buffers=tuple(buffers))


def _accumulator_note(plan: RingPlan) -> str:
    g = plan.geometry
    return {
        "direct": "output rows",
        "expand": "output rows",
        "exchange": f"active row, then the {g.accumulator_sets - 1} parked rows of each block",
        "prefix": f"running sum, then the first {g.accumulator_sets - 1} rows of each block",
    }[g.fold]


def _parameters(problem: Ssmm, fold: str) -> tuple[Parameter, ...]:
    """Kernel parameters in order; `source` is what the launcher looks up."""

    def pointer(name: str, type_name: str, source: str, note: str) -> Parameter:
        return Parameter(name, f"const {type_name}* __restrict__ {name}", source, note)

    parameters = [
        pointer("weight", "Element", "weight.data", "[stored rows, stored k / 2]"),
        pointer("metadata", "unsigned", "weight.metadata", "fragment order"),
    ]
    if fold == "exchange":
        parameters += [
            pointer("swaps", "unsigned", "weight.swaps", "a nibble per V-block: set to swap in"),
            pointer("placement", "unsigned", "weight.placement", "a nibble per set: its row"),
        ]
    elif fold == "prefix":
        parameters.append(
            pointer("selectors", "unsigned", "weight.selectors", "a bit per V-block and row")
        )
    elif fold == "expand":
        parameters.append(
            pointer("slots", "unsigned", "weight.slots", "a nibble per row and 16 columns")
        )
    parameters.append(pointer("tokens", "Element", "tokens", "[token_count, k]"))
    if problem.index is not None:
        parameters.append(pointer("selection", "Index", "selection", "[n] rows of tokens"))
    if problem.bias:
        shape = "[experts, m]" if problem.grouped else "[m]"
        parameters.append(pointer("bias", "float", "bias", shape))
    if problem.scale:
        parameters.append(pointer("scale", "float", "scale", "[n]"))
    if problem.grouped:
        note = "[experts + 1] first output row of each expert"
        parameters.append(pointer("offsets", "int", "offsets", note))
    shape = "[n, m / 2]" if problem.gated else "[n, m]"
    features = "weight rows of an expert" if problem.grouped else "output features"
    parameters += [
        Parameter("out", "Output* __restrict__ out", "out", shape),
        Parameter("token_stride", "long long token_stride", "tokens.stride", "elements"),
        Parameter("out_stride", "long long out_stride", "out.stride", "elements"),
        Parameter("m", "int m", "m", "gate and up rows" if problem.gated else features),
        Parameter("n", "int n", "n", "output tokens"),
        Parameter("k", "int k", "k", "input features"),
    ]
    if problem.grouped:
        parameters.append(Parameter("experts", "int experts", "experts", "weights in the stack"))
    if problem.index is not None:
        parameters.append(Parameter("token_count", "long long token_count", "tokens.count", "rows"))
    return tuple(parameters)
