"""A decoder layer around two kinds of experts: what the suite model compares.

Attention is dense, and one object for both; only the experts differ.
"""

import torch
from torch import nn
from torch.nn import functional

from samoyeds_gen.formats import Format
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.moe.backend import backend_of
from samoyeds_gen.moe.bench.dense import GroupedExperts, silu_mul
from samoyeds_gen.moe.bench.weights import LayerWeights
from samoyeds_gen.moe.layer import SparseMoE
from samoyeds_gen.tune.layers.models import ModelCase, ModelLayer

EPS = 1e-6
ROTARY_BASE = 1e6


class Attention:
    """`attention(x [batch * new, hidden])` of one call, with rotary positions and a cache.

    Prefill attends causally and fills the cache; decode appends one token to each sequence's, the
    last of `cache` positions.
    """

    def __init__(self, case: ModelCase, generator: torch.Generator) -> None:
        config, place = case.config, generator.device
        self.case = case
        h, d = config.experts.hidden, config.head_dim
        wide = (config.heads + 2 * config.kv_heads) * d
        self.qkv = normal(generator, wide, h)
        self.out = normal(generator, h, config.heads * d)
        self.bias = 0.1 * normal(generator, wide, 1)[:, 0] if config.bias else None
        turned_heads = config.heads + config.kv_heads
        self.norms = normal(generator, turned_heads * d, 1).view(turned_heads, 1, d)
        shape = (2, case.batch, config.kv_heads, case.cache, d)
        self.cache = torch.randn(shape, generator=generator, device=place, dtype=torch.bfloat16)
        first = case.cache - case.new
        self.turns = rotary(torch.arange(first, case.cache, device=place), d)

    def __call__(self, x: Array) -> Array:
        """See the class."""
        case, config = self.case, self.case.config
        both = config.heads + config.kv_heads
        parts = functional.linear(x, self.qkv, self.bias)
        parts = parts.view(case.batch, case.new, -1, config.head_dim).transpose(1, 2)
        qk, v = parts[:, :both], parts[:, both:]
        if config.normed:
            qk = normed(qk) * self.norms
        q, k = turned(qk, self.turns).split([config.heads, config.kv_heads], dim=1)
        self.cache[0, :, :, case.cache - case.new :] = k
        self.cache[1, :, :, case.cache - case.new :] = v
        y = self._attended(q)
        return functional.linear(y, self.out)

    def _attended(self, q: Array) -> Array:
        """Attention of q [batch, heads, new, dim] over the cache: [batch * new, heads * dim]."""
        case, config = self.case, self.case.config
        keys, values = self.cache
        if case.new > 1:
            y = functional.scaled_dot_product_attention(
                q, keys, values, is_causal=True, enable_gqa=config.heads != config.kv_heads
            )
            return y.transpose(1, 2).reshape(case.tokens, -1)
        # Queries that share a key lie side by side as if they were rows of one sequence.
        grouped = q.reshape(case.batch, config.kv_heads, -1, config.head_dim)
        y = functional.scaled_dot_product_attention(grouped, keys, values)
        return y.reshape(case.tokens, -1)


class GroupedMoe:
    """The experts of a layer on torch's grouped product, with router and shared expert.

    Experts are chosen by torch: softmax, top-k, and a division where weights are renormalised.
    """

    def __init__(
        self, config: ModelLayer, weights: LayerWeights, gate: Array, shared_gate: Array | None
    ) -> None:
        count = config.experts.experts
        self.routing, self.gate, self.shared_gate = config.routing, gate, shared_gate
        self.experts = GroupedExperts(weights.gate_up[:count], weights.down[:count])
        self.shared: tuple[Array, Array] | None = None
        if shared_gate is not None:
            gates, ups = weights.gate_up[count:].chunk(2, dim=1)
            down = weights.down[count:].transpose(0, 1).flatten(1).contiguous()
            self.shared = torch.cat([gates.flatten(0, 1), ups.flatten(0, 1)]), down

    def __call__(self, x: Array) -> Array:
        """x [T, hidden] -> [T, hidden]."""
        y = self.experts(x, *self.route(x))
        if self.shared is None or self.shared_gate is None:
            return y
        up, down = self.shared
        lone = functional.linear(silu_mul(functional.linear(x, up)), down)
        return torch.addcmul(y, functional.linear(x, self.shared_gate).sigmoid(), lone)

    def route(self, x: Array) -> tuple[Array, Array]:
        """Chosen experts int64 [T, top] and their weights float32."""
        scores = functional.linear(x, self.gate).softmax(-1, dtype=torch.float32)
        weights, chosen = scores.topk(self.routing.top_k)
        if self.routing.renormalise:
            weights = weights / weights.sum(-1, keepdim=True)
        return chosen, weights


class SparseBlock:
    """The experts of a layer as `SparseMoE`, which routes with a generated kernel."""

    def __init__(
        self,
        config: ModelLayer,
        weights: LayerWeights,
        form: Format,
        gate: Array,
        shared_gate: Array | None,
    ) -> None:
        self.routing, self.gate = config.routing, gate
        self.block = SparseMoE(
            linear_over(gate),
            weights.sparse[form],
            routing=config.routing,
            shared_gate=None if shared_gate is None else linear_over(shared_gate),
        )

    def __call__(self, x: Array) -> Array:
        """x [T, hidden] -> [T, hidden]."""
        with torch.no_grad():
            y: Array = self.block(x)
        return y

    def route(self, x: Array) -> tuple[Array, Array]:
        """Chosen experts int64 [T, top] and their weights float32, as the block's kernel does."""
        logits = functional.linear(x, self.gate)
        routed = backend_of(x.device).route(self.routing, logits, None, None)
        return routed.experts.to(torch.int64), routed.weights


class DecoderLayer:
    """`layer(x [T, hidden])`: x + attention(norm x), and that + experts(norm of it)."""

    def __init__(self, attention: Attention, experts: GroupedMoe | SparseBlock) -> None:
        self.attention, self.experts = attention, experts

    def __call__(self, x: Array) -> Array:
        """See the class."""
        middle = self.middle(x)
        return middle + self.experts(normed(middle))

    def middle(self, x: Array) -> Array:
        """The first half."""
        return x + self.attention(normed(x))


def normed(x: Array) -> Array:
    """Root mean square normalisation with unit weights."""
    return functional.rms_norm(x, x.shape[-1:], None, EPS)


def normal(generator: torch.Generator, rows: int, columns: int) -> Array:
    """A random bfloat16 matrix of deviation columns^-1/2."""
    drawn = torch.randn(rows, columns, generator=generator, device=generator.device)
    return drawn.mul_(columns**-0.5).to(torch.bfloat16)


def linear_over(weight: Array) -> nn.Linear:
    """A linear layer with this weight."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


def rotary(positions: Array, dim: int) -> tuple[Array, Array]:
    """Cosine and sine of each position's angles, bfloat16 [positions, dim]."""
    steps = torch.arange(0, dim, 2, device=positions.device, dtype=torch.float32) / dim
    angles = positions[:, None].float() * ROTARY_BASE**-steps
    angles = torch.cat([angles, angles], dim=1)
    return angles.cos().to(torch.bfloat16), angles.sin().to(torch.bfloat16)


def turned(x: Array, turns: tuple[Array, Array]) -> Array:
    """x [batch, heads, new, dim] turned by its positions' angles."""
    cosine, sine = turns
    low, high = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([-high, low], dim=-1) * sine
