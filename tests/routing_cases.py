"""Routings and logits that several tests draw: ties, skew, NaN, infinities, one expert for all."""

import numpy as np
from hypothesis import strategies as st

from samoyeds_gen.formats import ELEMENTS
from samoyeds_gen.language import Routing

names = ELEMENTS
LOGITS = ("normal", "ties", "one expert", "wide", "special", "zipf", "signs", "low")


@st.composite
def drawn_routings(draw, most=64, most_choices=16):
    """Any legal routing of up to `most` experts."""
    groups = draw(st.sampled_from([1, 1, 2, 3, 4, 8]))
    size = draw(st.integers(1 if groups == 1 else 2, max(2, most // groups)))
    experts = groups * size
    top_groups = draw(st.integers(1, groups))
    kind = draw(st.sampled_from(["softmax_topk", "topk_softmax", "sigmoid_grouped"]))
    return Routing(
        experts,
        draw(st.integers(1, min(most_choices, top_groups * size))),
        kind,
        kind == "topk_softmax" or draw(st.booleans()),
        scaling=draw(st.sampled_from([1.0, 2.5, 0.3])),
        groups=groups,
        top_groups=top_groups,
        bias=draw(st.booleans()),
        shared=draw(st.integers(0, 2)),
        group_score=draw(st.sampled_from(["max", "top2_sum"])),
    )


def logits_of(kind, tokens, routing, seed, dtype="float32"):
    """Logits [tokens, experts] of one of LOGITS."""
    rng = np.random.default_rng(seed)
    shape = (tokens, routing.experts)
    x = rng.standard_normal(shape)
    match kind:
        case "ties":
            x = rng.integers(-1, 2, shape) * 0.5
        case "one expert":
            x[:, seed % routing.experts] += 50
        case "wide":
            x *= 60
        case "special":
            odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, -3e38, 1e-40])
            x = np.where(rng.random(shape) < 0.2, rng.choice(odd, shape), x)
        case "signs":
            x = np.where(rng.random(shape) < 0.5, 0.0, -0.0)
        case "low":
            x -= 100
        case "zipf":
            x -= 2 * np.log1p(np.arange(routing.experts))
    with np.errstate(over="ignore"):
        return x.astype(np.float32).astype(names[dtype])


def options(routing, tokens, seed):
    """A bias if the routing has one, and for odd seeds what shared experts are weighed with.

    Every fifth bias has a NaN; weights are of each type in turn.
    """
    rng = np.random.default_rng(seed + 1)
    bias = rng.standard_normal(routing.experts).astype(np.float32) if routing.bias else None
    if bias is not None and seed % 5 == 4:
        bias[seed % routing.experts] = np.nan
    gate = None
    if seed % 2 and routing.shared:
        gate = rng.random(tokens).astype(tuple(names.values())[seed // 2 % len(names)])
    return bias, gate
