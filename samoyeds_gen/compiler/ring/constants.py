"""The named constants of an emitted file and the wrappers it needs: every number has a name."""

from dataclasses import replace

from samoyeds_gen.compiler.ops import Op, Wait
from samoyeds_gen.compiler.plan import Constant, ConstantGroup, Wrapper
from samoyeds_gen.compiler.ring.geometry import RingPlan


def name_constants(plan: RingPlan) -> RingPlan:
    """Fill `constants` and `wrappers`."""
    drafts = (_format(plan), _tile(plan), _fragments(plan), _words(plan), _memory(plan))
    groups = tuple(group for group in drafts if group.constants)
    return replace(plan, constants=groups, wrappers=_wrappers(plan))


def _group(title: str, *rows: tuple[str, int, str]) -> ConstantGroup:
    return ConstantGroup(title, tuple(Constant(*row) for row in rows))


def _format(plan: RingPlan) -> ConstantGroup:
    f = plan.problem.format
    return _group(
        "Format: N of every M sub-rows of V columns are kept, 2:4 sparse inside",
        ("kFormatN", f.n, "kept sub-rows a block"),
        ("kFormatM", f.m, "output rows a block"),
        ("kFormatV", f.v, "dense columns a block"),
    )


def _tile(plan: RingPlan) -> ConstantGroup:
    s, g = plan.schedule, plan.geometry
    return _group(
        "Tile",
        ("kTileM", s.tile.m, "output features a CTA"),
        ("kTileN", s.tile.n, "tokens a CTA"),
        ("kTileK", s.tile.k, "dense columns a stage"),
        ("kTileFragments", g.fragment_rows // 16, "fragments of 16 rows a CTA"),
        ("kWeightRows", g.weight_rows, "stored rows a tile touches"),
        ("kStages", s.pipeline.stages, "depth of the ring"),
        ("kWarpsM", s.warps.m, "warps along the features"),
        ("kWarpsN", s.warps.n, "warps along the tokens"),
        ("kThreads", plan.threads, "32 x kWarpsM x kWarpsN"),
        ("kRasterGroup", s.raster.group, "tile rows walked together"),
        ("kCtasPerSm", s.resident.ctas, "resident CTAs the compiler makes room for"),
    )


def _fragments(plan: RingPlan) -> ConstantGroup:
    g = plan.geometry
    outputs = (
        ("kWarpOutputs", g.warp_outputs, "outputs a warp: a gate and an up projection make one"),
        ("kTileOutputs", g.warp_outputs * plan.schedule.warps.m, "outputs a CTA"),
    )
    return _group(
        "Fragments of one warp",
        ("kSets", g.accumulator_sets, "accumulator sets"),
        ("kFragmentsM", g.fragments_m, "fragments of 16 rows"),
        ("kFragmentsN", g.fragments_n, "fragments of 8 tokens"),
        ("kFragmentBuffers", plan.schedule.pipeline.fragments, "buffers of weight fragments"),
        ("kFeaturesPerRow", g.features_per_row, "output features of one fragment row"),
        ("kWarpFeatures", g.warp_features, "output features a warp"),
        ("kWarpTokens", g.warp_tokens, "tokens a warp"),
        *(outputs if plan.problem.gated else ()),
        ("kStepK", plan.atom.k, "dense columns a matrix step"),
        ("kStepsPerWord", plan.atom.selectors, "steps one metadata word feeds"),
        ("kMetadataWords", g.metadata_words, "metadata words a lane, fragment and tile"),
    )


def _words(plan: RingPlan) -> ConstantGroup:
    g = plan.geometry
    rows = []
    if g.fold == "expand":
        rows.append(("kSteps", g.steps, "matrix steps a tile"))
    if g.fold in ("exchange", "prefix"):
        rows.append(("kTileRows", g.fragment_rows, "fragment rows a CTA"))
    if g.fold != "direct":
        rows.append(("kTilesPerWord", g.tiles_per_word, "tiles one fold word covers"))
    if g.fold in ("exchange", "prefix"):
        rows.append(("kEntriesPerWord", g.entries_per_word, "V-blocks one fold word covers"))
    if g.blocks_per_tile > 1:
        rows.append(("kBlocksPerTile", g.blocks_per_tile, "V-blocks a tile"))
    if g.tiles_per_block > 1:
        rows.append(("kTilesPerBlock", g.tiles_per_block, "tiles a V-block"))
    if g.fold == "expand":
        rows.append(("kAbsent", 15, "slot of a sub-row that is not kept"))
    return _group("Steps and fold words", *rows)


def _memory(plan: RingPlan) -> ConstantGroup:
    g = plan.geometry
    weight, tokens = plan.buffer("weight_ring"), plan.buffer("token_ring")
    fragments = g.fragment_rows // 16
    out_bytes = plan.problem.out_dtype.bytes
    rows = [
        ("kWeightRing", weight.offset, "first byte of the weight ring"),
        ("kWeightStage", weight.bytes // weight.shape[0], "bytes a stage"),
        ("kWeightRowBytes", g.weight_row_bytes, "bytes a stored row"),
        ("kWeightChunks", g.weight_rows * g.weight_row_bytes // 16, "16-byte chunks a stage"),
        ("kWeightCopies", g.weight_copies, "chunks a thread copies"),
        ("kWeightCopyRows", plan.threads * 16 // g.weight_row_bytes, "rows between them"),
        ("kTokenRing", tokens.offset, "first byte of the token ring"),
        ("kTokenStage", tokens.bytes // tokens.shape[0], "bytes a stage"),
        ("kTokenRowBytes", g.token_row_bytes, "bytes a token"),
        ("kTokenChunks", plan.schedule.tile.n * g.token_row_bytes // 16, "16-byte chunks a stage"),
        ("kTokenCopies", g.token_copies, "chunks a thread copies"),
        ("kTokenCopyRows", plan.threads * 16 // g.token_row_bytes, "rows between them"),
        ("kMetadataRing", plan.buffer("metadata_ring").offset, "first byte of the metadata ring"),
        ("kMetadataStage", 128 * fragments * g.metadata_words, "bytes a stage"),
        (
            "kMetadataCopies",
            -(-fragments * g.metadata_words * 8 // plan.threads),
            "chunks a thread",
        ),
        ("kStaging", plan.buffer("staging").offset, "first byte of the staging rows"),
        ("kStagingStride", g.staging_stride, "bytes a staged token: 16 more keep banks apart"),
        ("kChunkElements", 16 // out_bytes, "outputs in 16 bytes"),
        ("kStoreChunks", g.store_chunks, "16-byte chunks a warp stores at a time"),
    ]
    if g.fold != "direct":
        fold = plan.buffer("fold_ring")
        stage = fold.bytes // fold.shape[0]
        rows += [
            ("kFoldRing", fold.offset, "first byte of the fold words' ring"),
            ("kFoldStage", stage, "bytes a stage"),
            ("kFoldCopies", -(-stage // 16 // plan.threads), "chunks a thread copies"),
        ]
    if g.fold == "expand":
        rows.append(("kZeros", plan.buffer("zeros").offset, "first byte of the zeros"))
    if plan.problem.index:
        rows.append(("kTokenRows", plan.buffer("token_rows").offset, "first byte of token rows"))
    rows.append(("kSharedBytes", plan.shared_bytes, "dynamic shared memory"))
    return _group("Shared memory, in bytes", *rows)


def _wrappers(plan: RingPlan) -> tuple[Wrapper, ...]:
    """The PTX wrappers the operations use, in the order they are defined."""
    ops: tuple[Op, ...] = (*plan.prologue, *plan.loop, *plan.epilogue)
    waits = sorted({op.pending for op in ops if isinstance(op, Wait)})
    loads = sorted({plan.atom.a_registers, plan.atom.b_registers})
    return (
        Wrapper("thread_index"),
        Wrapper("cp_async_16b"),
        Wrapper("cp_async_commit"),
        *(Wrapper("cp_async_wait", pending) for pending in waits),
        *(Wrapper(f"ldmatrix_x{registers}") for registers in loads),
        Wrapper(plan.atom.name),
    )
