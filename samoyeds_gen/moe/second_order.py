"""Second-order pruning into the (N, M, V) pattern: SparseGPT's walk, with sub-rows beside 2:4.

Decides when each choice is made: two of four when the walk reaches a group, sub-rows when it
reaches a block, with the loss that each of the two ways through the block would leave.
"""

import math

import torch

from samoyeds_gen.errors import FormatError, ModelError
from samoyeds_gen.formats import Format
from samoyeds_gen.formats.arrays import Array, arrays_of
from samoyeds_gen.formats.pattern import GROUP, choose_sub_rows

CHUNK = 1 << 26
"""Elements of the weight walked through at a time; rows do not depend on each other."""

LAZY = 128
"""Columns after which an error is carried beyond its own panel, as one product."""


def prune_second_order(rounded: Array, form: Format, hessian: Array, damping: float) -> Array:
    """Pruned and updated weight [m, k], of the type and on the device of `rounded` [m, k].

    `hessian` [k, k] is the sum of x^T x over tokens. Values that stay are rounded to the type when
    their column is reached, and the rounding error is carried on with the rest. Raises ModelError
    for a damping or Hessian that cannot be factored, FormatError when an updated value overflows.
    """
    factor = error_factor(hessian, damping).to(torch.float32)
    out = torch.empty_like(rounded)
    k = rounded.shape[1]
    step = form.m * max(1, CHUNK // (form.m * form.padded_k(k)))
    for first in range(0, rounded.shape[0], step):
        out[first : first + step] = _prune_rows(rounded[first : first + step], form, factor)
    if not bool(out.isfinite().all()):
        row, column = (int(each) for each in (~out.isfinite()).nonzero()[0])
        kind = str(out.dtype).removeprefix("torch.")
        raise FormatError(
            f"the updated weight[{row}, {column}] overflows {kind}",
            remedy="raise damping, or encode to bfloat16",
        )
    return out


def error_factor(hessian: Array, damping: float) -> Array:
    """Upper triangular U, float64 [k, k], with U^T U the inverse of the damped Hessian.

    Row j of U says how the error of column j spreads to the columns after it; U[j, j]^2 is the
    inverse's diagonal entry once the columns before j are settled. The Hessian is divided by its
    largest diagonal entry first: that changes no choice, and leaves the identity as it is.
    """
    if not isinstance(damping, int | float) or not (math.isfinite(damping) and damping >= 0):
        raise ModelError(
            f"damping={damping!r} is not a finite number >= 0", remedy="leave it at 0.01"
        )
    damped = hessian.to(torch.float64).clone()
    diagonal = damped.diagonal()
    diagonal += damping * diagonal.mean()
    damped /= diagonal.max()
    # H = R R^T with R upper is the Cholesky factor of H read backwards, and U is the inverse of R.
    lower, info = torch.linalg.cholesky_ex(damped.flip(0, 1))
    if int(info) != 0:
        raise ModelError(
            f"the calibration's Hessian with damping={damping!r} is not positive definite",
            remedy="raise damping, or calibrate with more tokens",
        )
    identity = torch.eye(len(damped), dtype=damped.dtype, device=damped.device)
    return torch.linalg.solve_triangular(lower.flip(0, 1), identity, upper=True)


def largest_two(scores: Array) -> Array:
    """Mask, bool [..., 4], of the two largest of every four; ties to the lower position."""
    place = torch.arange(GROUP, device=scores.device)
    mine, other = scores[..., :, None], scores[..., None, :]
    beaten = (other > mine) | ((other == mine) & (place[None, :] < place[:, None]))
    return beaten.sum(-1) < 2


def _prune_rows(rounded: Array, form: Format, factor: Array) -> Array:
    """Walk whole bands of rows through all blocks; `factor` float32 [k, k]."""
    rows, k = rounded.shape
    bands = form.bands(rows)
    left = torch.zeros(bands * form.m, form.padded_k(k), device=rounded.device)
    left[:rows, :k] = rounded
    for start in range(0, k, form.v):
        stop, beyond = min(start + form.v, k), start + form.v
        spread = torch.eye(form.v, device=rounded.device)
        spread[: stop - start, : stop - start] = factor[start:stop, start:stop]
        block = left[:, start:beyond]
        kept, kept_error = _thin(block, spread, rounded.dtype)
        dropped_error = torch.linalg.solve_triangular(spread, block, upper=True, left=False)
        gain = _loss(dropped_error) - _loss(kept_error)
        chosen = _chosen(form, gain.reshape(bands, form.m))
        error = torch.where(chosen, kept_error, dropped_error)
        left[:, start:beyond] = torch.where(chosen, kept, 0)
        if stop < k:
            left[:, stop:k] -= error[:, : stop - start] @ factor[start:stop, stop:k]
    # Adding zero turns -0.0 into 0.0.
    return left[:rows, :k].to(rounded.dtype) + 0


def _chosen(form: Format, gain: Array) -> Array:
    """Which rows keep their sub-row, bool [bands * M, 1], for `gain` float64 [bands, M]."""
    positions = choose_sub_rows(arrays_of(gain), gain[..., None], form.n)[..., 0]
    chosen = torch.zeros(gain.shape, dtype=torch.bool, device=gain.device)
    return chosen.scatter_(1, positions.to(torch.int64), True).reshape(-1, 1)


def _thin(block: Array, spread: Array, dtype: torch.dtype) -> tuple[Array, Array]:
    """Prune every row of `block` [rows, V] to 2:4: what stays, and each column's scaled error.

    `spread` [V, V] is the factor within the block. The squares of a row's errors sum to the loss
    it causes, and errors @ factor is what later columns must make up for.
    """
    left, errors = block.clone(), torch.empty_like(block)
    width = block.shape[1]
    scale = spread.diagonal()
    for start in range(0, width, LAZY):
        stop = min(start + LAZY, width)
        for column in range(start, stop):
            if column % GROUP == 0:
                group = slice(column, column + GROUP)
                scores = (left[:, group].to(torch.float64) / scale[group]).square()
                stay = largest_two(scores)
            value = left[:, column]
            rounded = torch.where(stay[:, column % GROUP], value, 0).to(dtype).to(value.dtype)
            error = (value - rounded) / scale[column]
            rest = slice(column + 1, stop)
            left[:, rest] -= error[:, None] * spread[column, rest]
            left[:, column], errors[:, column] = rounded, error
        left[:, stop:] -= errors[:, start:stop] @ spread[start:stop, stop:]
    return left, errors


def _loss(errors: Array) -> Array:
    return errors.to(torch.float64).square().sum(1)
