"""What `ssmm` computes, in float64 numpy: the answer every kernel is compared with.

Decides values; how far a kernel may be from them is decided in bound.py.
"""

import numpy as np

from samoyeds_gen.formats import SparseWeight
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.reference.accumulate import accumulate
from samoyeds_gen.reference.activations import Floats
from samoyeds_gen.reference.problem import Problem, problem_of


def ssmm(
    w: SparseWeight,
    tokens: Array,
    selection: Array | None = None,
    *,
    bias: Array | None = None,
    activation: str | None = None,
    scale: Array | None = None,
) -> Floats:
    """y[i] = scale[i] * activation(tokens[selection[i]] W^T + bias), float64 [len(selection), m].

    `tokens` [T, k] have the weight's dtype (numpy or torch); `selection` is 1-D integers in any
    order, None for all tokens; `bias` [m] and `scale` [len(selection)] are float32; `activation` is
    None, "silu", "gelu" (erf), "gelu_tanh" or "relu". Sums run over stored entries, so 0 times
    infinity counts only where a zero is stored; stored positions beyond column k count nothing.

    Raises LaunchError for other types, shapes or names, and for a row out of range.
    """
    problem = problem_of(w, tokens, selection, bias, activation, scale)
    result = np.empty(problem.shape)
    for band in problem.bands():
        total = accumulate(problem.tokens, band)
        result[:, band.rows] = finish(problem, total, band.rows)
    return result


def finish(problem: Problem, total: Floats, rows: slice) -> Floats:
    """Bias, activation and scale, in this order, on the sums [n, rows] of these output rows."""
    with np.errstate(invalid="ignore"):
        if problem.bias is not None:
            total = total + problem.bias[rows]
        total = problem.activation.apply(total)
        if problem.scale is not None:
            total = problem.scale[:, None] * total
    return total
