"""The named constants of an emitted warp-specialised kernel, and the wrappers it needs."""

from dataclasses import replace

from samoyeds_gen.compiler.plan import DEPENDENT_LAUNCH, Constant, ConstantGroup, Wrapper
from samoyeds_gen.compiler.warp_specialised.geometry import (
    BOX_COLUMNS,
    MAX_EXPERTS,
    WARPGROUP_ROWS,
    SpecialisedPlan,
    stored_by_matrices,
)
from samoyeds_gen.compiler.warp_specialised.ops import AwaitMatrix

SWIZZLE_MODES = {64: 2, 128: 1}  # by bytes a row; PTX ISA, "Matrix descriptor format"


def name_constants(plan: SpecialisedPlan) -> SpecialisedPlan:
    """Fill `constants` and `wrappers`."""
    groups = (_format(plan), _tile(plan), _fold(plan), _memory(plan))
    return replace(plan, constants=groups, wrappers=_wrappers(plan))


def _group(title: str, *rows: tuple[str, int, str]) -> ConstantGroup:
    return ConstantGroup(title, tuple(Constant(*row) for row in rows))


def _format(plan: SpecialisedPlan) -> ConstantGroup:
    f = plan.problem.format
    columns = ("kFormatV", f.v, "dense columns a block")
    if f.plain:
        return _group("Format: every row is kept, 2:4 sparse inside", columns)
    # Fragments are not found by their rows.
    rows = (("kFormatN", f.n, "kept sub-rows a block"), ("kFormatM", f.m, "output rows a block"))
    return _group(
        "Format: N of every M sub-rows of V columns are kept, 2:4 sparse inside",
        *(() if plan.geometry.fragment_buffers else rows),
        columns,
    )


def _tile(plan: SpecialisedPlan) -> ConstantGroup:
    s, g = plan.schedule, plan.geometry
    rows = WARPGROUP_ROWS * g.features_per_row
    blocks = ("kBlockFeatures", rows, "rows of the decoded weight a block of words")
    experts = ("kMaxExperts", MAX_EXPERTS, "the launcher refuses more")
    gather = ("kGatherBarrier", 1 + g.consumers, "named barrier of the producer's threads")
    group_outputs = 4 * g.matrices * g.outputs
    shared_outputs = ("kGroupOutputs", group_outputs, "output features a warpgroup")
    matrices = ("kMatrices", g.matrices, "matrices of so many rows that a warpgroup multiplies")
    of = " and matrix" * (g.matrices > 1)
    slices = ("kSliceBarrier", 2 + g.consumers, "first named barrier of slices, one a warpgroup")
    skew = ("kSkew", s.overlap.skew, "stages that a warpgroup begins behind the one before")
    stored = ("kWeightRows", g.weight_rows, "stored rows of a stage")
    return _group(
        "Tile and warpgroups",
        ("kTileM", s.tile.m, "rows of the decoded weight a CTA"),
        ("kTileN", s.tile.n, "tokens a CTA"),
        ("kTileK", s.tile.k, "dense columns a stage"),
        *(() if g.fragment_buffers else (stored,)),
        ("kStages", s.pipeline.stages, "depth of the ring"),
        *((skew,) if s.overlap.skew else ()),
        ("kConsumers", g.consumers, "warpgroups that multiply; one more copies"),
        ("kThreads", plan.threads, "128 x (kConsumers + 1)"),
        ("kGroupRows", WARPGROUP_ROWS, f"rows of the matrix unit a warpgroup{of}"),
        *((matrices,) if g.matrices > 1 else ()),
        ("kFeaturesPerRow", g.features_per_row, "output features of one such row"),
        ("kWarpFeatures", WARPGROUP_ROWS // 4 * g.features_per_row, f"of these a warp{of}"),
        ("kWarpOutputs", g.outputs, f"output features a warp{of}"),
        *((shared_outputs, slices) if g.slice_warps > 1 else ()),
        ("kRowGroups", g.row_groups, "groups of 8 rows of a warp that become output"),
        ("kTileOutputs", g.consumers * group_outputs, "output features a CTA"),
        ("kRasterGroup", s.raster.group, "tile rows walked together"),
        *((gather,) if g.gathered else ()),
        *((experts, blocks) if plan.problem.grouped else ()),
        ("kConsumerRegisters", g.consumer_registers, "a thread"),
        ("kProducerRegisters", g.producer_registers, "a thread"),
    )


def _fold(plan: SpecialisedPlan) -> ConstantGroup:
    s, g = plan.schedule, plan.geometry
    rows = [
        ("kSets", g.accumulator_sets, "accumulator sets"),
        ("kParts", s.overlap.split, "parts of the tokens"),
        ("kSums", g.sums, "accumulators a thread, set and part"),
        ("kPartTokens", g.part_tokens, "tokens of a part"),
    ]
    if g.tiles_per_block > 1:
        rows.append(("kTilesPerBlock", g.tiles_per_block, "tiles a V-block"))
    if g.weight_registers:
        rows.append(("kSteps", g.steps, "matrix steps a tile"))
    if g.fragment_buffers:
        words = 128 * g.steps
        rows += [
            ("kFragmentStages", g.fragment_buffers, "stages of weight in flight to registers"),
            ("kFragmentWords", words, "registers of a warp that hold a stage of its rows"),
        ]
    if g.fold == "expand":
        rows.append(("kAbsent", 15, "slot of a sub-row that is not kept"))
    if g.cluster > 1:
        rows.append(("kCluster", g.cluster, "CTAs along m that share tokens"))
    if g.split > 1:
        rows += [
            ("kSplit", g.split, "CTAs of a cluster that split k"),
            ("kWarps", 4 * g.consumers, "warps that multiply"),
            ("kItems", g.items, "slices of tokens and a warp's rows, dealt to the cluster"),
            ("kTurns", -(-g.items // g.split), "of which a CTA gets at most"),
            ("kItemBytes", g.item_bytes, "bytes of one of them"),
            ("kSplitUnit", g.tiles_per_block, "tiles of k that stay together"),
        ]
        if g.fold == "prefix":
            rows.append(("kBlocksPerTile", g.blocks_per_tile, "V-blocks a tile"))
    return _group("Accumulators", *rows)


def _memory(plan: SpecialisedPlan) -> ConstantGroup:
    s, g = plan.schedule, plan.geometry
    chunks = g.token_chunks
    alone = g.slice_warps == 1
    word_owner = "warpgroup" if g.matrices == 1 else "matrix"
    part_slices = ("kPartSlices", g.part_slices, "slices of a part")
    whose, of = ("one a warp", "a warp") if alone else ("two a warpgroup", "a warpgroup")
    groups = ("kTokenGroups", -(-s.tile.n // 32), "groups of 32 tokens a tile")
    held = g.spare and (plan.problem.scale or g.gathered)
    metadata = ("kMetadataBytes", g.metadata_bytes, "of which metadata")
    rows = [] if g.fragment_buffers else _weight_ring(plan)
    rows += [
        ("kTokenSwizzle", SWIZZLE_MODES[128], "swizzling mode of the tokens' descriptors"),
        ("kTokenRing", plan.buffer("token_ring").offset, "first byte of the token ring"),
        ("kTokenStage", g.token_bytes, "bytes a stage"),
        ("kBoxColumns", BOX_COLUMNS, "token columns of one box"),
        ("kBoxBytes", 2 * BOX_COLUMNS * s.tile.n, "bytes of one box of tokens"),
        ("kWordRing", plan.buffer("word_ring").offset, "first byte of the words' ring"),
        ("kWordBytes", g.word_bytes, f"bytes a stage and {word_owner}"),
        *(() if g.fold == "direct" else (metadata,)),
        ("kFull", plan.buffer("full").offset, "first barrier of full stages"),
        ("kEmpty", plan.buffer("empty").offset, "first barrier of empty stages"),
        *_places(plan),
        ("kSlices", plan.buffer("slices").offset, "first byte of the output slices"),
        ("kSliceCount", g.slices, f"slices of a CTA, {whose}"),
        *((groups,) if held else ()),
        ("kSliceTokens", s.epilogue.tokens, "tokens a slice"),
        *(() if alone else (part_slices,)),
        ("kTokenChunks", chunks, f"16-byte chunks of {of}'s features and a token"),
        ("kStoreTokens", 32 * g.slice_warps // chunks, f"tokens that {of} stores at once"),
        ("kSliceStride", g.slice_stride, "bytes a token: 16 more keep banks apart"),
        ("kSliceBytes", g.slice_bytes, "bytes a slice"),
        ("kChunkElements", 16 // plan.problem.out_dtype.bytes, "outputs in 16 bytes"),
        ("kSharedBytes", plan.shared_bytes, "dynamic shared memory"),
    ]
    if g.gathered:
        rows.append(("kTokenRows", plan.buffer("token_rows").offset, "first byte of token rows"))
    if plan.problem.grouped:
        table = plan.buffer("expert_tiles").offset
        rows.append(("kExpertTiles", table, "first byte of the experts' table"))
    if g.split > 1:
        rows.append(("kPartSums", plan.buffer("parts").offset, "first byte of the parts"))
    if g.fold == "expand":
        rows.append(("kZeros", plan.buffer("zeros").offset, "first byte of the zeros"))
    return _group("Shared memory, in bytes", *rows)


def _places(plan: SpecialisedPlan) -> list[tuple[str, int, str]]:
    if not plan.geometry.places_told:
        return []
    return [("kPlaces", plan.buffer("places").offset, "first byte of the places of stages' tiles")]


def _weight_ring(plan: SpecialisedPlan) -> list[tuple[str, int, str]]:
    g = plan.geometry
    mode = SWIZZLE_MODES[g.weight_row_bytes]
    weight_mode = ("kWeightSwizzle", mode, "swizzling mode of its descriptors")
    return [
        ("kWeightRing", plan.buffer("weight_ring").offset, "first byte of the weight ring"),
        ("kWeightStage", g.weight_bytes, "bytes a stage"),
        ("kWeightRowBytes", g.weight_row_bytes, "bytes a stored row"),
        *(() if g.weight_registers else (weight_mode,)),
    ]


def _wrappers(plan: SpecialisedPlan) -> tuple[Wrapper, ...]:
    """The PTX wrappers the operations use, in the order they are defined."""
    g = plan.geometry
    ops = (*plan.loop, *plan.epilogue)
    waits = sorted({op.pending for op in ops if isinstance(op, AwaitMatrix)})
    names = ["mbarrier_init", "mbarrier_expect", "mbarrier_wait"]
    if not g.fragment_buffers or not (g.gathered or g.cluster > 1):
        names.append("tma_box")
    names += ["bulk_load", "registers"]
    if g.cluster == 1:
        names.append("mbarrier_arrive")
    if g.cluster > 1:
        names += ["tma_box_to_all", "cluster_sync", "mbarrier_arrive_at"]
    if g.split > 1:
        names += ["cluster_sync", "send"]
    if g.gathered or plan.schedule.overlap.turns or g.slice_warps > 1:
        names.append("warpgroup_sync")
    if plan.schedule.overlap.turns:
        names.append("warpgroup_arrive")
    if g.gathered:
        names += ["cp_async_16b", "cp_async_arrive", "proxy_fence"]
    if g.weight_registers:
        names.append("ldg_stream_16b" if g.fragment_buffers else "ldmatrix_x4")
    if stored_by_matrices(plan):
        names.append(f"stmatrix_x{g.row_groups}_trans")
    names += ["descriptor", "wgmma_fence", "wgmma_commit"]
    if plan.schedule.overlap.ahead:
        names += ["keep", "keep_fragments"] if g.fragment_buffers else ["keep"]
    if plan.schedule.launch.dependent:
        names += DEPENDENT_LAUNCH
    atom = "wgmma_sp_registers" if g.weight_registers else "wgmma_sp_shared"
    return (
        *(Wrapper(name) for name in names),
        *(Wrapper("wgmma_wait", pending) for pending in waits),
        *(Wrapper(atom, selector) for selector in range(plan.atom.selectors)),
    )
