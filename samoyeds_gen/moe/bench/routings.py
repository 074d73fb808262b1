"""Tokens with the experts chosen for them, drawn anew for every buffer: uniform, skewed, extreme.

Decides how skewed choices are; a token never has an expert twice.
"""

from typing import NamedTuple

import torch

from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.tune.layers import Case

ZIPF_POWER = 1.0


class Batch(NamedTuple):
    """One input: tokens bfloat16 [T, hidden], chosen int64 [T, top], weights float32 [T, top]."""

    tokens: Array
    chosen: Array
    weights: Array


def draw_batch(case: Case, generator: torch.Generator) -> Batch:
    """Draw tokens and their routing on the generator's device; a token's weights sum to 1.

    - "uniform": every expert is as likely.
    - "zipf": the r-th most popular expert is chosen in proportion to 1/r, each after those that the
      token has already. Which experts are popular is drawn too.
    - "one": one expert, which is drawn, has every token; other choices are uniform.
    """
    config, place = case.config, generator.device
    scores = _popularity(case, generator)
    noise = torch.rand(case.tokens, config.experts, generator=generator, device=place)
    # The largest of log(p) + Gumbel noise are a draw in proportion to p without replacement.
    gumbel = -(-noise.clamp_min(1e-20).log()).clamp_min(1e-20).log()
    chosen = (scores + gumbel).topk(config.top, dim=1).indices
    drawn = torch.randn(case.tokens, config.top, generator=generator, device=place)
    tokens = torch.randn(case.tokens, config.hidden, generator=generator, device=place)
    return Batch(tokens.to(torch.bfloat16), chosen, drawn.softmax(1))


def _popularity(case: Case, generator: torch.Generator) -> Array:
    """The logarithm of how likely each expert is, float32 [experts]."""
    count, place = case.config.experts, generator.device
    scores = torch.zeros(count, device=place)
    order = torch.randperm(count, generator=generator, device=place)
    if case.routing == "zipf":
        ranks = torch.arange(1, count + 1, device=place, dtype=torch.float32)
        scores[order] = -ZIPF_POWER * ranks.log()
    elif case.routing == "one":
        scores[order[:1]] = float("inf")
    return scores


def experts_hit(chosen: Array, experts: int) -> int:
    """How many experts get a token."""
    return int(torch.bincount(chosen.flatten(), minlength=experts).count_nonzero())
