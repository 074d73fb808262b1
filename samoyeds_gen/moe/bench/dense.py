"""The dense peer: a layer on torch's grouped product that does nothing twice.

Tokens are sorted by expert once, gate and up are one product, activation and combination one kernel
each, and intermediate arrays are given back as soon as they are read.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch.nn import functional

from samoyeds_gen.formats.arrays import Array


class GroupedExperts:
    """`layer(tokens [T, h], chosen [T, top], weights [T, top])` -> [T, h], all experts at once.

    `gate_up` [experts, 2 inner, h] has gate above up, `down` is [experts, h, inner], both bfloat16.
    On a GPU nothing waits for it; on a CPU products go expert by expert.
    """

    def __init__(self, gate_up: Array, down: Array) -> None:
        self.gate_up, self.down = gate_up, down
        # Sixteen bits are the narrowest keys that hold every expert: sorting takes a pass a byte.
        self._ids = torch.arange(len(down), dtype=torch.int16, device=down.device)
        self._counting = torch.arange(0, device=down.device)

    def __call__(self, tokens: Array, chosen: Array, weights: Array) -> Array:
        """See the class."""
        top = chosen.shape[1]
        keys, order = chosen.flatten().to(torch.int16).sort(stable=True)
        ends = torch.searchsorted(keys, self._ids, right=True, out_int32=True)
        rows = tokens.index_select(0, order.div(top, rounding_mode="floor"))
        wide = grouped_product(rows, self.gate_up, ends)
        del rows
        inner = silu_mul(wide)
        del wide
        narrow = grouped_product(inner, self.down, ends)
        del inner
        places = torch.empty_like(order).scatter_(0, order, self._count(len(order)))
        return combine(narrow, places.view_as(chosen), weights)

    def _count(self, n: int) -> Array:
        if len(self._counting) < n:
            self._counting = torch.arange(n, device=self.down.device)
        return self._counting[:n]


def grouped_product(rows: Array, weight: Array, ends: Array) -> Array:
    """rows [n, k] times weight [e, m, k] of the expert whose rows end at ends int32 [e]: [n, m]."""
    if rows.is_cuda:
        return torch._grouped_mm(rows, weight.transpose(1, 2), offs=ends)
    out = rows.new_empty(len(rows), weight.shape[1])
    first = 0
    for expert, last in enumerate(ends.tolist()):
        out[first:last] = rows[first:last] @ weight[expert].T
        first = last
    return out


def silu_mul(wide: Array) -> Array:
    """silu(gate) * up of wide [n, 2 inner], gate left of up, in float32: [n, inner]."""
    if wide.is_cuda and (kernels := triton_kernels()):
        return kernels.silu_mul(wide)
    gate, up = wide.chunk(2, dim=1)
    return (functional.silu(gate.float()) * up.float()).to(wide.dtype)


def combine(rows: Array, places: Array, weights: Array) -> Array:
    """Sum over j of weights[t, j] * rows[places[t, j]], in float32: rows [n, h] -> [T, h]."""
    if rows.is_cuda and (kernels := triton_kernels()):
        return kernels.combine(rows, places, weights)
    parts = rows.index_select(0, places.flatten()).view(*places.shape, -1).float()
    return (parts * weights.float()[..., None]).sum(1).to(rows.dtype)


@cache
def triton_kernels() -> Any:
    """The module of Triton kernels, None where Triton is not installed."""
    if find_spec("triton") is None:
        return None
    from samoyeds_gen.moe.bench import triton_kernels as kernels

    return kernels
