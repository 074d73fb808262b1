"""What a grouped kernel computes: each expert's rows with its own weight, gated or not.

Decides how the error of a gate and that of its up projection meet; each of them is an `ssmm`.
"""

from itertools import pairwise

import numpy as np

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.formats import SparseWeight, canonical_dtype, take_rows
from samoyeds_gen.formats.arrays import Array, to_numpy
from samoyeds_gen.formats.selection import host_selection
from samoyeds_gen.reference.activations import Floats, activation_of
from samoyeds_gen.reference.bound import ACTIVATION_STEPS, EPS, OUTPUTS, TINY, Fold, ssmm_with_bound


def grouped_with_bound(
    w: SparseWeight,
    tokens: Array,
    offsets: Array,
    selection: Array | None = None,
    *,
    gate_block: int = 0,
    fold: Fold = "exchange",
    out_dtype: object = None,
    bias: Array | None = None,
    activation: str | None = None,
    scale: Array | None = None,
) -> tuple[Floats, Floats]:
    """Rows offsets[e] <= i < offsets[e + 1] of the product with expert e, and each one's bound.

    `w` [experts * m, k] is a stack of experts, `bias` [experts * m]; otherwise arguments are those
    of `ssmm_with_bound`. With a `gate_block`, as many rows of gate and of up alternate, and
    y = scale * activation(gate) * up has m / 2 features. Both results are float64 [n, features];
    the bound adds what float32 loses in the activation, the products and the output type.

    Raises LaunchError as `ssmm` does, and for offsets that do not rise from 0 to n.
    """
    cuts = to_numpy(offsets).astype(np.int64)
    rows = host_selection(selection, len(tokens))
    if (
        cuts.ndim != 1
        or len(cuts) < 2
        or cuts[0]
        or cuts[-1] != len(rows)
        or (np.diff(cuts) < 0).any()
    ):
        raise LaunchError(
            f"offsets {cuts.tolist()} do not rise from 0 to {len(rows)}",
            remedy="give the exclusive prefix sums of the experts' token counts, and their total",
        )
    m = w.shape[0] // (len(cuts) - 1)
    features = m // 2 if gate_block else m
    value, bound = np.empty((len(rows), features)), np.empty((len(rows), features))
    plain = {"fold": fold, "activation": None if gate_block else activation}
    for expert, (first, last) in enumerate(pairwise(cuts.tolist())):
        if first == last:
            continue
        part = slice(first, last)
        own = slice(expert * m, (expert + 1) * m)
        found, error = ssmm_with_bound(
            take_rows(w.numpy(), own.start, own.stop),
            tokens,
            rows[part],
            out_dtype="float32" if gate_block else out_dtype,
            bias=None if bias is None else to_numpy(bias)[own],
            scale=None if gate_block or scale is None else to_numpy(scale)[part],
            **plain,  # type: ignore[arg-type]
        )
        if gate_block:
            factor = np.ones(last - first) if scale is None else to_numpy(scale)[part]
            kind = canonical_dtype(w.dtype if out_dtype is None else out_dtype)
            found, error = _gated(found, error, gate_block, activation, factor, kind)
        value[part], bound[part] = found, error
    return value, bound


def _gated(
    sums: Floats, error: Floats, block: int, activation: str | None, scale: Floats, kind: str
) -> tuple[Floats, Floats]:
    """act(gate) * up * scale of alternating blocks of columns, and its error in `kind`."""
    act, output = activation_of(activation), OUTPUTS[kind]

    def halves(x: Floats) -> tuple[Floats, Floats]:
        pair = x.reshape(len(x), -1, 2, block)
        return pair[:, :, 0].reshape(len(x), -1), pair[:, :, 1].reshape(len(x), -1)

    (gate, up), (gate_error, up_error) = halves(sums), halves(error)
    with np.errstate(invalid="ignore", over="ignore"):
        lit = act.apply(gate)
        lit_error = act.slope * gate_error
        lit_error += ACTIVATION_STEPS * (EPS * (np.abs(gate) + gate_error) + TINY)
        factor = np.abs(scale)[:, None].astype(np.float64)
        value = scale[:, None] * (lit * up)
        lost = lit_error * np.abs(up) + np.abs(lit) * up_error + lit_error * up_error
        total = (
            factor * (lost + EPS * (np.abs(lit * up) + lost)) + 2 * EPS * np.abs(value) + 2 * TINY
        )
        bound = total * (1 + output.unit) + output.unit * np.abs(value) + output.tiny
        bound[~(np.abs(value) + total < output.limit) | ~np.isfinite(bound)] = np.inf
    return value, bound
