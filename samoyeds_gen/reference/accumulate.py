"""Float64 sums over stored entries, fast for finite data and exact for the rest.

Decides what infinity and NaN give: a product counts only where the weight stores an entry, be it a
zero; an entry that is not stored never meets a token.
"""

import numpy as np
import numpy.typing as npt

from samoyeds_gen.reference.activations import Floats
from samoyeds_gen.reference.problem import Band


def accumulate(tokens: Floats, band: Band) -> Floats:
    """Sums of tokens [n, k] times the stored entries of the band: float64 [n, rows]."""
    dense = band.dense
    if np.isfinite(tokens).all() and np.isfinite(dense).all():
        return np.asarray(tokens @ dense.T)
    finite = finite_part(tokens) @ finite_part(dense).T
    columns = ~(np.isfinite(tokens).all(axis=0) & np.isfinite(dense).all(axis=0))
    x, a, stored = tokens[:, columns], dense[:, columns], band.stored()[:, columns]
    with np.errstate(invalid="ignore"):
        return np.asarray(finite + _special(x, a, stored))


def finite_part(values: Floats) -> Floats:
    """`values` with 0 in place of infinity and NaN."""
    return np.where(np.isfinite(values), values, 0.0)


def _special(x: Floats, a: Floats, stored: npt.NDArray[np.bool_]) -> Floats:
    """Sum of the products that are not finite: 0, infinity of either sign, or NaN, [n, rows]."""
    inf = np.inf
    signs = (x == inf, x == -inf, x > 0, x < 0)
    up = _any_product(signs, (a > 0, a < 0, a == inf, a == -inf))
    down = _any_product(signs, (a < 0, a > 0, a == -inf, a == inf))
    # NaN: a NaN token meets any stored entry, a NaN entry any token, infinity a (stored) zero.
    neither = _any_product(
        (np.isnan(x), np.ones_like(x), np.isinf(x), x == 0),
        (stored, np.isnan(a), stored & (a == 0), np.isinf(a)),
    )
    return np.where(up, inf, 0.0) + np.where(down, -inf, 0.0) + np.where(neither, np.nan, 0.0)


def _any_product(
    tokens: tuple[npt.NDArray[np.generic], ...], entries: tuple[npt.NDArray[np.generic], ...]
) -> npt.NDArray[np.bool_]:
    """Whether some column has both properties of one of the pairs: bool [n, rows]."""
    left = np.concatenate(tokens, axis=1, dtype=np.float32)
    right = np.concatenate(entries, axis=1, dtype=np.float32)
    return np.asarray(left @ right.T > 0)
