"""Hypothesis strategy for warp-specialised schedules: legal by construction, smallest first."""

from dataclasses import replace
from math import lcm
from typing import Literal

from hypothesis import strategies as st

from samoyeds_gen.language import Schedule, Ssmm, layouts
from samoyeds_gen.language.schedule import (
    Cluster,
    Epilogue,
    Fold,
    Launch,
    Layout,
    Overlap,
    Split,
    Stationary,
    Tile,
    Warps,
)

Owner = Literal["warp", "warpgroup"]
MOST_TOKENS = 32  # of a tile, times `most`
WEIGHTS = ("shared", "registers", "fragments")  # where a matrix step takes weight from, and how
GROUPS = ((1, 1), (1, 1), (2, 1), (4, 1), (1, 2), (1, 3))  # CTAs of a cluster along m, and along k


@st.composite
def specialised(draw: st.DrawFn, base: Schedule, problem: Ssmm, most: int) -> Schedule:
    """Variations of a warp-specialised schedule, nearly all legal: fold, tile, warpgroups,
    matrices, ring, parts, turns, skew, weight, clusters, split of k, slices, launch. At most
    32 * `most` tokens a tile.
    """
    f = problem.format
    k = draw(st.sampled_from((64, 128)))
    adds = f.n == 1 and f.v % 32 == 0 and (f.v % k == 0 or k % f.v == 0) and not f.plain
    fold: Fold = draw(st.sampled_from(("prefix", "prefix", "expand"))) if adds else "expand"
    consumers, parts = draw(st.integers(1, 4)), draw(st.sampled_from((1, 2, 3)))
    cluster, split = draw(st.sampled_from(GROUPS[:1] if problem.grouped else GROUPS))
    step = 8 * lcm(parts, cluster)
    tokens = step * draw(st.integers(1, max(1, MOST_TOKENS * most // step)))
    slices = [8 * each for each in (1, 2, 3) if split == 1 or tokens // parts % (8 * each) == 0]
    streams = f.plain or fold == "prefix"
    weight = draw(st.sampled_from(WEIGHTS if streams else WEIGHTS[:2]))
    streamed = weight == "fragments"
    swizzle = layouts.LINEAR if streamed else layouts.swizzle_for_row(k)
    stages, turns = draw(st.integers(2, 4)), draw(st.booleans()) and consumers > 1
    apart = (stages - 1) // (consumers - 1) if consumers > 1 and split == 1 and not turns else 0
    fragments = draw(st.integers(1, 4)) if streamed else 2
    owners: tuple[Owner, ...] = ("warp", "warpgroup") if split == 1 else ("warp",)
    by = draw(st.sampled_from(owners))
    second = fold == "expand" and not streamed and by == "warpgroup"
    matrices = draw(st.sampled_from((1, 2))) if second and consumers < 3 else 1
    untouched = f.plain and parts == 1 and (weight == "shared" or (streamed and fragments > 1))
    return replace(
        base,
        tile=Tile(64 * matrices * consumers * (f.m if fold == "prefix" else 1), tokens, k),
        warps=Warps(4 * consumers, 1),
        pack=replace(base.pack, data="fragment" if streamed else "rows"),
        layout=Layout(swizzle.name, layouts.XOR_128B.name),
        stationary=Stationary(fold, weight="shared" if weight == "shared" else "registers"),
        pipeline=replace(base.pipeline, stages=stages, fragments=fragments),
        overlap=Overlap(
            parts, turns, draw(st.booleans()) and untouched, draw(st.integers(0, apart))
        ),
        cluster=Cluster(cluster),
        split=Split(split),
        epilogue=Epilogue(draw(st.sampled_from(slices)), by),
        raster=replace(base.raster, group=draw(st.sampled_from((1, 2, 8)))),
        launch=Launch(draw(st.booleans()) and not problem.grouped),
    )
