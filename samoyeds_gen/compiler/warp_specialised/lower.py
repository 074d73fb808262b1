"""From a legal warp-specialised schedule to the skeleton of a plan: parameters, maps, buffers."""

from dataclasses import replace

from samoyeds_gen.compiler.plan import Box, Buffer, KernelPlan, Packing, Parameter
from samoyeds_gen.compiler.warp_specialised.geometry import (
    BOX_COLUMNS,
    MAX_EXPERTS,
    WARPGROUP_ROWS,
    SpecialisedGeometry,
    SpecialisedPlan,
    derive_geometry,
)
from samoyeds_gen.language.atoms import matrix_atom_named
from samoyeds_gen.language.kernels import Ssmm
from samoyeds_gen.language.layouts import swizzle_named
from samoyeds_gen.language.schedule import Schedule
from samoyeds_gen.language.targets import Target

SWIZZLE_ATOM = 1024  # bytes after which the 128-byte swizzle repeats: what its buffers align to


def lower(schedule: Schedule, problem: Ssmm, target: Target) -> SpecialisedPlan:
    """The plan's skeleton: geometry, parameters, packings and boxes; later passes fill the rest."""
    g = derive_geometry(schedule, problem)
    return KernelPlan(
        entry=f"{schedule.name}_{problem.suffix}",
        schedule=schedule,
        problem=problem,
        target=target,
        atom=matrix_atom_named(schedule.tensorize),
        geometry=g,
        template="warp_specialised.cu.jinja",
        parameters=_parameters(problem, g),
        packings=_packings(schedule, problem, g),
        boxes=_boxes(schedule, problem, g),
        threads=32 * schedule.warps.m * schedule.warps.n + 128,
        persistent=g.split == 1,
        cluster=g.cluster * g.split,
        share=g.split,
    )


def _packings(schedule: Schedule, problem: Ssmm, g: SpecialisedGeometry) -> tuple[Packing, ...]:
    # Words of experts are padded to warpgroups: one packing serves tiles of any height.
    rows, k = WARPGROUP_ROWS if problem.grouped else g.rows * g.cluster, schedule.tile.k
    words = Packing("weight.words", "output" if g.fold == "expand" else "stored", rows, k, g.fold)
    fragments = Packing("weight.fragments", "stored", rows, k)
    return (words, fragments) if g.fragment_buffers else (words,)


def _boxes(schedule: Schedule, problem: Ssmm, g: SpecialisedGeometry) -> tuple[Box, ...]:
    boxes = []
    if not g.fragment_buffers:
        weight = swizzle_named(schedule.layout.weight).row_bytes
        boxes.append(Box("weight.map", "weight.data", schedule.tile.k // 2, g.weight_rows, weight))
    if problem.index is None:
        boxes.append(Box("tokens.map", "tokens", BOX_COLUMNS, schedule.tile.n // g.cluster, 128))
    return tuple(boxes)


def add_buffers(plan: SpecialisedPlan) -> SpecialisedPlan:
    """The ring, its barriers and the output slices; all live as long as the persistent CTA."""
    g, s = plan.geometry, plan.schedule
    stages, dtype = s.pipeline.stages, plan.problem.dtype.short

    def shared(
        name: str, element: str, shape: tuple[int, ...], size: int, note: str, **more: object
    ) -> Buffer:
        life = {"last": "loop" if name.endswith("_ring") and g.split > 1 else "epilogue"}
        return Buffer(name, "shared", element, shape, size, note, **life, **more)  # type: ignore[arg-type]

    out = plan.problem.out_dtype
    slice_shape = (g.slices, s.epilogue.tokens, g.slice_stride // out.bytes)
    weight = shared(
        "weight_ring",
        dtype,
        (stages, g.weight_rows, s.tile.k // 2),
        stages * g.weight_bytes,
        "stored weight values",
        swizzle=swizzle_named(s.layout.weight),
        align=SWIZZLE_ATOM,
    )
    buffers = [
        *(() if g.fragment_buffers else (weight,)),
        shared(
            "token_ring",
            dtype,
            (stages, g.token_boxes, s.tile.n, BOX_COLUMNS),
            stages * g.token_bytes,
            "token values",
            swizzle=swizzle_named(s.layout.tokens),
            align=SWIZZLE_ATOM,
        ),
        shared(
            "word_ring",
            "u8",
            (stages, g.groups, g.word_bytes),
            stages * g.groups * g.word_bytes,
            f"metadata and fold words of each {'warpgroup' if g.matrices == 1 else 'matrix'}",
        ),
        shared(
            "slices",
            out.short,
            slice_shape,
            g.slices * g.slice_bytes,
            "output rows on their way to 16-byte stores",
        ),
        shared("full", "u64", (stages,), 8 * stages, "a stage's copies have arrived"),
        shared("empty", "u64", (stages,), 8 * stages, "a stage's readers have finished"),
    ]
    if g.places_told:
        numbers = 4 if plan.problem.grouped else 2
        size = 4 * numbers * stages
        note = "where the tile of a stage lies"
        buffers.append(shared("places", "s32", (stages, numbers), size, note, align=16))
    if g.gathered:
        rows = 4 * s.tile.n
        buffers.append(
            shared("token_rows", "s32", (s.tile.n,), rows, "rows of tokens, -1 for none")
        )
    if plan.problem.grouped:
        note = "each expert's first tile and first output row, and the end"
        size = MAX_EXPERTS + 1
        buffers.append(shared("expert_tiles", "s32", (2, size), 8 * size, note))
    if g.split > 1:
        note = "parts of sums that the cluster sends, over the ring"
        shape = (g.split, -(-g.items // g.split), g.item_bytes // 128, 32)
        parts = Buffer("parts", "shared", "f32", shape, g.parts_bytes, note)
        buffers.append(replace(parts, first="epilogue", last="epilogue"))
    if g.fold == "expand":
        buffers.append(shared("zeros", dtype, (64,), 128, "what absent sub-rows read"))
    sums = (g.accumulator_sets, s.overlap.split, g.sums)
    note = "output rows"
    if g.fold == "prefix":
        note = f"running sum, then the first {g.accumulator_sets - 1} rows of each block"
    words = g.accumulator_sets * s.overlap.split * g.sums
    buffers.append(Buffer("acc", "register", "f32", sums, 4 * words, note))
    if g.fragment_buffers:
        held, note = (g.fragment_buffers, g.steps, 4), "weight of stages in flight, a step together"
        buffers.append(Buffer("fragments", "register", "u32", held, 16 * held[0] * held[1], note))
    return replace(plan, buffers=tuple(buffers))


def _parameters(problem: Ssmm, g: SpecialisedGeometry) -> tuple[Parameter, ...]:
    """Kernel parameters in order; `source` is what the launcher looks up."""

    def pointer(name: str, type_name: str, source: str, note: str) -> Parameter:
        return Parameter(name, f"const {type_name}* __restrict__ {name}", source, note)

    def tensor(name: str, source: str, note: str) -> Parameter:
        return Parameter(name, f"const __grid_constant__ TensorMap {name}", source, note)

    weight = tensor("weight_map", "weight.map", "[stored rows, stored k / 2]")
    if g.fragment_buffers:
        weight = pointer("weight", "unsigned", "weight.fragments", "registers of k32 steps")
    parameters = [
        weight,
        pointer("words", "unsigned char", "weight.words", "metadata and fold words by stage"),
    ]
    if problem.index is None:
        parameters.append(tensor("token_map", "tokens.map", "[n, k]"))
    else:
        parameters += [
            pointer("tokens", "Element", "tokens", "[token_count, k]"),
            pointer("selection", "Index", "selection", "[n] rows of tokens"),
        ]
    if problem.bias:
        parameters.append(pointer("bias", "float", "bias", "[m]"))
    if problem.scale:
        parameters.append(pointer("scale", "float", "scale", "[n]"))
    if problem.grouped:
        note = "[experts + 1] first output row of each expert"
        parameters.append(pointer("offsets", "int", "offsets", note))
    shape = "[n, m / 2]" if problem.gated else "[n, m]"
    rows = "weight rows of an expert" if problem.grouped else "output features"
    parameters += [
        Parameter("out", "Output* __restrict__ out", "out", shape),
        Parameter("out_stride", "long long out_stride", "out.stride", "elements"),
        Parameter("m", "int m", "m", "gate and up rows" if problem.gated else rows),
        Parameter("n", "int n", "n", "output tokens"),
        Parameter("k", "int k", "k", "input features"),
    ]
    if problem.grouped:
        parameters.append(Parameter("experts", "int experts", "experts", "weights in the stack"))
    if problem.index is not None:
        parameters += [
            Parameter("token_stride", "long long token_stride", "tokens.stride", "elements"),
            Parameter("token_count", "long long token_count", "tokens.count", "rows"),
        ]
    return tuple(parameters)
