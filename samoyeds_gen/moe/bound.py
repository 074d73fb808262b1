"""How far a correct layer may be from its value on decoded weights, element by element.

Decides the error model of a layer call: rounding of the inputs, float32 sums, the activation, and
rounding of the intermediate, of each expert's output and of their sum to the weights' type.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from samoyeds_gen.formats import Format
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.moe.experts import SparseExperts
from samoyeds_gen.moe.linear import SparseMLP
from samoyeds_gen.moe.on_reference import activate
from samoyeds_gen.reference.activations import activation_of
from samoyeds_gen.reference.bound import ACTIVATION_STEPS, EPS, TINY

UNITS = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
"""Largest relative rounding error of the stored types."""

SMALLEST = {"bfloat16": 2.0**-134, "float16": 2.0**-25}
"""Half of their smallest positive values."""


Dense = tuple[Array | None, Array, Array]
"""Gate, if there is one, up and down of an MLP, decoded."""


@dataclass(frozen=True, slots=True)
class Bounded:
    """Values float64 [T, k] and how far a correct layer may be from them, of the same shape."""

    value: Array
    bound: Array

    def holds(self, y: Array) -> Array:
        """Whether every element of y [T, k] is within the bound: a bool tensor of no dimensions."""
        return ((y.to(torch.float64) - self.value).abs() <= self.bound).all()


def experts_with_bound(
    experts: SparseExperts,
    tokens: Array,
    chosen: Array,
    weights: Array,
    shared_weight: Array | None = None,
    *,
    lone: SparseMLP | None = None,
) -> Bounded:
    """What `experts(tokens, chosen, weights, shared_weight, lone=lone)` approximates, in float64.

    Arguments as of SparseExperts. The bound holds for kernels of every fold and for the reference;
    it assumes finite values without overflow.
    """
    x, error = _rounded_input(tokens, experts.up_proj.dtype)
    total = torch.zeros_like(x)
    bound = torch.zeros_like(x)
    magnitude = torch.zeros_like(x)
    for expert, (layer, dense) in enumerate(_mlps(experts, lone)):
        if expert < experts.count:
            row, place = (chosen == expert).nonzero(as_tuple=True)
            scale = weights[row, place].to(torch.float64)
        else:
            row = torch.arange(len(x), device=x.device)
            given = torch.ones_like(x[:, 0]) if shared_weight is None else shared_weight
            scale = given.flatten().to(torch.float64)
        if not len(row):
            continue
        part = _mlp(layer, dense, x[row], error[row], scale[:, None])
        total.index_add_(0, row, part.value)
        bound.index_add_(0, row, part.bound)
        magnitude.index_add_(0, row, part.value.abs() + part.bound)
    slots = chosen.shape[1] + experts.shared + (lone is not None)
    bound += slots * (EPS * magnitude + TINY)
    return _rounded(total, bound, experts.up_proj.dtype)


def mlp_with_bound(mlp: SparseMLP, tokens: Array) -> Bounded:
    """What `mlp(tokens)` approximates for tokens [T, k], as `experts_with_bound` does."""
    x, error = _rounded_input(tokens, mlp.up_proj.dtype)
    return _mlp(mlp, mlp.dense(), x, error, None)


def _mlps(
    experts: SparseExperts, lone: SparseMLP | None
) -> Iterator[tuple[SparseExperts | SparseMLP, Dense]]:
    """Every MLP of a call and its weights, decoded one by one, shared ones last."""
    for expert in range(experts.count + experts.shared):
        yield experts, experts.dense(expert)
    if lone is not None:
        yield lone, lone.dense()


def _rounded_input(tokens: Array, dtype: str) -> tuple[Array, Array]:
    """The input in float64, and how far its rounding to the weights' type may be from it."""
    x = tokens.to(torch.float64)
    if tokens.dtype == getattr(torch, dtype):
        return x, torch.zeros_like(x)
    return x, UNITS[dtype] * x.abs() + SMALLEST[dtype]


def _mlp(
    layer: SparseExperts | SparseMLP,
    dense: Dense,
    x: Array,
    error: Array,
    scale: Array | None,
) -> Bounded:
    """One MLP on the rows x [n, k] with their `error`; `scale` [n, 1] multiplies its output."""
    form, kind = layer.up_proj.format, layer.up_proj.dtype
    gate, up, down = (None if each is None else each.to(torch.float64) for each in dense)
    assert up is not None
    assert down is not None
    first = _product(form, up if gate is None else gate, x, error)
    act = activate(layer.activation, first.value)
    steps = ACTIVATION_STEPS * (EPS * (first.value.abs() + first.bound) + TINY)
    hidden, bound = act, activation_of(layer.activation).slope * first.bound + steps
    if gate is not None:
        other = _product(form, up, x, error)
        hidden = act * other.value
        bound = bound * (other.value.abs() + other.bound) + act.abs() * other.bound
        bound = bound + EPS * (hidden.abs() + bound) + TINY
    wide = _rounded(hidden, bound, kind)
    narrow = _product(form, down, wide.value, wide.bound)
    rounded = _rounded(narrow.value, narrow.bound, kind)
    if scale is None:
        return rounded
    value = scale * rounded.value
    bound = scale.abs() * rounded.bound
    return Bounded(value, bound + EPS * (value.abs() + bound) + TINY)


def _product(form: Format, weight: Array, x: Array, error: Array) -> Bounded:
    """x W^T for weight [m, k] in float32 on matrix units; see reference/bound.py for the terms."""
    magnitude = (x.abs() + error) @ over_block(form, weight.abs()).T
    terms = 5 / 8 * form.padded_k(weight.shape[1]) + 8 + 2 * form.blocks(weight.shape[1])
    bound = error @ weight.abs().T + terms * (EPS * magnitude + TINY)
    return Bounded(x @ weight.T, bound)


def over_block(form: Format, magnitudes: Array) -> Array:
    """Each row's magnitudes, or with N = 1 those of its block: what the prefix fold sums over."""
    rows = magnitudes.shape[0]
    if form.n != 1 or form.m == 1 or rows % form.m:
        return magnitudes
    summed = magnitudes.unflatten(0, (-1, form.m)).sum(1)
    return summed.repeat_interleave(form.m, 0)


def _rounded(value: Array, bound: Array, dtype: str) -> Bounded:
    reach = UNITS[dtype] * (value.abs() + bound) + SMALLEST[dtype]
    return Bounded(value, bound + reach)
