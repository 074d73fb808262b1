"""One problem as a small value, and the arrays that follow from it.

Decides what data a kernel is tried on: exact small integers, reals, or integers among NaN,
infinity and -0.0. Which problems are tried is decided in strategies.py.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from samoyeds_gen.formats import ELEMENTS, SparseWeight, encode
from samoyeds_gen.language import Ssmm

Array = np.ndarray[Any, Any]
Values = Literal["integers", "reals", "specials"]
Order = Literal["ordered", "reversed", "permuted", "repeated", "outlying"]
Rows = Literal["packed", "aligned", "ragged"]

LARGEST_INTEGER = 3  # sums of 2^20 products of two such integers are exact in float32
SPECIALS = (np.nan, np.inf, -np.inf, -0.0)


@dataclass(frozen=True, slots=True)
class Case:
    """A weight [m, k] and `tokens` rows of k, `chosen` of them selected where a kernel selects.

    `order` says how rows are selected, "outlying" that some of them are not there, which gives NaN;
    `hidden` that the other rows hold NaN. `rows` says how far
    apart token rows lie: "packed" not at all, "aligned" at multiples of 16 bytes with NaN between,
    "ragged" at other distances with NaN between. `seed` fixes every value.

    For a grouped kernel there are as many weights as `counts`, and each owns that many rows of the
    output, one expert behind the other; m is then of one weight. Where the counts end before the
    output does, nobody owns its last rows; what they claim behind its end is not there.
    """

    m: int
    k: int
    tokens: int
    chosen: int = 0
    order: Order = "ordered"
    hidden: bool = False
    values: Values = "integers"
    rows: Rows = "packed"
    seed: int = 0
    counts: tuple[int, ...] = ()

    @property
    def experts(self) -> int:
        """Weights in the stack."""
        return max(1, len(self.counts))

    def n(self, problem: Ssmm) -> int:
        """Rows of the output."""
        return self.chosen if problem.index else self.tokens

    def size(self) -> tuple[int, ...]:
        """A measure by which one case is simpler than another."""
        plain = (self.order != "ordered", self.hidden, self.values != "integers")
        weight = self.experts * self.m * self.k
        return (weight * max(self.tokens, self.chosen, 1), sum(plain), self.seed)


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """The arrays of a case: `dense` [m, k] float32, its encoding `w`, tokens [T, k] of w's dtype,
    selection [n] of the kernel's index type, bias [m] and scale [n] float32. Of a grouped kernel
    there are [experts * m, k] and [experts * m], and offsets [experts + 1] int32.
    """

    dense: Array
    w: SparseWeight
    tokens: Array
    selection: Array | None
    bias: Array | None
    scale: Array | None
    offsets: Array | None = None


def draw(values: Values, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """A float32 array of integers in -3..3, of normal reals, or of integers with a few specials."""
    if values == "reals":
        return random.standard_normal(shape, np.float32) * 4
    array = random.integers(-LARGEST_INTEGER, LARGEST_INTEGER + 1, shape).astype(np.float32)
    if values == "specials" and array.size:
        count = int(random.integers(1, 4))
        places = random.integers(0, array.size, count)
        array.reshape(-1)[places] = random.choice(SPECIALS, count)
    return array


def make_inputs(case: Case, problem: Ssmm) -> Inputs:
    """The arrays of a case for a kernel that computes `problem`; the same ones every time."""
    random = np.random.default_rng(case.seed)
    f = problem.format
    # Specials in the weight hide those in the tokens from most outputs, so they take turns.
    special_weight = case.values == "specials" and bool(random.integers(0, 2))
    rows = case.experts * case.m
    dense = draw(_calm(case.values, special_weight), (rows, case.k), random)
    w = encode(dense, n=f.n, m=f.m, v=f.v, dtype=problem.dtype.name)
    tokens = _tokens(case, problem, _calm(case.values, not special_weight), random)
    selection = _selection(case, random) if problem.index else None
    if selection is not None and case.hidden:
        unused = np.setdiff1d(np.arange(case.tokens), selection)
        tokens[unused] = np.nan
    return Inputs(
        dense,
        w,
        tokens,
        None if selection is None else selection.astype(problem.index),
        _halves(rows, random) if problem.bias else None,
        _powers(case.n(problem), random) if problem.scale else None,
        np.cumsum((0, *case.counts), dtype=np.int32) if problem.grouped else None,
    )


def _calm(values: Values, keep: bool) -> Values:
    return "integers" if values == "specials" and not keep else values


def _tokens(case: Case, problem: Ssmm, values: Values, random: np.random.Generator) -> Array:
    gap = {"packed": 0, "aligned": -case.k % 8 + 8, "ragged": 3}[case.rows]
    storage = np.full((case.tokens, case.k + gap), np.nan, ELEMENTS[problem.dtype.name])
    tokens = storage[:, : case.k]
    tokens[...] = draw(values, (case.tokens, case.k), random)
    return tokens


def _selection(case: Case, random: np.random.Generator) -> Array:
    if case.tokens == 0 or case.chosen == 0:
        return np.zeros(0, np.int64)
    match case.order:
        case "ordered":
            return np.resize(np.arange(case.tokens), case.chosen)
        case "reversed":
            return np.resize(np.arange(case.tokens)[::-1], case.chosen)
        case "permuted":
            return np.resize(random.permutation(case.tokens), case.chosen)
        case "repeated":
            return random.integers(0, case.tokens, case.chosen)
        case "outlying":
            rows = random.integers(0, case.tokens, case.chosen)
            away = random.random(case.chosen) < 0.2
            rows[away] = random.choice((-1, case.tokens, -(2**31), 2**31 - 1), int(away.sum()))
            return rows


def _halves(size: int, random: np.random.Generator) -> Array:
    """Bias: multiples of one half, so that sums stay exact."""
    return random.integers(-16, 17, size).astype(np.float32) / 2


def _powers(size: int, random: np.random.Generator) -> Array:
    """Scale: powers of two with either sign, and zero, so that products stay exact."""
    return random.choice(np.array([1, 2, 0.5, -1, 0], np.float32), size)
