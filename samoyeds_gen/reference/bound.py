"""How far a correct kernel may be from the float64 reference, element by element.

Decides the error model of float32 accumulation on matrix units, of the three folds, of the epilogue
and of the output type; what to do with an element outside it is decided by check.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.formats import SparseWeight, canonical_dtype
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.reference.accumulate import accumulate, finite_part
from samoyeds_gen.reference.activations import IDENTITY, Floats
from samoyeds_gen.reference.problem import Band, Problem, problem_of
from samoyeds_gen.reference.ssmm import finish

Fold = Literal["exchange", "prefix", "expand"]
Mask = npt.NDArray[np.bool_]

EPS = 2.0**-23
"""Distance from 1 to the next float32: matrix units truncate, so a step may lose a whole one."""

TINY = 2.0**-149
"""Smallest positive float32: what one addition may lose to underflow."""

FLOAT32_LIMIT = 2.0**127
"""Partial sums up to here cannot overflow float32 by rounding alone."""

ACTIVATION_STEPS = 16
"""Float32 roundings allowed inside an activation, of values no larger than its argument."""


@dataclass(frozen=True, slots=True)
class _Output:
    unit: float  # largest relative rounding error
    tiny: float  # half of the smallest positive value
    limit: float  # largest finite value


OUTPUTS = {
    "float16": _Output(2.0**-11, 2.0**-25, 65504.0),
    "bfloat16": _Output(2.0**-8, 2.0**-134, 255.0 * 2.0**120),
    "float32": _Output(2.0**-24, 2.0**-150, (2.0 - EPS) * 2.0**127),
}


def bound(
    w: SparseWeight,
    tokens: Array,
    selection: Array | None = None,
    *,
    fold: Fold = "exchange",
    out_dtype: object = None,
    bias: Array | None = None,
    activation: str | None = None,
    scale: Array | None = None,
) -> Floats:
    """Largest |kernel - ssmm(...)| of a correct kernel, float64 [len(selection), m], elementwise.

    See `ssmm_with_bound`, of which this is the second result.
    """
    return ssmm_with_bound(
        w,
        tokens,
        selection,
        fold=fold,
        out_dtype=out_dtype,
        bias=bias,
        activation=activation,
        scale=scale,
    )[1]


def ssmm_with_bound(
    w: SparseWeight,
    tokens: Array,
    selection: Array | None = None,
    *,
    fold: Fold = "exchange",
    out_dtype: object = None,
    bias: Array | None = None,
    activation: str | None = None,
    scale: Array | None = None,
) -> tuple[Floats, Floats]:
    """`ssmm` and how far a correct kernel may be from it, both float64 [len(selection), m].

    The bound is terms * 2^-23 * (|A| |x|) through the epilogue, plus the rounding to `out_dtype`
    (default: the weight's). |A| is the output row's own magnitudes for exchange and expand, and
    the sum over the rows of its block for prefix, whose error follows the running sum; `terms`
    counts what a float32 sum of the stored products may lose.

    It is infinite, and so asks nothing of the value, where float32 or the output type may overflow
    and where semantics leave it open: where the reference itself is not finite (a kernel must then
    be non-finite too), for prefix and expand in every row whose block has a non-finite product with
    that token, and for expand in every row of a token that is not finite.

    Raises LaunchError as `ssmm` does, and for an unknown fold; FormatError for an unknown dtype.
    """
    if fold not in get_args(Fold):
        raise LaunchError(
            f"fold {fold!r} is not one of {', '.join(get_args(Fold))}",
            remedy="pass the fold of the schedule",
        )
    problem = problem_of(w, tokens, selection, bias, activation, scale)
    output = OUTPUTS[canonical_dtype(w.dtype if out_dtype is None else out_dtype)]
    values, bounds = np.empty(problem.shape), np.empty(problem.shape)
    for band in problem.bands():
        total = accumulate(problem.tokens, band)
        error = _sum_error(problem, band, total, fold)
        value = finish(problem, total, band.rows)
        values[:, band.rows] = value
        bounds[:, band.rows] = _output_error(problem, band, total, value, error, output)
    return values, bounds


def _terms(w: SparseWeight, fold: Fold) -> float:
    """How many whole float32 steps the sum of one output element may lose.

    A matrix unit aligns at least four products with the accumulator and truncates each of the five
    to the largest: 5/4 a product, and an output row has at most Kp/2 of them. The prefix fold adds
    each block's running sum, at most twice, in one rounding per block.
    """
    columns = w.format.padded_k(w.shape[1])
    extra = 2 * w.format.blocks(w.shape[1]) if fold == "prefix" else 0
    return 5 / 8 * columns + 8 + extra


def _sum_error(problem: Problem, band: Band, total: Floats, fold: Fold) -> Floats:
    """Error of the float32 sums [n, rows]; infinite where nothing can be asked."""
    magnitude = _magnitude(problem, band, fold)
    terms = _terms(problem.weight, fold)
    error = terms * (EPS * magnitude + TINY)
    error[~(magnitude < FLOAT32_LIMIT) | ~np.isfinite(total)] = np.inf
    if fold != "exchange":
        error[_over_block(band, ~np.isfinite(total))] = np.inf
    if fold == "expand":
        error[~np.isfinite(problem.tokens).all(axis=1)] = np.inf
    return error


def _magnitude(problem: Problem, band: Band, fold: Fold) -> Floats:
    """|x| |A|^T over finite values [n, rows]; A summed over the rows of a block for prefix."""
    entries = np.abs(finite_part(band.dense))
    tokens = np.abs(finite_part(problem.tokens)).astype(np.float32)
    m = problem.weight.format.m
    rows = entries.shape[0]
    if fold == "prefix":
        padded = np.zeros((-(-rows // m) * m, entries.shape[1]))
        padded[:rows] = entries
        entries = padded.reshape(-1, m, entries.shape[1]).sum(axis=1)
    # Float32 is twice as fast and its own error is far below the half percent added here.
    with np.errstate(over="ignore", invalid="ignore"):
        product = (tokens @ entries.astype(np.float32).T).astype(np.float64) * 1.005
    return product.repeat(m, axis=1)[:, :rows] if fold == "prefix" else product


def _over_block(band: Band, mask: Mask) -> Mask:
    """Spread a mask [n, rows] over the M rows of each block."""
    n, rows = mask.shape
    m = band.weight.format.m
    padded = np.zeros((n, -(-rows // m) * m), np.bool_)
    padded[:, :rows] = mask
    return padded.reshape(n, padded.shape[1] // m, m).any(axis=2).repeat(m, axis=1)[:, :rows]


def _output_error(
    problem: Problem, band: Band, total: Floats, value: Floats, error: Floats, output: _Output
) -> Floats:
    """Carry the error of the sums through bias, activation, scale and the output type."""
    with np.errstate(invalid="ignore", over="ignore"):
        argument = np.abs(total)
        if problem.bias is not None:
            error = error + EPS * (argument + np.abs(problem.bias[band.rows]))
            argument = np.abs(total + problem.bias[band.rows])
        if problem.activation is not IDENTITY:
            steps = ACTIVATION_STEPS * (EPS * (argument + error) + TINY)
            error = problem.activation.slope * error + steps
        if problem.scale is not None:
            error = np.abs(problem.scale)[:, None] * error + EPS * np.abs(value) + TINY
        reach = np.abs(value) + error
        result = error * (1 + output.unit) + output.unit * np.abs(value) + output.tiny
        result[~(reach < output.limit)] = np.inf
    return result
