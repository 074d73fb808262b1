"""Pruning one weight into the (N, M, V) pattern by magnitude, by Wanda or by second order.

Decides how entries are scored; the order of the choices and their ties are those of `encode`
(formats/pattern.py), and the second-order walk through the columns is second_order.py.
"""

import torch

from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats import Format, canonical_dtype
from samoyeds_gen.formats.arrays import Array, arrays_of, is_tensor
from samoyeds_gen.formats.element import STORED
from samoyeds_gen.formats.pattern import GROUP, choose_sub_rows, sum_in_order
from samoyeds_gen.formats.rounding import to_bits
from samoyeds_gen.moe.calibration import FLOATS, Calibration
from samoyeds_gen.moe.second_order import largest_two, prune_second_order

METHODS = ("magnitude", "wanda", "second_order")


def prune(
    weight: Array,
    *,
    n: int,
    m: int,
    v: int,
    method: str = "magnitude",
    calibration: Calibration | None = None,
    damping: float = 0.01,
    dtype: object = "bfloat16",
) -> Array:
    """Return the pruned weight [m, k] of `dtype`, dense, on the device of `weight`.

    `weight` [m, k] is a finite torch tensor; it is rounded to `dtype` first, as `encode` does.
    `encode(result, n=n, m=m, v=v, dtype=dtype)` stores the result exactly: it decodes to the same
    bits. Each method gives every entry a score; in each group of 4 the two best stay, then in each
    block the n sub-rows with the largest sum of what stayed, ties to the lower position.

    - "magnitude": w^2. What `encode` itself chooses.
    - "wanda": w^2 * |x_j|^2, with the norm of input feature j from `calibration`. (Sun et al.,
      2023, arXiv 2306.11695.)
    - "second_order": columns are pruned from left to right; the error of each is made up for in the
      columns after it. `damping` times the mean of the Hessian's diagonal is added to the diagonal.
      (Frantar and Alistarh, 2023, arXiv 2301.00774.)

    Deterministic: the same call on the same device gives the same bits. Raises ModelError for a
    weight, method, calibration or damping that cannot be used, and FormatError for a format, a
    dtype, or a finite value that overflows it.
    """
    form = Format(n, m, v)
    kind = canonical_dtype(dtype, allowed=STORED)
    _check_method(method, calibration)
    check_weight(weight)
    dense = weight.detach()
    if calibration is not None and method != "magnitude":
        hessian = method == "second_order"
        calibration.require(dense.shape[1], dense.device, hessian=hessian)
        if hessian:
            return prune_second_order(_round(dense, kind), form, calibration.hessian, damping)
        importance = calibration.squares.to(torch.float64)
        # Equal norms become exactly 1, so that they leave the order of magnitudes as it is.
        importance = importance / importance.max()
    else:
        importance = torch.ones(dense.shape[1], dtype=torch.float64, device=dense.device)
    out = torch.empty(dense.shape, dtype=getattr(torch, kind), device=dense.device)
    step = form.m * max(1, arrays_of(dense).chunk // (form.m * form.padded_k(dense.shape[1])))
    for first in range(0, dense.shape[0], step):
        rounded = _round(dense[first : first + step], kind, first_row=first)
        scores = rounded.to(torch.float64).square() * importance
        out[first : first + step] = torch.where(_keep(form, scores), rounded, 0)
    return out


def _keep(form: Format, scores: Array) -> Array:
    """Which entries stay, bool [rows, k], for scores float64 [rows, k] of whole bands."""
    rows, k = scores.shape
    bands, blocks = form.bands(rows), form.blocks(k)
    padded = scores.new_zeros(bands * form.m, form.padded_k(k))
    padded[:rows, :k] = scores
    groups = padded.reshape(bands, form.m, blocks, form.v // GROUP, GROUP)
    stay = largest_two(groups)
    stored = groups[stay].reshape(bands, form.m, blocks, form.v // 2)
    positions = choose_sub_rows(arrays_of(stored), sum_in_order(stored), form.n)
    chosen = torch.zeros(bands, form.m, blocks, dtype=torch.bool, device=scores.device)
    chosen.scatter_(1, positions.to(torch.int64), True)
    stay &= chosen[..., None, None]
    return stay.reshape(padded.shape)[:rows, :k]


def _round(dense: Array, kind: str, *, first_row: int = 0) -> Array:
    arrays = arrays_of(dense)
    source = str(dense.dtype).removeprefix("torch.")
    bits = to_bits(arrays, dense, source=source, dtype=kind, first_row=first_row)
    return arrays.view(bits, kind)


def _check_method(method: str, calibration: Calibration | None) -> None:
    if method not in METHODS:
        raise ModelError(
            f"method {method!r} is not one of {', '.join(METHODS)}",
            remedy="choose one of them",
        )
    if method != "magnitude" and calibration is None:
        raise ModelError(
            f"method {method!r} is asked for without a calibration",
            remedy="pass calibration=Calibration(k) after updating it with the layer's inputs",
        )


def check_weight(weight: Array) -> None:
    """Raise ModelError unless the weight is a dense matrix [m, k] of finite floats."""
    if not is_tensor(weight) or weight.layout != torch.strided:
        what = f"{weight.layout} tensor" if is_tensor(weight) else type(weight).__name__
        raise ModelError(
            f"the weight is a {what}, but a dense torch tensor is required",
            remedy="pass the linear layer's own weight",
        )
    if weight.ndim != 2 or 0 in weight.shape:
        raise ModelError(
            f"the weight has shape {list(weight.shape)}, but [m, k] with m, k >= 1 is required",
            remedy="prune one matrix of output features by input features at a time",
        )
    if weight.dtype not in FLOATS:
        raise ModelError(
            f"the weight has dtype {weight.dtype}, but a floating-point type is required",
            remedy="convert it to float32 or bfloat16 first",
        )
    if weight.is_meta:
        raise ModelError("the weight is on meta and holds no values", remedy="load it first")
    finite = weight.detach().isfinite()
    if not bool(finite.all()):
        row, column = (int(each) for each in (~finite).nonzero()[0])
        raise ModelError(
            f"weight[{row}, {column}] is {float(weight[row, column])}, "
            "but finite values are required",
            remedy="repair the checkpoint before pruning it",
        )
