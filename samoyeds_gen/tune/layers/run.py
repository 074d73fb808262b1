"""A comparison of layers: contenders are checked in full, then timed in turn, case by case."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from samoyeds_gen.tune.contender import Failure
from samoyeds_gen.tune.layers.rows import LayerContender, LayerFailure
from samoyeds_gen.tune.timing import Effort, Launch, Timed, Timing, time_interleaved

FEW_TOKENS = 256
"""Up to so many a chip stays below its power limit, so that clocks need not settle for long."""


class AnyCase(Protocol):
    """One call to compare, printed in a few words; of one `config` and a number of `tokens`."""

    @property
    def config(self) -> Any:
        """The layer, which has a `name`."""

    @property
    def tokens(self) -> int:
        """Tokens that go through its experts."""


class LayerRig(Protocol):
    """A GPU with everybody who takes part on it."""

    def prepare(self, config: Any) -> None:
        """Make the weights of a layer, and give back those of the layer before."""

    def contenders(self, case: Any) -> Sequence[LayerContender | Failure]:
        """Everybody at one case of the prepared layer, checked."""

    def sample(self, run: Launch, settle: int, timed: int) -> float:
        """Microseconds a run; a `Sampler`."""

    def release(self) -> None:
        """Give back what the contenders of the latest case hold."""


@dataclass(slots=True)
class LayerResults:
    """What a comparison found, in the order it was found; `cut` counts cases left out for time."""

    rows: list[Any] = field(default_factory=list)
    failed: list[LayerFailure] = field(default_factory=list)
    cut: int = 0


Timings = Mapping[tuple[str, str], Timing]
"""By name of the contender, and "eager" or "graph"."""


class AnyRow(Protocol):
    """Figures of one contender; a line of progress as text."""

    @property
    def case(self) -> str:
        """The case in a few words."""


RowsOf = Callable[[Any, Sequence[LayerContender], Timings], Sequence[AnyRow]]
"""Makes the rows of a case."""

Progress = Callable[[int, int, str], None]
Written = Callable[[LayerResults], None]


def run_layers(
    cases: Sequence[AnyCase],
    rig: LayerRig,
    effort: Effort,
    rows_of: RowsOf,
    *,
    progress: Progress = lambda done, total, sentence: None,
    written: Written = lambda results: None,
    within: float | None = None,
    begun: LayerResults | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> LayerResults:
    """Compare everybody at each case; `written` is called with all results after each.

    Cases that would begin more than `within` seconds after the start are left out and counted.
    Results are added to those of `begun`, and take the place of what it has of the same case.
    """
    results, total, start = begun or LayerResults(), len(cases), clock()
    earlier = len(results.rows)
    prepared: object = None
    for done, case in enumerate(cases):
        if within is not None and clock() - start > within:
            results.cut = total - done
            progress(done, total, f"{results.cut} cases left out after {within:.0f} s")
            break
        if case.config != prepared:
            progress(done, total, f"{case.config.name}: encoding")
            rig.prepare(case.config)
            prepared = case.config
        _run_case(case, rig, effort, rows_of, results, partial(progress, done, total))
        rig.release()
        earlier = _drop_repeated(results.rows, earlier)
        written(results)
    else:
        progress(total, total, "done")
    written(results)
    return results


def _drop_repeated(rows: list[Any], earlier: int) -> int:
    """Drop those of the first `earlier` rows whose case was measured since; how many are left."""
    measured = {row.case for row in rows[earlier:]}
    kept = [row for row in rows[:earlier] if row.case not in measured]
    rows[:earlier] = kept
    return len(kept)


def _run_case(
    case: AnyCase,
    rig: LayerRig,
    effort: Effort,
    rows_of: RowsOf,
    results: LayerResults,
    say: Callable[[str], None],
) -> None:
    ready = []
    for each in rig.contenders(case):
        if isinstance(each, Failure):
            say(f"{case} {each.name}: {each.error}")
            results.failed.append(
                LayerFailure(case.config.name, case.tokens, each.name, each.error)
            )
        else:
            ready.append(each)
    if not ready:
        return
    timed: dict[str, Timed] = {}
    for each in ready:
        timed[_key(each.name, "eager")] = each.eager
        if each.graph is not None:
            timed[_key(each.name, "graph")] = each.graph
    found = time_interleaved(timed, _settled(effort, case.tokens), rig.sample)
    timings = {}
    for key, timing in found.items():
        name, _, how = key.rpartition(SEPARATOR)
        timings[name, how] = timing
    rows = rows_of(case, ready, timings)
    results.rows += rows
    for row in rows:
        say(str(row))


SEPARATOR = " by "


def _key(name: str, how: str) -> str:
    return f"{name}{SEPARATOR}{how}"


def _settled(effort: Effort, tokens: int) -> Effort:
    if tokens > FEW_TOKENS:
        return effort
    settle, sample = min(effort.settle_ms, 30.0), min(effort.sample_ms, 20.0)
    return replace(effort, settle_ms=settle, sample_ms=sample)
