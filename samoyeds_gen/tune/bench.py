"""A comparison over shapes: contenders are checked in full, then timed in turn, then summed up.

What the contenders are and how a GPU is timed is the rig's; see rig.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from samoyeds_gen.tune.contender import Contender, Failure
from samoyeds_gen.tune.machines import Machine
from samoyeds_gen.tune.results import FailedRow, Mean, Row, means, rows_of
from samoyeds_gen.tune.suites import Shape
from samoyeds_gen.tune.timing import Effort, Launch, time_interleaved

FEW_TOKENS = 256


class Rig(Protocol):
    """A GPU with everybody who takes part on it."""

    @property
    def machine(self) -> Machine:
        """The GPU's constants."""

    def contenders(self, shape: Shape) -> Sequence[Contender | Failure]:
        """Everybody at one shape, checked."""

    def sample(self, run: Launch, settle: int, timed: int) -> float:
        """Microseconds a run; a `Sampler`."""

    def release(self) -> None:
        """Give back what the contenders of the latest shape hold."""


@dataclass(slots=True)
class Results:
    """What a comparison found, in the order it was found."""

    rows: list[Row] = field(default_factory=list)
    failed: list[FailedRow] = field(default_factory=list)

    @property
    def means(self) -> list[Mean]:
        """Geometric means by group and contender."""
        return means(self.rows)


Progress = Callable[[int, int, str], None]
"""`progress(done, total, sentence)`: shapes done, and what just happened."""

Written = Callable[[Results], None]
"""Given all results so far, which it may keep: a run may end at any moment."""


def run_bench(
    shapes: Sequence[tuple[str, Shape]],
    rig: Rig,
    effort: Effort,
    progress: Progress = lambda done, total, sentence: None,
    written: Written = lambda results: None,
) -> Results:
    """Compare everybody at each (group, shape); `written` is called with all results after each.

    A contender that failed is noted, not timed.
    """
    results = Results()
    total = len(shapes)
    for done, (group, shape) in enumerate(shapes):
        m, k, n = shape
        progress(done, total, f"{m},{k},{n}: checking")
        ready = []
        for each in rig.contenders(shape):
            if isinstance(each, Failure):
                progress(done, total, f"{m},{k},{n} {each.name}: {each.error}")
                results.failed.append(FailedRow(group, m, k, n, each.name, each.error))
            else:
                ready.append(each)
        if ready:
            timings = time_interleaved(
                {each.name: each.timed for each in ready}, _settled(effort, n), rig.sample
            )
            found = rows_of(group, shape, ready, timings, rig.machine)
            results.rows += found
            for row in found:
                progress(done, total, sentence_of(row))
        ready.clear()
        rig.release()
        written(results)
    progress(total, total, "done")
    return results


def _settled(effort: Effort, n: int) -> Effort:
    """Few tokens leave a chip below its power limit, so that clocks need not settle for long."""
    if n > FEW_TOKENS:
        return effort
    settle, sample = min(effort.settle_ms, 30.0), min(effort.sample_ms, 20.0)
    return replace(effort, settle_ms=settle, sample_ms=sample)


def sentence_of(row: Row) -> str:
    """A row as one line of progress."""
    ratio = f", {row.ratio:.2f}x" if row.ratio is not None else ""
    return (
        f"{row.m},{row.k},{row.n} {row.contender}: {row.median_us:.1f} us, {row.tflops:.0f} "
        f"TFLOP/s{ratio}, {row.weight_tbs:.2f} TB/s of weight"
    )


__all__ = ["Progress", "Results", "Rig", "run_bench", "sentence_of"]
