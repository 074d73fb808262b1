"""The steps of a layer in plain torch, on any device: what tests and machines without a GPU run.

Decides nothing: float32 sums over decoded weights, rounded where the kernels round.
"""

import torch
from torch.nn import functional

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.formats import SparseWeight, gate_block
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.moe import routing as rules
from samoyeds_gen.moe.backend import Backend, Dispatch
from samoyeds_gen.moe.routing import Routing


class Reference:
    """`Backend` in torch. Reads offsets on the host, which waits for a device that is not a CPU."""

    def route(self, routing: Routing, logits: Array, bias: Array | None) -> tuple[Array, Array]:
        """See Backend."""
        return rules.route(routing, logits, bias)

    def dispatch(
        self, experts: Array, weights: Array, count: int, shared: int, shared_weights: Array | None
    ) -> Dispatch:
        """See Backend."""
        t, k = experts.shape
        chosen, scale = experts.to(torch.int64), weights.to(torch.float32)
        if shared:
            more = torch.arange(count, count + shared, device=chosen.device).expand(t, shared)
            chosen = torch.cat([chosen, more], 1)
            given = scale.new_ones(t) if shared_weights is None else shared_weights.to(scale)
            scale = torch.cat([scale, given[:, None].expand(t, shared)], 1)
        flat = chosen.flatten()
        order = flat.argsort(stable=True)
        slots = torch.empty_like(order)
        slots[order] = torch.arange(len(order), device=order.device)
        bounds = torch.arange(count + shared + 1, device=flat.device)
        return Dispatch(
            offsets=torch.searchsorted(flat[order], bounds).to(torch.int32),
            selection=(order // (k + shared)).to(torch.int32),
            scale=scale.flatten()[order],
            slots=slots.reshape(t, k + shared).to(torch.int32),
        )

    def multiply(
        self,
        w: SparseWeight,
        tokens: Array,
        *,
        experts: int = 1,
        dispatch: Dispatch | None = None,
        gathered: bool = False,
        scaled: bool = False,
        bias: Array | None = None,
        activation: str | None = None,
        gated: bool = False,
    ) -> Array:
        """See Backend."""
        dense = decoded(w)
        rows = w.shape[0] // experts
        if dispatch is None:
            products = tokens.to(torch.float32) @ dense.to(torch.float32).T
            result = _finish(w, products, bias, activation, gated)
            return result.to(tokens.dtype)
        width = rows // 2 if gated else rows
        out = tokens.new_empty(len(dispatch.selection), width)
        bounds = dispatch.offsets.tolist()
        for expert in range(experts):
            first, last = bounds[expert], bounds[expert + 1]
            if first == last:
                continue
            mine = slice(first, last)
            given = tokens[dispatch.selection[mine]] if gathered else tokens[mine]
            part = dense[expert * rows : (expert + 1) * rows]
            products = given.to(torch.float32) @ part.to(torch.float32).T
            result = _finish(w, products, bias, activation, gated)
            if scaled:
                result = result * dispatch.scale[mine, None]
            out[mine] = result.to(out.dtype)
        return out

    def combine(self, y: Array, slots: Array) -> Array:
        """See Backend."""
        return y[slots].to(torch.float32).sum(1).to(y.dtype)


def decoded(w: SparseWeight) -> Array:
    """The dense weight, decoded once and kept as long as the weight."""
    return w.derived("dense", SparseWeight.decode)


def _finish(
    w: SparseWeight, products: Array, bias: Array | None, activation: str | None, gated: bool
) -> Array:
    """The epilogue of a kernel but for the scale, float32 [n, rows]."""
    if bias is not None:
        products = products + bias
    if not gated:
        return activate(activation, products)
    pairs = products.unflatten(-1, (-1, 2, gate_block(w.format)))
    return (activate(activation, pairs[:, :, 0]) * pairs[:, :, 1]).flatten(1)


def activate(activation: str | None, x: Array) -> Array:
    """The activation called `activation` in the type of x; LaunchError for an unknown one."""
    match activation:
        case None:
            return x
        case "silu":
            return functional.silu(x)
        case "gelu":
            return functional.gelu(x)
        case "gelu_tanh":
            return functional.gelu(x, approximate="tanh")
        case "relu":
            return functional.relu(x)
    raise LaunchError(
        f"activation {activation!r} is not one of silu, gelu, gelu_tanh, relu",
        remedy="pass one of these or None",
    )


REFERENCE: Backend = Reference()
