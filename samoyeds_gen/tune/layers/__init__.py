"""Comparing layers of experts: configurations, rows, ratios and memory.

Needs neither torch nor a GPU. What is computed and timed is in `samoyeds_gen.moe.bench`.
"""

from samoyeds_gen.tune.layers.configs import (
    CONFIGS,
    ROUTINGS,
    TOKENS,
    Case,
    LayerConfig,
    cases_of,
    config_named,
)

__all__ = ["CONFIGS", "ROUTINGS", "TOKENS", "Case", "LayerConfig", "cases_of", "config_named"]
