"""The gate before any timing: a layer's whole output against float64 sums over decoded weights.

Decides what roundings each side is allowed; the error of float32 sums is that of reference/bound.py
as moe/bound.py takes it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from samoyeds_gen.formats import Format
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.moe.bench.routings import Batch
from samoyeds_gen.moe.bench.weights import Mlp
from samoyeds_gen.moe.bound import over_block
from samoyeds_gen.reference.activations import activation_of
from samoyeds_gen.reference.bound import ACTIVATION_STEPS, EPS, TINY

UNIT = 2.0**-8
"""Largest relative rounding error of bfloat16."""

SMALLEST = 2.0**-134
"""Half of its smallest positive value."""

MOST_RELATIVE = 0.02
"""Most norm of the error over the norm of the output: bfloat16 leaves 0.004 to 0.005."""

ROWS = 4096
"""Rows of one expert that are computed at a time."""


@dataclass(frozen=True, slots=True)
class LayerVerdict:
    """How an output compares: `worst` error in units of its bound, `relative` in norm."""

    worst: float
    relative: float
    wrong: int
    unwritten: int
    elements: int

    @property
    def passed(self) -> bool:
        """Every element is written and within its bound, and the whole is as close as usual."""
        return self.wrong == 0 and self.unwritten == 0 and self.relative <= MOST_RELATIVE

    def __str__(self) -> str:
        return (
            f"{self.elements} elements, {self.unwritten} unwritten, {self.wrong} wrong, worst "
            f"error {self.worst:.3f} of its bound, relative error {self.relative:.2e}"
        )


@dataclass(frozen=True, slots=True)
class LayerExpected:
    """What out [T, hidden] must be, and how far it may be off, all float64 [T, hidden].

    `fused` allows float32 sums, and rounding of the intermediate, of each expert's output and of
    the result to bfloat16. `stepwise` also allows rounding of gate and up products, of the
    activation, of each weighted output and of every partial sum, as layers made of separate
    operations do.
    """

    value: Array
    fused: Array
    stepwise: Array

    def compare(self, out: Array, *, fused: bool) -> LayerVerdict:
        """Hold every element of `out` against its bound; NaN counts as unwritten."""
        bound = self.fused if fused else self.stepwise
        error = (out.to(torch.float64) - self.value).abs()
        missing = error.isnan()
        ratio = torch.where(missing, 0.0, error / bound)
        norm = torch.where(missing, 0.0, error).norm() / self.value.norm().clamp_min(TINY)
        return LayerVerdict(
            worst=float(ratio.max()),
            relative=float(norm),
            wrong=int((ratio > 1).sum()),
            unwritten=int(missing.sum()),
            elements=out.numel(),
        )


def expected_layer(
    mlp: Callable[[int], Mlp],
    form: Format,
    batch: Batch,
    *,
    experts: int,
    shared: int = 0,
    shared_weight: Array | None = None,
    rows: int = ROWS,
) -> LayerExpected:
    """The layer whose decoded experts `mlp` gives, with SiLU, on a batch; reads counts on the host.

    Expert by expert, `rows` of its tokens at a time, so that memory stays bounded. The `shared`
    experts behind the `experts` routed ones see every token, with weight 1 or `shared_weight`
    float [T].
    """
    tokens, chosen, weights = batch
    places = [torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device) for _ in "vfsm"]
    value, fused, stepwise, magnitude = places
    for expert in range(experts):
        row, place = (chosen == expert).nonzero(as_tuple=True)
        if len(row):
            _add(places, mlp(expert), form, tokens, row, weights[row, place], rows)
    every = torch.arange(len(tokens), device=tokens.device)
    scale = torch.ones_like(weights[:, 0]) if shared_weight is None else shared_weight
    for expert in range(experts, experts + shared):
        _add(places, mlp(expert), form, tokens, every, scale, rows)
    slots = chosen.shape[1] + shared
    fused += slots * (EPS * magnitude + TINY)
    stepwise += slots * ((UNIT + EPS) * magnitude + SMALLEST)
    fused, stepwise = (_rounded(value, each) for each in (fused, stepwise))
    return LayerExpected(value, fused, stepwise)


def _add(
    places: list[Array],
    mlp: Mlp,
    form: Format,
    tokens: Array,
    row: Array,
    scale: Array,
    rows: int,
) -> None:
    """Add one expert's part for the tokens `row` [n] with weights `scale` [n]."""
    expert = _Expert(form, mlp)
    for start in range(0, len(row), rows):
        part = row[start : start + rows]
        factor = scale[start : start + rows].to(torch.float64)[:, None]
        out, *bounds = expert(tokens[part].to(torch.float64))
        value = factor * out
        places[0].index_add_(0, part, value)
        reaches = [factor.abs() * bound for bound in bounds]
        fused, stepwise = (each + EPS * (value.abs() + each) + TINY for each in reaches)
        places[1].index_add_(0, part, fused)
        places[2].index_add_(0, part, _rounded(value, stepwise))
        places[3].index_add_(0, part, value.abs() + factor.abs() * bounds[1])


class _Expert:
    """One expert in float64: `expert(x [n, hidden])` gives value, fused and stepwise bound."""

    def __init__(self, form: Format, mlp: Mlp) -> None:
        self.form = form
        self.gate, self.up, self.down = (each.to(torch.float64) for each in mlp)

    def __call__(self, x: Array) -> tuple[Array, Array, Array]:
        gate, gate_bound = self._product(self.gate, x)
        up, up_bound = self._product(self.up, x)
        value = functional.silu(gate) * up
        inner = [
            _gated(gate, gate_bound, up, up_bound, stepwise=stepwise) for stepwise in (False, True)
        ]
        out, sums = self._product(self.down, value, inner[1])
        magnitude = self.down.abs().T
        fused, stepwise = (each @ magnitude + sums for each in inner)
        return out, _rounded(out, fused), _rounded(out, stepwise)

    def _product(self, weight: Array, x: Array, error: Array | float = 0.0) -> tuple[Array, Array]:
        """x W^T and the error of float32 sums for it, where x itself is off by up to `error`."""
        magnitude = (x.abs() + error) @ over_block(self.form, weight.abs()).T
        return x @ weight.T, self._terms(weight) * (EPS * magnitude + TINY)

    def _terms(self, weight: Array) -> float:
        k = weight.shape[1]
        return 5 / 8 * self.form.padded_k(k) + 8 + 2 * self.form.blocks(k)


def _gated(gate: Array, gate_bound: Array, up: Array, up_bound: Array, *, stepwise: bool) -> Array:
    """How far the stored silu(gate) * up may be from its value."""
    if stepwise:
        gate_bound, up_bound = _rounded(gate, gate_bound), _rounded(up, up_bound)
    act = functional.silu(gate)
    steps = ACTIVATION_STEPS * (EPS * (gate.abs() + gate_bound) + TINY)
    bound = activation_of("silu").slope * gate_bound + steps
    if stepwise:
        bound = _rounded(act, bound)
    bound = bound * (up.abs() + up_bound) + act.abs() * up_bound
    value = act * up
    return _rounded(value, bound + EPS * (value.abs() + bound) + TINY)


def _rounded(value: Array, bound: Array) -> Array:
    """The bound once the value is rounded to bfloat16."""
    return bound + UNIT * (value.abs() + bound) + SMALLEST
