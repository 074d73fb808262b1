"""The Mixture-of-Experts layer: the model's own router, then experts, then shared experts.

Decides who routes: the model's router module, or the generated kernel that follows the same rule.
"""

import torch
from torch import nn

from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.moe import ops
from samoyeds_gen.moe.backend import runs_kernels
from samoyeds_gen.moe.experts import SparseExperts
from samoyeds_gen.moe.linear import SparseMLP
from samoyeds_gen.moe.routing import Routing


class SparseMoE(nn.Module):
    """A drop-in for a model's Mixture-of-Experts block: x [..., k] -> x's shape and type.

    - `gate`: the model's router. Either a module that returns (logits, weights, experts), as those
      of transformers 5 do, or (experts, weights), or a linear layer that returns logits.
    - `routing`: the rule the router follows; required for a linear layer. On a GPU the generated
      routing kernel follows it, unless the router has a hook, which has to see it called.
    - `experts`: routed and folded shared experts. `shared`: a shared expert of its own.
    - `shared_gate`: a linear layer [1, k]; the sigmoid of its output weighs the shared experts.
    - `returns_logits`: return (output, logits [T, E]), as blocks of transformers 4 do.
    """

    def __init__(
        self,
        gate: nn.Module,
        experts: SparseExperts,
        *,
        routing: Routing | None = None,
        shared: SparseMLP | None = None,
        shared_gate: nn.Module | None = None,
        returns_logits: bool = False,
    ) -> None:
        super().__init__()
        if routing is None and isinstance(gate, nn.Linear):
            raise ModelError(
                "the router is a linear layer, but no rule says how its logits choose experts",
                remedy="pass routing=Routing(...)",
            )
        if routing is not None and routing.experts != experts.count:
            raise ModelError(
                f"the routing chooses among {routing.experts} experts, but there are "
                f"{experts.count}",
                remedy="pass the routing of this layer",
            )
        self.gate = gate
        self.experts = experts
        self.routing = routing
        self.shared = shared
        self.shared_gate = shared_gate
        self.returns_logits = returns_logits

    def forward(self, x: Array) -> Array:
        """See the class."""
        tokens = x.reshape(-1, x.shape[-1])
        logits, weights, chosen = route_tokens(self.gate, self.routing, tokens)
        weight = None
        if self.shared_gate is not None:
            weight = torch.sigmoid(self.shared_gate(tokens))
        if self.experts.shared and weight is not None:
            y = self.experts(tokens, chosen, weights, weight[:, 0])
        else:
            y = self.experts(tokens, chosen, weights)
        if self.shared is not None:
            lone = self.shared(tokens)
            y = y + (lone if weight is None else weight * lone)
        y = y.reshape(x.shape)
        return (y, logits) if self.returns_logits else y


def route_tokens(
    gate: nn.Module, routing: Routing | None, tokens: Array
) -> tuple[Array | None, Array, Array]:
    """Logits [T, E] (None if the router keeps them), weights [T, top] and experts [T, top].

    `gate` is any router that SparseMoE takes. Raises ModelError when it returns something else.
    """
    linear = isinstance(gate, nn.Linear)
    hooked = not linear and (gate._forward_hooks or gate._forward_pre_hooks)
    if routing is not None and (linear or (runs_kernels(tokens.device) and not hooked)):
        logits = gate(tokens) if linear else _logits(gate, routing, tokens)
        bias = gate.e_score_correction_bias if routing.bias else None
        call = ops.route_op if torch.compiler.is_compiling() else ops.route
        chosen, weights = call(logits, bias, str(routing))
        return logits, weights, chosen
    match gate(tokens):
        case (logits, weights, chosen):
            return logits, weights, chosen
        case (chosen, weights):
            return None, weights, chosen
        case given:
            raise ModelError(
                f"the router returned a {type(given).__name__}, but (logits, weights, experts) or "
                "(experts, weights) is required",
                remedy="pass a router of transformers",
            )


def _logits(gate: nn.Module, routing: Routing, tokens: Array) -> Array:
    """What the router's own linear step gives."""
    weight = gate.weight
    if routing.wide:
        tokens, weight = tokens.to(torch.float32), weight.to(torch.float32)
    return nn.functional.linear(tokens, weight)
