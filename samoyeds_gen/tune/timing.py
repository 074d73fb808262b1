"""Timing contenders fairly on one GPU: interleaved round by round, sustained, medians.

A chip at its power limit sets its clock by what ran in the last tens of milliseconds, so a sample
straight after another contender's is timed at that one's clock. Each sample is therefore preceded
by `settle_ms` of the same launches, which are not timed.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Launch = Callable[[int], object]
"""Queues work once; the argument is the rotation counter that chooses among buffer sets."""

Sampler = Callable[[Launch, int, int], float]
"""`sample(run, settle, timed)`: after `settle` runs, microseconds a run over `timed` more."""


@dataclass(frozen=True, slots=True)
class Timed:
    """Something to time: `run` queues `launches` launches of it."""

    run: Launch
    launches: int = 1


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to time: rounds, and in each a settled sample; at first `warmup_s` of everything."""

    rounds: int = 9
    sample_ms: float = 50.0
    settle_ms: float = 150.0
    warmup_s: float = 1.0


FULL: Final = Effort()
QUICK: Final = Effort(rounds=3, sample_ms=20.0, settle_ms=40.0, warmup_s=0.3)
"""For a look at a whole suite in a minute; not for figures to publish."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Microseconds per launch: the median over rounds, and the extremes."""

    median_us: float
    least_us: float
    most_us: float
    rounds: int


def time_interleaved(
    contenders: Mapping[str, Timed], effort: Effort, sample: Sampler
) -> dict[str, Timing]:
    """Time every contender in every round, in turn. Needs the contenders' device to be current."""
    once = {name: max(sample(each.run, 3, 5), 0.1) for name, each in contenders.items()}
    for name, each in contenders.items():
        sample(each.run, runs_in(1000 * effort.warmup_s / len(contenders), once[name]), 1)
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(effort.rounds):
        for name, each in contenders.items():
            settle = runs_in(effort.settle_ms, once[name])
            timed = runs_in(effort.sample_ms, once[name])
            samples[name].append(sample(each.run, settle, timed) / each.launches)
    return {name: _summary(values) for name, values in samples.items()}


def runs_in(ms: float, us: float) -> int:
    """How many runs of `us` fill `ms`; at least 3."""
    return max(3, int(1000 * ms / us) + 1)


def _summary(values: Sequence[float]) -> Timing:
    return Timing(statistics.median(values), min(values), max(values), len(values))
