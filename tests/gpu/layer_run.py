"""One small layer of experts, run and compared: what a checker of memory and races is put around.

    python tests/gpu/layer_run.py on_load|before|early|ring [cpu]

Prints "0 wrong" and exits with 0 if every element is within its bound. Data is made on the CPU, so
that on the GPU nearly all work is of the layer's own kernels. With "early" every launch begins
while the one before ends. "ring" takes the kernels of GPUs without wgmma; with "cpu" the simulator
runs them.
"""

import sys
from dataclasses import replace

import torch

import samoyeds_gen as sg
from samoyeds_gen.language import Routing
from samoyeds_gen.moe import on_kernels
from samoyeds_gen.moe.backend import use_backend
from samoyeds_gen.moe.bound import experts_with_bound
from samoyeds_gen.moe.experts import SparseExperts
from samoyeds_gen.moe.linear import SparseMLP
from samoyeds_gen.tune import experts as choice

EXPERTS, TOP, HIDDEN, WIDE, LONE = 6, 2, 256, 192, 320
TOKENS = (1, 40, 200)


def choose(kind: str) -> None:
    """Let schedules of one kind be the only candidates."""
    choice.EARLY_TO = max(choice.TOKENS) if kind == "early" else 0
    kind = "before" if kind == "early" else kind
    candidates = choice._candidates

    def of_kind(problem):
        wanted = "on_load" if problem.index is None else kind
        return [each for each in candidates(problem) if each.pack.gather == wanted]

    choice._candidates = of_kind if kind != "ring" else lambda problem: ()
    on_kernels._kernel.cache_clear()


def small_layer() -> tuple[SparseExperts, SparseMLP]:
    """Experts of format (1,2,64), the last one shared, and a wider one that is shared, too."""

    def one(m, k):
        return sg.encode(torch.randn(m, k) * k**-0.5, n=1, m=2, v=64)

    pairs = [[one(WIDE, HIDDEN) for _ in range(EXPERTS + 1)] for _ in range(2)]
    downs = [one(HIDDEN, WIDE) for _ in range(EXPERTS + 1)]
    lone = SparseMLP.of(one(LONE, HIDDEN), one(LONE, HIDDEN), one(HIDDEN, LONE))
    return SparseExperts.of(*pairs, downs, shared=1), lone


def wrong_elements(experts: SparseExperts, lone: SparseMLP, place: str, tokens: int) -> int:
    """Run the layer with experts that are given, and with experts that it chooses."""
    routing = Routing(EXPERTS, TOP, "softmax_topk", renormalise=True, shared=1)
    x, logits = torch.randn(tokens, HIDDEN).bfloat16(), torch.randn(tokens, EXPERTS)
    best, chosen = torch.softmax(logits, 1).topk(TOP, 1)
    weights = best / best.sum(1, keepdim=True)
    expected = experts_with_bound(experts, x, chosen, weights, lone=lone)
    there, other = experts.to(place), lone.to(place)
    given = there(x.to(place), chosen.to(place), weights.to(place), lone=other)
    routed = there.routed(x.to(place), logits.to(place), routing, lone=other)
    experts.to("cpu")
    lone.to("cpu")
    # Weights of a routing are rounded in another order: a few units in the last place.
    loose = replace(expected, bound=2 * expected.bound + 2.0**-20 * expected.value.abs())
    outcomes = ((given, expected), (routed, loose))
    return sum(
        int((~((y.cpu().double() - each.value).abs() <= each.bound)).sum()) for y, each in outcomes
    )


def main() -> int:
    """Every number of tokens."""
    kind, place = sys.argv[1], "cpu" if sys.argv[2:] == ["cpu"] else "cuda"
    choose(kind)
    torch.set_num_threads(1)  # of many processes at once, whose threads would wait for each other
    torch.manual_seed(0)
    with torch.no_grad(), use_backend("kernels"):
        layer = small_layer()
        wrong = sum(wrong_elements(*layer, place, tokens) for tokens in TOKENS)
    print(f"layer {kind}: {wrong} wrong")
    return wrong != 0


if __name__ == "__main__":
    raise SystemExit(main())
