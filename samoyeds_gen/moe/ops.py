"""Layer calls as torch operators: what torch.compile traces, with shapes and types it may rely on.

Decides the operators' schemas. Each is handed the data of its weights and the five numbers of their
headers; the rest of a weight may lie on the host, where an argument of an operator would keep
compilers from using CUDA graphs. Outside of a trace the layers ask the backend without the detour.
"""

import json
from dataclasses import asdict
from functools import lru_cache

import torch
from torch import Tensor, library

from samoyeds_gen.formats import SparseWeight
from samoyeds_gen.language import Routing
from samoyeds_gen.moe.backend import Given, Work, backend_of
from samoyeds_gen.moe.stored import weight_at


def linear(tokens: Tensor, weight: Tensor, numbers: list[int], bias: Tensor | None) -> Tensor:
    """tokens [T, k] of the weight's type -> [T, m]; `bias` float32 [m]."""
    w = weight_at(weight, numbers)
    return backend_of(tokens.device).multiply(w, tokens, bias=bias)


def mlp(
    tokens: Tensor,
    up: Tensor,
    up_numbers: list[int],
    down: Tensor,
    down_numbers: list[int],
    activation: str,
    gated: bool,
) -> Tensor:
    """tokens [T, k] through one MLP -> [T, k]."""
    ends = (weight_at(up, up_numbers), weight_at(down, down_numbers))
    return backend_of(tokens.device).mlp(tokens, *ends, activation, gated)


def experts(
    tokens: Tensor,
    chosen: Tensor,
    weights: Tensor,
    shared_weight: Tensor | None,
    count: int,
    shared: int,
    up: Tensor,
    up_numbers: list[int],
    down: Tensor,
    down_numbers: list[int],
    activation: str,
    gated: bool,
    lone: list[Tensor],
    lone_numbers: list[int],
) -> Tensor:
    """tokens [T, k], chosen int [T, top], weights float [T, top] -> combined outputs [T, k].

    `count` routed experts, then `shared` ones, are stacked in `up` and in `down`. Every token goes
    to the shared ones, with weight 1 or `shared_weight` float32 [T]; so it does to the one whose up
    and down are `lone`, unless that is empty.
    """
    given = Given(experts=chosen, weights=weights, shared_weight=shared_weight)
    ends = (weight_at(up, up_numbers), weight_at(down, down_numbers))
    rule = sorting(count, chosen.shape[1], shared)
    work = Work(rule, tokens, given, *ends, activation, gated, _pair(lone, lone_numbers))
    return backend_of(tokens.device).layer(work).make()


def routed_experts(
    tokens: Tensor,
    logits: Tensor,
    bias: Tensor | None,
    shared_weight: Tensor | None,
    routing: str,
    up: Tensor,
    up_numbers: list[int],
    down: Tensor,
    down_numbers: list[int],
    activation: str,
    gated: bool,
    lone: list[Tensor],
    lone_numbers: list[int],
) -> Tensor:
    """`experts`, chosen by `logits` [T, experts] and `bias` float32 [experts] as `routing` says."""
    given = Given(logits=logits, bias=bias, shared_weight=shared_weight)
    ends = (weight_at(up, up_numbers), weight_at(down, down_numbers))
    rule = parsed(routing)
    work = Work(rule, tokens, given, *ends, activation, gated, _pair(lone, lone_numbers))
    return backend_of(tokens.device).layer(work).make()


def traced(tokens: Tensor) -> bool:
    """Whether a call has to go through the operators, since there may be no values to compute with.

    Otherwise the backend is asked without the detour, which spares some microseconds.
    """
    return torch.compiler.is_compiling() or type(tokens) is not Tensor or tokens.is_meta


def spelled(routing: Routing) -> str:
    """A routing as text, which an operator takes."""
    return json.dumps(asdict(routing))


@lru_cache(maxsize=256)
def parsed(text: str) -> Routing:
    """Read `spelled` back."""
    return Routing(**json.loads(text))


@lru_cache(maxsize=256)
def sorting(experts: int, top_k: int, shared: int) -> Routing:
    """A routing for those who sort and do not choose."""
    return Routing(experts, top_k, "softmax_topk", False, shared=shared)


def _pair(data: list[Tensor], numbers: list[int]) -> tuple[SparseWeight, SparseWeight] | None:
    """Up and down of an MLP, if there is one."""
    if not data:
        return None
    up, down = data
    return weight_at(up, numbers[:5]), weight_at(down, numbers[5:])


def _like_linear(tokens: Tensor, weight: Tensor, numbers: list[int], bias: Tensor | None) -> Tensor:
    return tokens.new_empty(tokens.shape[0], numbers[3])


def _like_tokens(tokens: Tensor, *_: object) -> Tensor:
    return torch.empty_like(tokens, memory_format=torch.contiguous_format)


_define = library.custom_op

linear_op = _define("samoyeds_gen::linear", linear, mutates_args=())
linear_op.register_fake(_like_linear)
mlp_op = _define("samoyeds_gen::mlp", mlp, mutates_args=())
mlp_op.register_fake(_like_tokens)
experts_op = _define("samoyeds_gen::experts", experts, mutates_args=())
experts_op.register_fake(_like_tokens)
routed_experts_op = _define("samoyeds_gen::routed_experts", routed_experts, mutates_args=())
routed_experts_op.register_fake(_like_tokens)
