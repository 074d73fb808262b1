"""The steps of a layer with the generated kernels; imported only when one is needed.

Decides which kernel takes a step; what it computes is said in backend.py.
"""

from functools import lru_cache
from typing import Any

import torch

from samoyeds_gen.formats import Format, SparseWeight
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.kernel import GroupedKernel, compile_grouped
from samoyeds_gen.kernel.routing import RoutingKernel, combine, compile_routing
from samoyeds_gen.language import Routed, Routing
from samoyeds_gen.moe.backend import Backend

SCHEDULE = "ssmm_sm90"


class Kernels:
    """`Backend` of generated kernels: nothing waits for the GPU, so a CUDA graph may capture it."""

    def route(
        self, routing: Routing, logits: Array, bias: Array | None, shared_weight: Array | None
    ) -> Routed:
        """See Backend."""
        return _routing(routing)(logits, bias, shared_weight)

    def sort(
        self, routing: Routing, experts: Array, weights: Array, shared_weight: Array | None
    ) -> Routed:
        """See Backend."""
        return _routing(routing).sort(experts, weights, shared_weight)

    def multiply(
        self,
        w: SparseWeight,
        tokens: Array,
        *,
        experts: int = 1,
        routed: Routed | None = None,
        gathered: bool = False,
        scaled: bool = False,
        bias: Array | None = None,
        activation: str | None = None,
        gated: bool = False,
    ) -> Array:
        """See Backend."""
        kernel = _kernel(
            w.format,
            w.dtype,
            "int32" if gathered else None,
            activation,
            gated,
            bias is not None,
            scaled,
        )
        if routed is None:  # one expert that has every row
            ends = torch.arange(2, dtype=torch.int32, device=tokens.device) * tokens.shape[0]
            return kernel(w, tokens, ends, bias=bias)
        selection = routed.selection if gathered else None
        scale = routed.scale if scaled else None
        return kernel(w, tokens, routed.offsets, selection, bias=bias, scale=scale)

    def combine(self, y: Array, slots: Array) -> Array:
        """See Backend."""
        return combine(y, slots)


@lru_cache(maxsize=64)
def _routing(routing: Routing) -> RoutingKernel:
    return compile_routing(routing)


@lru_cache(maxsize=64)
def _kernel(
    form: Format,
    dtype: str,
    index: Any,
    activation: str | None,
    gated: bool,
    bias: bool,
    scale: bool,
) -> GroupedKernel:
    return compile_grouped(
        SCHEDULE,
        n=form.n,
        m=form.m,
        v=form.v,
        dtype=dtype,
        index=index,
        activation=activation,
        gated=gated,
        bias=bias,
        scale=scale,
    )


KERNELS: Backend = Kernels()
