"""From a legal schedule to a plan: operations, order, buffers, parameters. No text, no bytes."""

from dataclasses import replace

from samoyeds_gen.compiler.dependence import check_synchronised, ordered
from samoyeds_gen.compiler.geometry import METADATA_COLUMNS, SLOT_COLUMNS, derive_geometry
from samoyeds_gen.compiler.ops import (
    Access,
    AddPrefix,
    Barrier,
    Blocks,
    CopyTile,
    Exchange,
    FillRing,
    LoadTokens,
    LoadWeight,
    MatrixStep,
    Op,
    PrefetchWords,
    RotateFold,
    RotateWords,
    State,
    Steps,
    StoreTile,
    Wait,
    ZeroFill,
)
from samoyeds_gen.compiler.plan import Buffer, Packing, Parameter, Plan
from samoyeds_gen.language.atoms import matrix_atom_named
from samoyeds_gen.language.kernels import Ssmm
from samoyeds_gen.language.layouts import swizzle_named
from samoyeds_gen.language.schedule import Schedule
from samoyeds_gen.language.targets import Target

RING = ("weight_ring", "token_ring")
ORDER = (
    ("wait", "barrier"),
    ("barrier", "copy_tile"),
    ("barrier", "steps"),
    ("barrier", "blocks"),
    ("exchange", "steps"),
    ("steps", "add_prefix"),
)


def lower(schedule: Schedule, problem: Ssmm, target: Target) -> Plan:
    """The plan's skeleton: geometry, parameters and packings; later passes fill the rest."""
    geometry = derive_geometry(schedule, problem)
    folded = geometry.fold in ("exchange", "prefix")
    rows = schedule.tile.m // geometry.features_per_row
    row_kind = "output" if geometry.fold == "expand" else "stored"
    packings = [Packing("weight.metadata", row_kind, rows, max(schedule.tile.k, METADATA_COLUMNS))]
    if geometry.fold != "direct":
        source = {"exchange": "weight.swaps", "prefix": "weight.selectors"}.get(
            geometry.fold, "weight.slots"
        )
        packings.append(Packing(source, row_kind, rows, 1 if folded else SLOT_COLUMNS))
    return Plan(
        entry=f"{schedule.name}_{problem.suffix}",
        schedule=schedule,
        problem=problem,
        target=target,
        atom=matrix_atom_named(schedule.tensorize),
        geometry=geometry,
        template="cp_async_ring.cu.jinja",
        parameters=_parameters(problem, geometry.fold),
        packings=tuple(packings),
    )


def add_buffers(plan: Plan) -> Plan:
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
    if g.fold == "expand":
        buffers.append(Buffer("zeros", "shared", dtype, (8,), 16, "what absent sub-rows read"))
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


def add_operations(plan: Plan) -> Plan:
    """Prologue, loop body (unordered) and epilogue."""
    g, stages = plan.geometry, plan.schedule.pipeline.stages
    ahead = stages - 1
    addresses = "expand_addresses" if g.fold == "expand" else "stored_addresses"
    setup: list[Op] = [
        State("deal weight chunks to threads", name="weight_sources"),
        State("deal token chunks to threads", name="token_sources"),
        State("metadata words", name="metadata_words"),
        State("shared-memory addresses of fragments", name=addresses),
    ]
    rotate: tuple[Op, ...] = ()
    if g.fold != "direct":
        setup.insert(3, State(f"{g.fold} words", name=f"{g.fold}_words"))
        rotate = (RotateFold(f"rotate {g.fold} words every {g.tiles_per_word} tiles", fold=g.fold),)
    prologue: list[Op] = [
        PrefetchWords("load the first metadata and fold words"),
        FillRing(f"copy tiles 0..{ahead - 1} into the ring", count=ahead),
    ]
    if g.fold == "expand":
        prologue.insert(0, ZeroFill("write zeros"))
    copies = tuple(Access(name, ahead, late=True) for name in RING)
    loop: list[Op] = [
        Wait(f"wait until at most {stages - 2} copies are in flight", pending=stages - 2),
        Barrier("barrier", reason="Every warp's copies of this tile are visible, and every warp "
                "is done with the stage that is refilled next."),
        CopyTile(f"copy tile + {ahead} into the ring", writes=copies, ahead=ahead),
        RotateWords("rotate metadata words", writes=(_words(),), body=rotate),
        *_compute(plan),
    ]
    epilogue: tuple[Op, ...] = (
        Wait("wait until no copy is in flight", pending=0),
        Barrier("barrier", reason="Staging reuses the bytes of the ring."),
        StoreTile("out <- staging <- acc", fold=g.fold, paired=g.features_per_row % 2 == 0),
    )
    return replace(
        plan, setup=tuple(setup), prologue=tuple(prologue), loop=tuple(loop), epilogue=epilogue
    )


def order_loop(plan: Plan) -> Plan:
    """Put the loop body in dependence order."""
    return replace(plan, loop=ordered(plan.loop, ORDER))


def verify_synchronisation(plan: Plan) -> Plan:
    """Hold every hazard of the loop against its waits, barriers and ring depth."""
    check_synchronised(plan.loop, plan.schedule.pipeline.stages)
    return plan


def _words() -> Access:
    return Access("words", shared=False)


def _compute(plan: Plan) -> tuple[Op, ...]:
    """The matrix work of one tile, with the fold step where sub-rows may change."""
    g, atom = plan.geometry, plan.atom
    ring = tuple(Access(name) for name in RING)
    body: tuple[Op, ...] = (
        LoadWeight("load weight fragments", reads=(ring[0],), expand=g.fold == "expand"),
        LoadTokens("load token fragments", reads=(ring[1],)),
        MatrixStep(f"acc += weight * tokens by {atom.name}", reads=(_words(),)),
    )
    inside = g.blocks_per_tile > 1
    steps = Steps(
        f"for {g.steps_per_block} steps of k {atom.k}",
        reads=(*ring, _words()),
        first="block * kSteps" if inside else "0",
        last="(block + 1) * kSteps" if inside else "kSteps",
        body=body,
    )
    entry = "tile % kTilesPerWord"
    if inside:
        entry += " * kBlocksPerTile + block"
    elif g.tiles_per_block > 1:
        entry += " / kTilesPerBlock"
    inner: tuple[Op, ...] = (steps,)
    if g.fold == "exchange":
        guard = "if (tile % kTilesPerBlock == 0) " if g.tiles_per_block > 1 else ""
        exchange = Exchange("exchange acc sets", reads=(_words(),), entry=entry, guard=guard)
        inner = (exchange, steps)
    elif g.fold == "prefix":
        guard = "if ((tile + 1) % kTilesPerBlock == 0) " if g.tiles_per_block > 1 else ""
        text = "add weighted prefix sums"
        inner = (steps, AddPrefix(text, reads=(_words(),), entry=entry, guard=guard))
    if g.blocks_per_tile == 1:
        return inner
    text = f"for {g.blocks_per_tile} V-blocks of the tile"
    return (Blocks(text, reads=(*ring, _words()), body=inner),)


def _accumulator_note(plan: Plan) -> str:
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
        parameters.append(pointer("bias", "float", "bias", "[m]"))
    if problem.scale:
        parameters.append(pointer("scale", "float", "scale", "[n]"))
    parameters += [
        Parameter("out", "Output* __restrict__ out", "out", "[n, m]"),
        Parameter("token_stride", "long long token_stride", "tokens.stride", "elements"),
        Parameter("out_stride", "long long out_stride", "out.stride", "elements"),
        Parameter("m", "int m", "m", "output features"),
        Parameter("n", "int n", "n", "output tokens"),
        Parameter("k", "int k", "k", "input features"),
    ]
    if problem.index is not None:
        parameters.append(Parameter("token_count", "long long token_count", "tokens.count", "rows"))
    return tuple(parameters)
