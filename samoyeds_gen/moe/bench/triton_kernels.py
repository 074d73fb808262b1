"""Two elementwise kernels for the dense peer, in Triton; imported only where Triton is.

Each reads and writes its operands once, in float32 between.
"""

import torch
import triton
import triton.language as tl

from samoyeds_gen.formats.arrays import Array

BLOCK = 1024


@triton.jit
def _silu_mul(wide, out, inner, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < inner
    gate = tl.load(wide + 2 * row * inner + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(wide + (2 * row + 1) * inner + column, mask=inside, other=0.0).to(tl.float32)
    value = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(out + row * inner + column, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _combine(rows, places, weights, out, hidden, CHOICES: tl.constexpr, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < hidden
    total = tl.zeros((BLOCK,), tl.float32)
    for choice in tl.static_range(CHOICES):
        place = tl.load(places + token * CHOICES + choice).to(tl.int64)
        weight = tl.load(weights + token * CHOICES + choice).to(tl.float32)
        part = tl.load(rows + place * hidden + column, mask=inside, other=0.0)
        total += weight * part.to(tl.float32)
    tl.store(out + token * hidden + column, total.to(out.dtype.element_ty), mask=inside)


def silu_mul(wide: Array) -> Array:
    """silu(gate) * up of wide [n, 2 inner], gate left of up: [n, inner]."""
    n, inner = wide.shape[0], wide.shape[1] // 2
    out = wide.new_empty(n, inner)
    _silu_mul[(n, triton.cdiv(inner, BLOCK))](wide, out, inner, BLOCK=BLOCK)
    return out


def combine(rows: Array, places: Array, weights: Array) -> Array:
    """Sum over j of weights[t, j] * rows[places[t, j]]: rows [n, h] -> [T, h]."""
    tokens, choices = weights.shape
    hidden = rows.shape[1]
    out = torch.empty(tokens, hidden, dtype=rows.dtype, device=rows.device)
    grid = (tokens, triton.cdiv(hidden, BLOCK))
    _combine[grid](rows, places, weights, out, hidden, CHOICES=choices, BLOCK=BLOCK)
    return out
