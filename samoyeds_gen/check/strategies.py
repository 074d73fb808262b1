"""Hypothesis strategies: formats, problems, schedules. Legal by construction, smallest first.

Decides what is drawn and how it shrinks: to one feature, one token, one column, the smallest tile.
"""

from dataclasses import dataclass, replace
from math import prod

from hypothesis import assume
from hypothesis import strategies as st

from samoyeds_gen.check.cases import Case, Rows, Values
from samoyeds_gen.check.specialised import specialised
from samoyeds_gen.check.streams import streams
from samoyeds_gen.compiler import Plan, first_violation
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel.simulated import PROCESSORS
from samoyeds_gen.language import (
    ACTIVATIONS,
    FOLDS,
    Schedule,
    Ssmm,
    Target,
    layouts,
    make_ssmm,
)
from samoyeds_gen.language.atoms import LDG_STREAM_16B, MATRIX_ATOMS, TMA
from samoyeds_gen.language.schedule import Fold, Layout, Stationary, Tile, Warps

RATIOS = ((1, 1), (1, 2), (2, 4), (1, 4), (4, 8), (8, 16))
LENGTHS = (16, 32, 64, 128)
SHIPPED = tuple(Format(n, m, v) for n, m in RATIOS for v in LENGTHS)
ODD = (
    Format(3, 7, 48),
    Format(2, 3, 80),
    Format(1, 3, 64),
    Format(5, 5, 16),
    Format(1, 16, 32),
    Format(1, 2, 256),
)
DTYPES = ("bfloat16", "float16")
OUTPUTS = ("bfloat16", "float16", "float32")
INDICES = (None, "int32", "int64")
WARPS = ((1, 2), (2, 1), (2, 2), (4, 1), (1, 4), (2, 4), (4, 2))

TILE_STEPS = 72  # k tiles that one problem may take in the simulator: a prefix word of V = 128
CORNER_STEPS = 24  # and that the deepest corner case takes
USUAL_STEPS = 12  # and that it takes unless something changes further on
TILE_WORK = 2**23  # and multiply-adds, whole tiles counted
WARPGROUP_WORK = 2**25  # of warpgroups, whose instructions are larger


@dataclass(frozen=True, slots=True)
class Scope:
    """What a kernel's numbers say about interesting problems: sizes at which something changes.

    `tile` is (m, n, k); `columns` are values of k, such as a V-block, the ring, a fold word. `rows`
    and `tokens` are values of m and n beside the tile's own, such as a warpgroup's share, a
    cluster, or for persistent kernels, which have `ctas` > 0, as many tiles as there are CTAs.
    The simulator takes `work` multiply-adds, whole tiles counted, in a tenth of a second. Experts
    of a grouped kernel have whole `unit`s of rows; 0 for one weight.
    """

    tile: tuple[int, int, int]
    columns: tuple[int, ...]
    index: bool
    rows: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    ctas: int = 0
    work: int = TILE_WORK
    unit: int = 0

    @classmethod
    def of(cls, plan: Plan) -> "Scope":
        """The scope of a compiled kernel."""
        k, stages, v = plan.tile[2], plan.ring_depth, plan.problem.format.v
        s, cluster = plan.schedule, plan.cluster
        word, ring = max(1, plan.geometry.tiles_per_word) * k, s.split.k * k
        columns = {v, k, ring * (stages - 1), ring * stages, word, 2 * word}
        scope = cls(
            plan.tile, tuple(sorted(columns)), plan.problem.index is not None, unit=_unit(plan)
        )
        if s.pipeline.copy != TMA.name:
            return scope
        tile_m, tile_n, _ = plan.tile
        group = plan.cluster // plan.share
        ctas = max(1, PROCESSORS // cluster) * group if plan.persistent else 0
        return replace(
            scope,
            rows=(tile_m // (s.warps.m // 4), tile_m * group, tile_m * ctas),
            tokens=(s.epilogue.tokens, tile_n // s.overlap.split),
            ctas=ctas,
            work=WARPGROUP_WORK,
        )

    def affordable(self, m: int, k: int, n: int) -> bool:
        """Whether the simulator runs this size in a few hundredths of a second."""
        across, down, steps = (
            -(-size // tile) for size, tile in zip((m, n, k), self.tile, strict=True)
        )
        work = across * down * steps * prod(self.tile)
        return steps <= TILE_STEPS and (work <= self.work or across * down * steps <= 4)


def _unit(plan: Plan) -> int:
    """Rows by which the weights of experts are stacked: blocks of M, and pairs of gate and up."""
    problem = plan.problem
    if not problem.grouped:
        return 0
    return 16 * plan.geometry.features_per_row if problem.gated else problem.format.m


def formats() -> st.SearchStrategy[Format]:
    """Shipped formats first, then those of the exchange and prefix folds, then any legal one."""
    folding = st.builds(Format, st.just(1), st.integers(2, 8), st.sampled_from(LENGTHS))
    free = st.integers(1, 16).flatmap(
        lambda m: st.builds(Format, st.integers(1, m), st.just(m), st.integers(1, 9).map(_v))
    )
    return st.sampled_from(SHIPPED) | folding | st.sampled_from(ODD) | free


def _v(count: int) -> int:
    return 16 * count


def near(edges: tuple[int, ...], usual: int, most: int | None = None) -> st.SearchStrategy[int]:
    """Integers from 1: small ones first, then those next to an edge below `most`, then any."""
    inside = tuple(each for each in edges if each < (most or usual)) or (1,)
    near = st.builds(lambda edge, step: max(1, edge + step), st.sampled_from(inside), _STEPS)
    return st.integers(1, 16) | near | st.integers(1, usual)


_STEPS = st.sampled_from((1, 0, -1, 2, 7))


CONTENTS: st.SearchStrategy[tuple[Values, Rows, int]] = st.tuples(
    st.sampled_from(("integers", "reals", "specials")),
    st.sampled_from(("packed", "aligned", "ragged")),
    st.integers(0, 999),
)
"""Of a case: its values, how rows lie in memory, and the seed of both."""


@st.composite
def cases(draw: st.DrawFn, scope: Scope) -> Case:
    """Problems for a kernel: sizes from 1 around its edges, every kind of selection and data."""
    tile_m, tile_n, tile_k = scope.tile
    most = max(2 * tile_m, *scope.rows, 0) + 2
    m = draw(near((8, tile_m, 2 * tile_m, *scope.rows), most))
    token_edges = (8, tile_n, 2 * tile_n, *scope.tokens)
    tokens = draw(near(token_edges, 2 * tile_n + 2))
    chosen, order, hidden = 0, "ordered", False
    if scope.index:
        chosen = draw(st.integers(0, 8) | near(token_edges, 2 * tile_n + 2))
        order = draw(st.sampled_from(("ordered", "reversed", "permuted", "repeated")))
        hidden = draw(st.booleans())
    k = draw(near(scope.columns, USUAL_STEPS * tile_k, TILE_STEPS * tile_k))
    assume(scope.affordable(m, k, max(tokens, chosen)))
    return Case(
        m,
        k,
        tokens,
        chosen,
        order,  # type: ignore[arg-type]
        hidden,
        *draw(CONTENTS),
    )


def corners(scope: Scope) -> tuple[Case, ...]:
    """The cases every kernel is tried on before any are drawn, the most telling first."""
    tile_m, tile_n, tile_k = scope.tile
    ring, word = scope.columns[-2], scope.columns[-1]
    tall = Case(tile_m + 1, tile_k * 3 + 5, 9, 9, "permuted", True, "integers", "aligned", 1)
    wide = Case(19, tile_k * 2, tile_n + 1, tile_n + 3, "repeated", False, "specials", "aligned", 2)
    deep = Case(min(tile_m, 19), word + 1, 3, 5, "reversed", False, "integers", "packed", 3)
    many = Case(tile_m * scope.ctas + 1, tile_k * 2 - 3, 9, 11, "reversed", seed=5)
    return (
        tall,
        wide,
        *((many,) if scope.ctas else ()),  # a CTA takes a second tile, and the ring goes on
        deep if deep.k <= CORNER_STEPS * tile_k else replace(deep, k=ring + 1),
        replace(tall, m=tile_m - 1, values="reals", order="repeated", hidden=False, seed=4),
        Case(1, 1, 1, 1),
        Case(5, 9, 2, 0),
    )


def problems(
    format: st.SearchStrategy[Format], *, dtype: str | None = None, epilogues: bool = True
) -> st.SearchStrategy[Ssmm]:
    """Concrete computations: dtype, selection type and, unless told otherwise, the epilogue."""
    none, no = st.none(), st.just(False)
    return st.builds(
        make_ssmm,
        format,
        st.sampled_from(DTYPES) if dtype is None else st.just(dtype),
        out_dtype=none | st.sampled_from(OUTPUTS) if epilogues else none,
        index=st.sampled_from(INDICES),
        bias=st.booleans() if epilogues else no,
        activation=none | st.sampled_from(ACTIVATIONS) if epilogues else none,
        scale=st.booleans() if epilogues else no,
    )


@st.composite
def schedules(
    draw: st.DrawFn, base: Schedule, problem: Ssmm, target: Target, *, most: int = 2
) -> Schedule:
    """Legal variations of `base` for a problem: fold, atom, tile, warps, ring, swizzles, raster.

    At most `most` fragments a warp along either side, so that they compile quickly.
    """
    others = {LDG_STREAM_16B.name: streams, TMA.name: specialised}
    varied = others.get(base.pipeline.copy, _rings)
    schedule = draw(varied(base, problem, most))
    assume(first_violation(schedule, problem, target) is None)
    return schedule


@st.composite
def _rings(draw: st.DrawFn, base: Schedule, problem: Ssmm, most: int) -> Schedule:
    f = problem.format
    folded = f.n == 1 and f.m <= 8
    fold: Fold = draw(st.sampled_from(FOLDS)) if folded else "expand"
    fold = "expand" if fold != "expand" and 128 % f.v and f.v % 64 else fold
    moving = fold != "expand" and not f.plain
    k = draw(st.sampled_from((64, 128)))
    warps = Warps(*draw(st.sampled_from([w for w in WARPS if 32 * w[0] * w[1] % k == 0])))
    atoms = [a for a in MATRIX_ATOMS if a.threads == 32 and (f.v % a.k == 0 or not moving)]
    atoms = [a for a in atoms if a.k == 32] if fold == "expand" and not f.plain else atoms
    row = f.m if moving else 1
    tile = Tile(
        16 * row * warps.m * draw(st.integers(1, most)),
        8 * warps.n * draw(st.integers(1, most)),
        k,
    )
    weight, tokens = (
        draw(st.sampled_from((layouts.swizzle_for_row(row_bytes).name, "linear")))
        for row_bytes in (k, 2 * k)
    )
    return replace(
        base,
        tile=tile,
        warps=warps,
        tensorize=draw(st.sampled_from(atoms)).name,
        layout=Layout(weight, tokens),
        stationary=Stationary(fold),
        pipeline=replace(
            base.pipeline,
            stages=draw(st.integers(2, 5)),
            fragments=draw(st.sampled_from((2, 1))),
        ),
        raster=replace(base.raster, group=draw(st.sampled_from((1, 2, 8)))),
    )
