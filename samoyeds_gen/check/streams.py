"""Hypothesis strategy for schedules of the stream: legal by construction, smallest first."""

from dataclasses import replace

from hypothesis import strategies as st

from samoyeds_gen.compiler.stream.geometry import GROUP_COLUMNS, GROUP_STEPS, tile_step
from samoyeds_gen.language import Schedule, Ssmm, layouts
from samoyeds_gen.language.schedule import Fold, Layout, Split, Stationary, Tile, Warps

MOST_GROUPS = 3
MOST_PREFIX_ROWS = 8  # more rows of a block rarely fit the registers


@st.composite
def streams(draw: st.DrawFn, base: Schedule, problem: Ssmm, most: int) -> Schedule:
    """Variations of a stream, nearly all legal: fold, tile, warps, flight, chunks, CTAs along k.

    At most `most` fragments a warp along either side, so that they compile quickly.
    """
    f = problem.format
    folds: tuple[Fold, ...] = ("expand",)
    if f.n == 1 and f.v % 32 == 0 and f.m <= MOST_PREFIX_ROWS:
        folds = ("prefix", "expand")
    groups = draw(st.integers(1, MOST_GROUPS))
    warps = Warps(draw(st.integers(1, 3)), 1, draw(st.sampled_from((1, 2, 4, 3))))
    whole = [each for each in range(1, groups + 1) if groups % each == 0]
    parts = draw(st.sampled_from((*whole, 2 * groups)))
    schedule = replace(
        base,
        warps=warps,
        stationary=Stationary(draw(st.sampled_from(folds))),
        layout=Layout("linear", draw(st.sampled_from((layouts.XOR_128B.name, "linear")))),
        pipeline=replace(
            base.pipeline,
            stages=GROUP_STEPS * groups,
            fragments=draw(st.sampled_from((2, 1, 3, 4))),
        ),
        split=Split(draw(st.sampled_from((1, 2, 3)))),
    )
    tile = Tile(
        tile_step(schedule, problem) * draw(st.integers(1, most)),
        8 * draw(st.integers(1, most)),
        GROUP_COLUMNS * warps.k * parts,
    )
    return replace(schedule, tile=tile)
