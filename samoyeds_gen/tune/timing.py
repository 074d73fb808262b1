"""Timing contenders fairly on one GPU: interleaved round by round, sustained, medians.

A chip reaches its power limit within milliseconds and everybody slows down, so each sample is at
least `sample_ms` of back-to-back launches after `warmup_s` of the same, and the contenders take
turns. Buffers rotate so that no operand is found in L2 by luck.
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
    sample_ms: float = 20.0,
    warmup_s: float = 1.0,
) -> dict[str, Timing]:
    """Time every contender in every round, in turn. Needs the contenders' device to be current."""
    launches = {name: _launches(run, sample_ms) for name, run in contenders.items()}
    each = warmup_s / max(1, len(contenders))
    for name, run in contenders.items():
        for _ in range(max(1, int(each * 1000 / sample_ms))):
            _sample(run, launches[name])
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            samples[name].append(_sample(run, launches[name]))
    return {name: _summary(values) for name, values in samples.items()}


def _launches(run: Launch, sample_ms: float) -> int:
    """How many launches fill one sample."""
    for turn in range(3):
        run(turn)
    return max(3, int(sample_ms * 1000 / _sample(run, 5)) + 1)


def _sample(run: Launch, launches: int) -> float:
    """Microseconds per launch over one back-to-back sample, by device events."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for turn in range(launches):
        run(turn)
    stop.record()
    stop.synchronize()
    return float(start.elapsed_time(stop)) * 1000 / launches


def _summary(values: Sequence[float]) -> Timing:
    return Timing(statistics.median(values), min(values), max(values), len(values))
