"""The named constants of an emitted stream and the wrappers it needs: every number has a name."""

from dataclasses import replace

from samoyeds_gen.compiler.ops import Op, Wait
from samoyeds_gen.compiler.plan import DEPENDENT_LAUNCH, Constant, ConstantGroup, Wrapper
from samoyeds_gen.compiler.stream.geometry import (
    FRAGMENT_TOKENS,
    GROUP_COLUMNS,
    GROUP_STEPS,
    QUAD,
    StreamPlan,
)
from samoyeds_gen.language.layouts import STREAM_ROW_BYTES


def name_constants(plan: StreamPlan) -> StreamPlan:
    """Fill `constants` and `wrappers`."""
    groups = (_format(plan), _tile(plan), _fragments(plan), _flight(plan), _memory(plan))
    return replace(plan, constants=groups, wrappers=_wrappers(plan))


def _group(title: str, *rows: tuple[str, int, str]) -> ConstantGroup:
    return ConstantGroup(title, tuple(Constant(*row) for row in rows))


def _format(plan: StreamPlan) -> ConstantGroup:
    f = plan.problem.format
    rows = [("kFormatV", f.v, "dense columns a block")]
    if plan.geometry.fold == "expand":
        rows = [
            ("kFormatN", f.n, "kept sub-rows a block"),
            ("kFormatM", f.m, "output rows a block"),
            *rows,
        ]
    title = f"Format ({f}): N of every M sub-rows of V columns are kept, 2:4 sparse inside"
    return _group(title, *rows)


def _tile(plan: StreamPlan) -> ConstantGroup:
    s = plan.schedule
    rows = [
        ("kTileM", s.tile.m, "output features a CTA"),
        ("kTileN", s.tile.n, "tokens a CTA"),
        ("kTileK", s.tile.k, "dense columns a chunk of tokens"),
        ("kWarpsM", s.warps.m, "warps along the features"),
        ("kWarpsK", s.warps.k, "warps that take turns along k"),
        ("kThreads", plan.threads, "32 x kWarpsM x kWarpsK"),
        ("kCtasPerSm", s.resident.ctas, "resident CTAs the compiler makes room for"),
    ]
    if s.split.k > 1:
        rows.append(("kSplits", s.split.k, "CTAs that share out the columns of a tile"))
    return _group("Tile", *rows)


def _fragments(plan: StreamPlan) -> ConstantGroup:
    g = plan.geometry
    rows = [
        ("kSets", g.accumulator_sets, "accumulator sets"),
        ("kFragmentsM", g.fragments_m, "fragments of 16 stored rows a warp"),
        ("kFragmentsN", g.fragments_n, "fragments of 8 tokens a warp"),
    ]
    if g.fold != "expand":
        rows.append(("kFeaturesPerRow", g.features_per_row, "output features of a stored row"))
    return _group("Fragments of one warp", *rows)


def _flight(plan: StreamPlan) -> ConstantGroup:
    g = plan.geometry
    rows = [
        ("kGroupSteps", GROUP_STEPS, "matrix steps a group"),
        ("kGroupK", GROUP_COLUMNS, "dense columns a group"),
        ("kGroups", g.groups, "groups in flight a lane"),
        ("kChunkGroups", g.chunk_groups, "groups of a warp in a chunk of tokens"),
        ("kChunks", g.chunks, "chunks of tokens in shared memory"),
    ]
    if g.fold != "direct":
        rows += [
            ("kOffsetK", g.offset_columns, "dense columns that share an offset"),
            ("kGroupsPerWord", g.groups_per_word, "groups one word of offsets covers"),
        ]
    if g.fold != "direct" and g.groups_per_word > 1:
        rows.append(
            ("kOffsetsPerGroup", GROUP_COLUMNS // g.offset_columns, "offsets a row and group")
        )
    return _group("What is in flight", *rows)


def _memory(plan: StreamPlan) -> ConstantGroup:
    g, s = plan.geometry, plan.schedule
    sums = plan.buffer("sums")
    rows = [
        ("kTokenRing", plan.buffer("token_ring").offset, "first byte of the chunks of tokens"),
        ("kChunkBytes", g.chunk_bytes, "bytes a chunk"),
        ("kPanelBytes", g.panel_bytes, "bytes a panel of 64 columns"),
        ("kTokenRowBytes", STREAM_ROW_BYTES, "bytes of a token in a panel"),
        ("kTokenPieces", s.tile.n * s.tile.k // 8, "16-byte pieces a chunk"),
        ("kTokenCopies", g.token_copies, "pieces a thread copies"),
        ("kSliceTokens", FRAGMENT_TOKENS, "tokens finished at a time"),
        ("kQuad", QUAD, "features a thread finishes at a time"),
        ("kSums", sums.offset, "first byte of the sums of a slice"),
        ("kSumStride", g.sum_stride, "floats a token: 4 modulo 16 keep banks apart"),
        ("kSliceSums", FRAGMENT_TOKENS * g.sum_stride, "floats a warp along k"),
    ]
    if plan.problem.index:
        rows.append(("kTokenRows", plan.buffer("token_rows").offset, "first byte of token rows"))
    if s.split.k > 1:
        rows.append(("kLast", plan.buffer("last").offset, "first byte of the last CTA's flag"))
    rows.append(("kSharedBytes", plan.shared_bytes, "dynamic shared memory"))
    return _group("Shared memory, in bytes", *rows)


def _wrappers(plan: StreamPlan) -> tuple[Wrapper, ...]:
    """The PTX wrappers the operations use, in the order they are defined."""
    ops: tuple[Op, ...] = (*plan.prologue, *plan.loop, *plan.epilogue)
    waits = sorted({op.pending for op in ops if isinstance(op, Wait)})
    folded = plan.geometry.fold != "direct"
    split, launch = plan.schedule.split.k > 1, plan.schedule.launch
    return (
        Wrapper("ldg_stream_16b"),
        Wrapper("ldg_stream_8b"),
        *((Wrapper("ldg_8b"),) if folded else ()),
        Wrapper("cp_async_16b"),
        Wrapper("cp_async_commit"),
        *(Wrapper("cp_async_wait", pending) for pending in waits),
        Wrapper("ldmatrix_x4"),
        Wrapper(plan.atom.name),
        *((Wrapper("ldg_l2_16b"), Wrapper("fence_gpu")) if split else ()),
        *(Wrapper(name) for name in DEPENDENT_LAUNCH if launch.dependent),
        *((Wrapper("prefetch_l2"),) if launch.prefetch else ()),
    )
