"""All experts of a Mixture-of-Experts layer as two stacked Samoyeds weights.

Decides how experts are stacked; routing is layer.py's.
"""

from collections.abc import Sequence
from typing import Any

import torch

from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats import SparseWeight, gate_block, interleave_rows, stack_weights, take_rows
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.language import Routing
from samoyeds_gen.moe import ops
from samoyeds_gen.moe.again import Again
from samoyeds_gen.moe.backend import Given, Work, backend_of
from samoyeds_gen.moe.linear import (
    FLOATS,
    SparseMLP,
    both_weights,
    check_pair,
    dense_mlp,
    like,
    refuse_training,
    rows_of,
)
from samoyeds_gen.moe.stored import KeepsTypes, StoredWeight

INTEGERS = (torch.int32, torch.int64)


class SparseExperts(KeepsTypes):
    """Sum over a token's experts of weight * down(activation(gate x) * up x).

    `experts(tokens [T, k], chosen int [T, top], weights float [T, top])` gives [T, k] of the
    tokens' type; experts' MLPs may be not gated: down(activation(up x)). The last `shared` of the
    `count + shared` stacked MLPs see every token, with weight 1 or `shared_weight`, float [T] or
    [T, 1]; so does `lone`, one more of another width, but like them in all else (`takes`).

    `up` is a SparseWeight [(count + shared) * 2 I, k], gate and up of each expert interleaved by
    `gate_block` rows ([.. * I, k] when not gated), `down` [(count + shared) * k, I]. Outputs of an
    expert are rounded to the weight's type, and summed in float32 in a fixed order.
    """

    def __init__(
        self,
        up: SparseWeight,
        down: SparseWeight,
        *,
        count: int,
        shared: int = 0,
        activation: str = "silu",
        gated: bool = True,
    ) -> None:
        super().__init__()
        if count < 1 or shared < 0:
            raise ModelError(
                f"{count} experts and {shared} shared ones are not a layer",
                remedy="pass at least one expert",
            )
        check_pair(up, down, count + shared, activation, gated)
        self.count = count
        self.shared = shared
        self.activation = activation
        self.gated = gated
        self.up_proj = StoredWeight(up)
        self.down_proj = StoredWeight(down)
        self._again: Again | None = None

    @classmethod
    def of(
        cls,
        gates: Sequence[SparseWeight] | None,
        ups: Sequence[SparseWeight],
        downs: Sequence[SparseWeight],
        *,
        shared: int = 0,
        activation: str = "silu",
    ) -> "SparseExperts":
        """Stack the weights of single experts: gates (None: not gated), ups [I, k], downs [k, I].

        The last `shared` of them are shared experts.
        """
        firsts = list(ups)
        if gates is not None:
            block = gate_block(ups[0].format)
            firsts = [interleave_rows(g, u, block) for g, u in zip(gates, ups, strict=True)]
        return cls(
            stack_weights(firsts),
            stack_weights(downs),
            count=len(ups) - shared,
            shared=shared,
            activation=activation,
            gated=gates is not None,
        )

    def forward(
        self,
        tokens: Array,
        chosen: Array,
        weights: Array,
        shared_weight: Array | None = None,
        *,
        lone: SparseMLP | None = None,
    ) -> Array:
        """See the class."""
        given = Given(None, None, chosen, weights, shared_weight)
        if (again := self._repeated(tokens, given, None, lone)) is not None:
            return again
        rows = self._rows(tokens, shared_weight, lone)
        _check_given(rows, chosen, weights)
        refuse_training("weights", weights)
        if ops.traced(rows):
            numbers = self.count, self.shared
            ends = self._weights(lone)
            y = ops.experts_op(rows, chosen, weights, shared_weight, *numbers, *ends)
        else:
            rule = ops.sorting(self.count, chosen.shape[1], self.shared)
            y = self._layer(rule, rows, given, lone)
        return like(y, tokens)

    def routed(
        self,
        tokens: Array,
        logits: Array,
        routing: Routing,
        bias: Array | None = None,
        shared_weight: Array | None = None,
        rule: str | None = None,
        *,
        lone: SparseMLP | None = None,
    ) -> Array:
        """The same with experts chosen by `logits` float [T, count] as `routing` says.

        `bias` float32 [count] is given where the routing has one. `rule` is `ops.spelled(routing)`,
        for those who are traced and cannot spell.
        """
        given = Given(logits, bias, None, None, shared_weight)
        if (again := self._repeated(tokens, given, routing, lone)) is not None:
            return again
        rows = self._rows(tokens, shared_weight, lone)
        refuse_training("logits", logits)
        if ops.traced(rows):
            rule = ops.spelled(routing) if rule is None else rule
            ends = self._weights(lone)
            y = ops.routed_experts_op(rows, logits, bias, shared_weight, rule, *ends)
        else:
            y = self._layer(routing, rows, given, lone)
        return like(y, tokens)

    def takes(self, mlp: SparseMLP) -> bool:
        """Whether a call may be given this MLP as the `lone` shared expert.

        It has to be like the experts in the type of its weights, its activation and gating.
        """
        own = (self.up_proj.dtype, self.activation, self.gated)
        return own == (mlp.up_proj.dtype, mlp.activation, mlp.gated)

    def dense(self, expert: int) -> tuple[Array | None, Array, Array]:
        """Gate (None when not gated) and up [I, k], and down [k, I] of one expert, decoded.

        Shared experts come behind the `count` routed ones.
        """
        up, down = (
            take_rows(w, expert * rows, (expert + 1) * rows)
            for w in both_weights(self)
            for rows in (w.shape[0] // (self.count + self.shared),)
        )
        return dense_mlp(up, down, self.gated)

    def extra_repr(self) -> str:
        """What print(model) says."""
        more = f" and {self.shared} shared" if self.shared else ""
        return f"{self.count} experts{more}, {self.activation}, gated={self.gated}"

    def _rows(self, tokens: Array, shared_weight: Array | None, lone: SparseMLP | None) -> Array:
        """The tokens as every product takes them; refuses what does not belong to them."""
        up = self.up_proj
        rows = rows_of(tokens, up.shape[1], up.data)
        if lone is not None:
            if not self.takes(lone):
                raise ModelError(
                    f"the lone shared expert is {lone.up_proj.dtype}, {lone.extra_repr()}, but the "
                    f"experts are {up.dtype}, {self.activation}, gated={self.gated}",
                    remedy="call it by itself, and add what it gives",
                )
            rows_of(rows, lone.up_proj.shape[1], lone.up_proj.data)
        if shared_weight is not None:
            _check_shared(rows, shared_weight, self.shared + (lone is not None))
        return rows

    def _weights(self, lone: SparseMLP | None) -> tuple[Any, ...]:
        up, down = self.up_proj, self.down_proj
        more = [] if lone is None else [lone.up_proj, lone.down_proj]
        return (
            up.data,
            up.numbers(),
            down.data,
            down.numbers(),
            self.activation,
            self.gated,
            [each.data for each in more],
            [number for each in more for number in each.numbers()],
        )

    def _repeated(
        self, tokens: Array, given: Given, rule: Routing | None, lone: SparseMLP | None
    ) -> Array | None:
        """The result, where the launches of the call before serve this one too."""
        if ops.traced(tokens):  # before anything that a compiler would guard
            return None
        again = self._again
        if again is None:
            return None
        weights = both_weights(self) + (() if lone is None else both_weights(lone))
        return again((tokens, *given), rule, weights)

    def _layer(self, rule: Routing, rows: Array, given: Given, lone: SparseMLP | None) -> Array:
        """Make the call, and keep its launches for the next one.

        Where experts are given, their shapes say the rule.
        """
        backend = backend_of(rows.device)
        weights = both_weights(self)
        more = None if lone is None else both_weights(lone)
        found = backend.layer(Work(rule, rows, given, *weights, self.activation, self.gated, more))
        asked = None if given.logits is None else rule
        again = Again(found, (rows, *given), asked, weights + (more or ()))
        self._again = again if again.whole else None
        return found.make()


def _check_given(rows: Array, chosen: Array, weights: Array) -> None:
    """Refuse experts and weights that are not those of the tokens."""
    t = rows.shape[0]
    if chosen.ndim != 2 or chosen.shape[0] != t or chosen.dtype not in INTEGERS:
        raise ModelError(
            f"chosen is {chosen.dtype} {list(chosen.shape)}, but int32 or int64 [{t}, top] is "
            "required",
            remedy="pass the experts of each token",
        )
    if weights.shape != chosen.shape or not weights.is_floating_point():
        raise ModelError(
            f"weights is {weights.dtype} {list(weights.shape)}, but a float type and "
            f"{list(chosen.shape)} are required",
            remedy="pass the routing weight of each chosen expert",
        )
    if chosen.device != rows.device or weights.device != rows.device:
        raise ModelError(
            f"tokens, chosen and weights are on {rows.device}, {chosen.device} and "
            f"{weights.device}, but one device is required",
            remedy="move them together",
        )


def _check_shared(rows: Array, shared_weight: Array, shared: int) -> None:
    """Refuse weights that are not those of the `shared` experts' tokens."""
    t = rows.shape[0]
    if tuple(shared_weight.shape) not in ((t,), (t, 1)) or not shared:
        raise ModelError(
            f"shared_weight has shape {list(shared_weight.shape)}, but the layer has {shared} "
            f"shared experts and {t} tokens",
            remedy="pass one weight per token to a layer with shared experts",
        )
    if shared_weight.dtype not in FLOATS or shared_weight.device != rows.device:
        raise ModelError(
            f"shared_weight is {shared_weight.dtype} on {shared_weight.device}, but float32, "
            f"float16 or bfloat16 on {rows.device} is required",
            remedy="convert or move it",
        )
    refuse_training("shared_weight", shared_weight)
