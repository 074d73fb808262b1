"""The Mixture-of-Experts layer: the model's own router, then experts, then shared experts.

Decides who routes: the model's router module, or the generated kernel that follows the same rule.
"""

import torch
from torch import nn

from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.language import Routing
from samoyeds_gen.moe import ops
from samoyeds_gen.moe.backend import runs_kernels
from samoyeds_gen.moe.experts import SparseExperts
from samoyeds_gen.moe.linear import SparseMLP


class SparseMoE(nn.Module):
    """A drop-in for a model's Mixture-of-Experts block: x [..., k] -> x's shape and type.

    - `gate`: the model's router. Either a module that returns (logits, weights, experts), as those
      of transformers 5 do, or (experts, weights), or a linear layer that returns logits.
    - `routing`: the rule the router follows; required for a linear layer. On a GPU the generated
      routing kernel follows it, unless the router has a hook, which has to see it called. `wide`:
      its logits are computed in float32.
    - `experts`: routed and folded shared experts. `shared`: a shared expert of its own, computed
      with the others unless it is unlike them (`SparseExperts.takes`) or has a hook.
    - `shared_gate`: a linear layer [1, k]; the sigmoid of its output weighs the shared experts.
    - `returns_logits`: return (output, logits [T, E]), as blocks of transformers 4 do.
    """

    def __init__(
        self,
        gate: nn.Module,
        experts: SparseExperts,
        *,
        routing: Routing | None = None,
        wide: bool = False,
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
        given = None if routing is None else (routing.experts, routing.shared)
        if given not in (None, (experts.count, experts.shared)):
            raise ModelError(
                f"the routing has (experts, shared) {given}, but the layer "
                f"{(experts.count, experts.shared)}",
                remedy="pass the routing of this layer",
            )
        self.gate = gate
        self.experts = experts
        self.routing = routing
        self.wide = wide
        self.shared = shared
        self.shared_gate = shared_gate
        self.returns_logits = returns_logits
        self._alike = shared is not None and experts.takes(shared)
        self._rule = None if routing is None else ops.spelled(routing)

    def forward(self, x: Array) -> Array:
        """See the class."""
        tokens = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
        parts = self._modules  # an attribute that is a module takes its time to find
        gate, experts, routing = parts["gate"], parts["experts"], self.routing
        shared, shared_gate = parts.get("shared"), parts.get("shared_gate")
        weight = None if shared_gate is None else torch.sigmoid(shared_gate(tokens))
        lone = shared if self._alike and not _hooked(shared) else None
        scale = weight if experts.shared or lone is not None else None
        if routing is not None and follows_rule(gate, tokens):
            logits = logits_of(gate, tokens, self.wide)
            bias = gate.e_score_correction_bias.float() if routing.bias else None
            y = experts.routed(tokens, logits, routing, bias, scale, self._rule, lone=lone)
        else:
            logits, weights, chosen = call_router(gate, tokens)
            y = experts(tokens, chosen, weights, scale, lone=lone)
        if shared is not lone:
            own = shared(tokens)
            y = y + own if weight is None else torch.addcmul(y, weight, own)
        if x.ndim != 2:
            y = y.reshape(x.shape)
        return (y, logits) if self.returns_logits else y


def follows_rule(gate: nn.Module, tokens: Array) -> bool:
    """Whether the rule is followed on the logits, rather than the router's module called.

    A linear layer knows no more than logits. Any other router is called where no kernels run, and
    where a hook has to see it.
    """
    if isinstance(gate, nn.Linear):
        return True
    return runs_kernels(tokens.device) and not _hooked(gate)


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def logits_of(gate: nn.Module, tokens: Array, wide: bool) -> Array:
    """What the router's linear step gives for tokens [T, k]: [T, experts]."""
    if isinstance(gate, nn.Linear):
        return gate(tokens)
    weight = gate.weight
    if wide:
        tokens, weight = tokens.float(), weight.float()
    return nn.functional.linear(tokens, weight)


def call_router(gate: nn.Module, tokens: Array) -> tuple[Array | None, Array, Array]:
    """Logits [T, E] (None if the router keeps them), weights [T, top] and experts [T, top].

    Raises ModelError when the router returns something else.
    """
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
