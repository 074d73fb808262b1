"""The steps of a layer without generated kernels: what tests and machines without a GPU run.

Decides nothing: routing is that of the numpy reference, products are float32 sums over decoded
weights, rounded where the kernels round.
"""

import torch
from torch.nn import functional

from samoyeds_gen import reference
from samoyeds_gen.errors import LaunchError
from samoyeds_gen.formats import SparseWeight, gate_block
from samoyeds_gen.formats.arrays import Array, Device, to_torch
from samoyeds_gen.language import Routed, Routing
from samoyeds_gen.moe.backend import Backend, Prepared, Work, by_steps


class Reference:
    """`Backend` in torch and numpy. Reads offsets on the host, so that other devices are waited
    for.
    """

    def route(
        self, routing: Routing, logits: Array, bias: Array | None, shared_weight: Array | None
    ) -> Routed:
        """See Backend."""
        return _on(logits.device, reference.route(logits, routing, bias, shared_weight))

    def sort(
        self, routing: Routing, experts: Array, weights: Array, shared_weight: Array | None
    ) -> Routed:
        """See Backend."""
        return _on(experts.device, reference.dispatch(experts, weights, routing, shared_weight))

    def multiply(
        self,
        w: SparseWeight,
        tokens: Array,
        *,
        experts: int = 1,
        routed: Routed | None = None,
        gathered: bool = False,
        bias: Array | None = None,
        activation: str | None = None,
        gated: bool = False,
    ) -> Array:
        """See Backend."""
        dense = decoded(w)
        if routed is None:
            products = tokens.to(torch.float32) @ dense.to(torch.float32).T
            return _finish(w, products, bias, activation, gated).to(tokens.dtype)
        rows = w.shape[0] // experts
        out = tokens.new_empty(len(routed.selection), rows // 2 if gated else rows)
        bounds = routed.offsets.tolist()
        for expert in range(experts):
            first, last = bounds[expert], bounds[expert + 1]
            if first == last:
                continue
            mine = slice(first, last)
            given = tokens[routed.selection[mine]] if gathered else tokens[mine]
            part = dense[expert * rows : (expert + 1) * rows]
            products = given.to(torch.float32) @ part.to(torch.float32).T
            result = _finish(w, products, bias, activation, gated)
            out[mine] = result.to(out.dtype)
        return out

    def mlp(
        self, tokens: Array, up: SparseWeight, down: SparseWeight, activation: str, gated: bool
    ) -> Array:
        """See Backend."""
        wide = self.multiply(up, tokens, activation=activation, gated=gated)
        return self.multiply(down, wide)

    def combine(self, y: Array, routed: Routed) -> Array:
        """See Backend."""
        total = torch.zeros((len(routed.slots), y.shape[1]), device=y.device)
        for slot in routed.slots.T:
            total += y[slot] * routed.scale[slot, None]
        return total.to(y.dtype)

    def layer(self, work: Work) -> Prepared:
        """See Backend."""
        return by_steps(self, work)


def decoded(w: SparseWeight) -> Array:
    """The dense weight, decoded once and kept as long as the weight."""
    return w.derived("dense", SparseWeight.decode)


def _on(device: Device, routed: Routed) -> Routed:
    return Routed(*(to_torch(each, device) for each in routed))


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
