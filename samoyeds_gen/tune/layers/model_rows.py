"""The figures of compared decoder layers: one row a contender and call, geometric means, JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from samoyeds_gen.tune.layers.models import ModelCase
from samoyeds_gen.tune.layers.rows import (
    LayerContender,
    LayerFailure,
    figures_of,
    timing_that_counts,
)
from samoyeds_gen.tune.results import geometric_mean
from samoyeds_gen.tune.timing import Timing

MODEL_WORK: Final = (
    "one decoder layer a call, with dense attention, router and shared experts on both sides; us "
    "is graph replay for ours and the smaller of eager and graph for grouped_mm; tokens_per_s "
    "counts the tokens of a call; ratio is grouped_mm's us over the contender's"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """One contender at one call of a decoder layer. Times are medians in microseconds a call.

    `held_bytes` is what the layer's weights take; `peak_bytes` the most memory of a call beside
    weights, cache, input and output.
    """

    group: str
    config: str
    call: str
    tokens: int
    cache: int
    contender: str
    kind: str
    format: str
    us: float
    us_eager: float
    us_graph: float | None
    least_us: float
    most_us: float
    replay: str
    tokens_per_s: float
    ratio: float | None
    held_bytes: int
    peak_bytes: int
    host_us: float
    worst: float
    relative: float

    @property
    def case(self) -> str:
        """The case in a few words."""
        return f"{self.config} {self.call}"

    def __str__(self) -> str:
        ratio = "" if self.ratio is None else f", {self.ratio:.2f}x"
        return (
            f"{self.case} {self.contender}: {self.us:.1f} us, {self.tokens_per_s:.0f} tokens/s"
            f"{ratio}, peak {self.peak_bytes / 1e6:.1f} MB"
        )


@dataclass(frozen=True, slots=True)
class ModelMean:
    """The geometric mean of a contender's ratios in a group of `cases` calls."""

    group: str
    contender: str
    ratio: float
    least: float
    cases: int


def model_rows(
    case: ModelCase,
    contenders: Sequence[LayerContender],
    timings: Mapping[tuple[str, str], Timing],
) -> list[ModelRow]:
    """The rows of one call; `timings` by (name, "eager" or "graph")."""
    taken = {each.name: timing_that_counts(each, timings) for each in contenders}
    return [
        ModelRow(
            group=case.group,
            config=case.config.name,
            call=case.call,
            tokens=case.tokens,
            cache=case.cache,
            tokens_per_s=case.tokens / taken[each.name].median_us * 1e6,
            **figures_of(each, taken, timings),
        )
        for each in contenders
    ]


def model_means(rows: Sequence[ModelRow]) -> list[ModelMean]:
    """Means by group and contender, in the order of their first rows."""
    parts: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.ratio is not None:
            parts.setdefault((row.group, row.contender), []).append(row.ratio)
    return [
        ModelMean(group, name, geometric_mean(part), min(part), len(part))
        for (group, name), part in parts.items()
    ]


def models_json(
    rows: Sequence[ModelRow], failed: Sequence[LayerFailure], about: Mapping[str, object]
) -> str:
    """Everything: what made the figures, rows, means, and what did not take part."""
    record = {
        **about,
        "work": MODEL_WORK,
        "rows": [asdict(row) for row in rows],
        "means": [asdict(mean) for mean in model_means(rows)],
        "failed": [asdict(each) for each in failed],
    }
    return json.dumps(record, indent=1) + "\n"
