"""Timing contenders fairly on one GPU: interleaved round by round, sustained, medians.

A chip at its power limit sets its clock by what ran in the last tens of milliseconds, so a sample
straight after another contender's is timed at that one's clock. Each sample is therefore preceded
by `settle_ms` of the same launches, which are not timed.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

Launch = Callable[[int], object]
"""Launches once; the argument is the rotation counter that chooses among buffer sets."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Microseconds per launch: the median over rounds, and the extremes."""

    median_us: float
    least_us: float
    most_us: float
    rounds: int


def time_interleaved(
    contenders: Mapping[str, Launch],
    *,
    rounds: int = 9,
    sample_ms: float = 50.0,
    settle_ms: float = 150.0,
    warmup_s: float = 1.0,
) -> dict[str, Timing]:
    """Time every contender in every round, in turn. Needs the contenders' device to be current."""
    once = {name: _estimate(run) for name, run in contenders.items()}
    counts = {name: (_count(settle_ms, us), _count(sample_ms, us)) for name, us in once.items()}
    for name, run in contenders.items():
        _sample(run, _count(1000 * warmup_s / len(contenders), once[name]), 1)
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            samples[name].append(_sample(run, *counts[name]))
    return {name: _summary(values) for name, values in samples.items()}


def _estimate(run: Launch) -> float:
    """Microseconds of one launch, roughly."""
    return _sample(run, 3, 5)


def _count(ms: float, us: float) -> int:
    """How many launches fill `ms`; at least 3."""
    return max(3, int(1000 * ms / us) + 1)


def _sample(run: Launch, settle: int, timed: int) -> float:
    """Microseconds per launch over `timed` back-to-back launches, by device events."""
    start = torch.cuda.Event(enable_timing=True)
    stop = torch.cuda.Event(enable_timing=True)
    for turn in range(settle):
        run(turn)
    start.record()
    for turn in range(timed):
        run(turn)
    stop.record()
    stop.synchronize()
    return float(start.elapsed_time(stop)) * 1000 / timed


def _summary(values: Sequence[float]) -> Timing:
    return Timing(statistics.median(values), min(values), max(values), len(values))
