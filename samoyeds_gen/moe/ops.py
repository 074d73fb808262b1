"""Layer calls as torch operators: what torch.compile traces, with shapes and types it may rely on.

Decides the operators' schemas. Each is handed the buffers of its weights and the five numbers of
their headers; outside of a trace the layers call the functions here without the detour.
"""

from functools import lru_cache

import torch
from torch import Tensor

from samoyeds_gen.formats import Format, SparseWeight
from samoyeds_gen.moe.backend import backend_of
from samoyeds_gen.moe.routing import Routing
from samoyeds_gen.moe.stored import weight_over


def linear(tokens: Tensor, weight: list[Tensor], numbers: list[int], bias: Tensor | None) -> Tensor:
    """tokens [T, k] of the weight's type -> [T, m]; `bias` float32 [m]."""
    w = _weight(weight, numbers)
    return backend_of(tokens.device).multiply(w, tokens, bias=bias)


def mlp(
    tokens: Tensor,
    up: list[Tensor],
    up_numbers: list[int],
    down: list[Tensor],
    down_numbers: list[int],
    activation: str,
    gated: bool,
) -> Tensor:
    """tokens [T, k] through one MLP -> [T, k]."""
    backend = backend_of(tokens.device)
    wide = backend.multiply(_weight(up, up_numbers), tokens, activation=activation, gated=gated)
    return backend.multiply(_weight(down, down_numbers), wide)


def experts(
    tokens: Tensor,
    chosen: Tensor,
    weights: Tensor,
    shared_weights: Tensor | None,
    up: list[Tensor],
    up_numbers: list[int],
    down: list[Tensor],
    down_numbers: list[int],
    count: int,
    shared: int,
    activation: str,
    gated: bool,
) -> Tensor:
    """tokens [T, k], chosen int [T, top], weights float [T, top] -> combined outputs [T, k].

    `count` routed experts, then `shared` ones, are stacked in `up` and in `down`; every token goes
    to the shared ones, with weight 1 or `shared_weights` float [T].
    """
    backend = backend_of(tokens.device)
    sorted_ = backend.dispatch(chosen, weights, count, shared, shared_weights)
    wide = backend.multiply(
        _weight(up, up_numbers),
        tokens,
        experts=count + shared,
        dispatch=sorted_,
        gathered=True,
        activation=activation,
        gated=gated,
    )
    narrow = backend.multiply(
        _weight(down, down_numbers), wide, experts=count + shared, dispatch=sorted_, scaled=True
    )
    return backend.combine(narrow, sorted_.slots)


def route(logits: Tensor, bias: Tensor | None, routing: str) -> tuple[Tensor, Tensor]:
    """Experts int32 [T, k] and weights float32 [T, k] by the rule that `routing` spells."""
    return backend_of(logits.device).route(Routing.parse(routing), logits, bias)


def _weight(tensors: list[Tensor], numbers: list[int]) -> SparseWeight:
    n, m, v, rows, columns = numbers
    return weight_over(tensors, _format(n, m, v), (rows, columns))


_format = lru_cache(maxsize=None)(Format)


def _like_linear(
    tokens: Tensor, weight: list[Tensor], numbers: list[int], bias: Tensor | None
) -> Tensor:
    return tokens.new_empty(tokens.shape[0], numbers[3])


def _like_mlp(tokens: Tensor, *_: object) -> Tensor:
    return torch.empty_like(tokens, memory_format=torch.contiguous_format)


def _like_route(logits: Tensor, bias: Tensor | None, routing: str) -> tuple[Tensor, Tensor]:
    shape = (logits.shape[0], Routing.parse(routing).top_k)
    return (
        logits.new_empty(shape, dtype=torch.int32),
        logits.new_empty(shape, dtype=torch.float32),
    )


_define = torch.library.custom_op

linear_op = _define("samoyeds_gen::linear", linear, mutates_args=())
linear_op.register_fake(_like_linear)
mlp_op = _define("samoyeds_gen::mlp", mlp, mutates_args=())
mlp_op.register_fake(_like_mlp)
experts_op = _define("samoyeds_gen::experts", experts, mutates_args=())
experts_op.register_fake(_like_mlp)
route_op = _define("samoyeds_gen::route", route, mutates_args=())
route_op.register_fake(_like_route)
