"""Hypothesis strategies for problems of grouped kernels: how tokens are dealt to experts.

Decides which counts are interesting: none, one, those next to whole tiles, one expert that takes
all, more experts than a warp counts at a time, and counts that do not add up to the output.
"""

from hypothesis import assume
from hypothesis import strategies as st

from samoyeds_gen.check.cases import Case
from samoyeds_gen.check.strategies import CONTENTS, Scope, near

MANY = 67  # experts: three turns of a warp that counts their tiles
DEEP_STEPS = 6  # tiles of k that drawn problems take: k is what ungrouped problems are drawn for
SLACK = (0, 0, 0, 0, 1, -1, 3)  # rows of out that no expert owns, or that are claimed behind it


@st.composite
def grouped_cases(draw: st.DrawFn, scope: Scope) -> Case:
    """Problems for a grouped kernel: few experts or many, of which most have no token."""
    tile_m, tile_n, tile_k = scope.tile
    usual = st.sampled_from((0, 1, tile_n, tile_n - 1, tile_n + 1, 0, 3, 2 * tile_n))
    few = st.lists(usual, min_size=1, max_size=5)
    counts = draw(few | st.builds(_sparse, few, st.integers(0, MANY - 6)))
    n = max(0, sum(counts) + draw(st.sampled_from(SLACK)))
    units = -(-tile_m // scope.unit)
    m = scope.unit * draw(st.integers(1, 3) | st.sampled_from((units, units + 1, 2 * units + 1)))
    k = draw(near(scope.columns, DEEP_STEPS * tile_k, DEEP_STEPS * tile_k))
    tokens, chosen, order, hidden = n, 0, "ordered", False
    if scope.index:
        tokens, chosen = draw(st.integers(1, 2 * tile_n)), n
        order = draw(st.sampled_from(("ordered", "permuted", "repeated", "outlying")))
        hidden = draw(st.booleans())
    across = sum(-(-count // tile_n) for count in counts)
    assume(scope.affordable(m, k, max(1, across) * tile_n))
    return Case(
        m,
        k,
        tokens,
        chosen,
        order,  # type: ignore[arg-type]
        hidden,
        *draw(CONTENTS),
        tuple(counts),
    )


def _sparse(counts: list[int], empty: int) -> list[int]:
    """The counts, one of them behind `empty` experts without tokens."""
    return [*counts[:-1], *[0] * empty, counts[-1]]


def grouped_corners(scope: Scope) -> tuple[Case, ...]:
    """The cases every grouped kernel is tried on before any are drawn, the most telling first."""
    tile_m, tile_n, tile_k = scope.tile
    unit, k = scope.unit, tile_k + 5
    edges = (0, tile_n - 1, tile_n, tile_n + 1, 0, 2 * tile_n, 3)
    many = [0] * MANY
    many[3], many[31], many[32], many[63], many[66] = 2, 1, tile_n + 1, 1, 3
    tall = (2 * tile_m // unit + 1) * unit  # one row of tiles behind a raster group of two
    ring = min(scope.columns[-1] + 1, DEEP_STEPS * tile_k)

    def case(
        m: int, k: int, counts: tuple[int, ...], slack: int, seed: int, **more: object
    ) -> Case:
        n = sum(counts) + slack
        tokens, chosen = (tile_n + 3, n) if scope.index else (n, 0)
        return Case(m, k, tokens, chosen, seed=seed, counts=counts, **more)  # type: ignore[arg-type]

    return (
        case(unit, k, edges, 0, 1, order="permuted", rows="aligned"),
        case(tall, k, (tile_n + 1, 0, 2), 2, 2, order="outlying"),
        case(unit, 9, tuple(many), 0, 3, order="outlying", hidden=True, rows="aligned"),
        case(2 * unit, ring, (0, 1), 0, 4, order="reversed", values="reals"),
        case(unit, k, (0, 0, 2 * tile_n + 1, 0), 0, 5, values="specials", order="permuted"),
        case(unit, 9, (5, tile_n, 9), 1 - tile_n, 6),
        case(3 * unit, k, (1,), 0, 7, order="repeated"),
        case(unit, 9, (0, 0), 2, 8),
        case(unit, 9, (0, 0, 0), 0, 9),
    )
