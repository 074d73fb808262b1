"""Looking for the simplest failing case of a kernel with hypothesis.

Decides the order (fixed corners, then drawn cases) and how long shrinking may take.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.errors import Flaky, Unsatisfiable

from samoyeds_gen.check.cases import Case
from samoyeds_gen.check.groups import grouped_cases, grouped_corners
from samoyeds_gen.check.strategies import Scope, cases, corners
from samoyeds_gen.check.trial import LAUNCH_FAILED, Device, Finding, try_case
from samoyeds_gen.kernel import Variant
from samoyeds_gen.simulator import Report

T = TypeVar("T")

SHRINK_RUNS = 100
"""Runs after the first failure: enough to reach a few rows and columns."""


LEAST_TO_SHRINK = 40
"""Drawn cases among which one that fails like a failing corner is looked for."""


class _Failed(Exception):  # noqa: N818 - a signal to hypothesis
    """The drawn value fails."""


class _Enough(BaseException):
    """Shrinking has run long enough; derived so that hypothesis lets it pass."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a search: cases run, and the simplest failing one."""

    examples: int
    found: tuple[Case, Finding] | None


def search(
    variant: Variant,
    *,
    examples: int,
    device: Device = "cpu",
    seed: int = 0,
    shrinks: int = SHRINK_RUNS,
    observe: Callable[[Report], None] = lambda report: None,
) -> Outcome:
    """Try the corner cases, then drawn ones, `examples` in all, and shrink the first failure.

    `shrinks` more runs are spent on shrinking. `observe` gets the simulator's report of each run
    that ended.
    """
    scope = Scope.of(variant.plan)
    ran = 0

    def attempt(case: Case) -> Finding | None:
        nonlocal ran
        ran += 1
        finding, report = try_case(variant, case, device)
        if report is not None:
            observe(report)
        return finding

    found: list[tuple[Case, Finding]] = []

    def fails(case: Case) -> object:
        finding = attempt(case)
        if finding is None or (found and finding.kind != found[0][1].kind):
            return None
        found.append((case, finding))
        return finding.kind

    first, drawn = (grouped_corners, grouped_cases) if scope.unit else (corners, cases)
    for case in first(scope)[:examples]:
        if fails(case):
            break
    rest = examples - ran if not found else max(examples, LEAST_TO_SHRINK)
    if rest > 0 and not (found and found[0][1].kind == LAUNCH_FAILED):
        explore(drawn(scope), fails, examples=rest, seed=seed, shrinks=shrinks)
    simplest = min(found, key=lambda pair: pair[0].size()) if found else None
    return Outcome(ran, simplest)


def explore(
    strategy: st.SearchStrategy[T],
    fails: Callable[[T], object],
    *,
    examples: int,
    seed: int,
    shrinks: int = SHRINK_RUNS,
) -> None:
    """Draw up to `examples` values, the simplest first, and shrink the first that `fails`.

    `fails` returns something true for a failing value and records it for itself.
    """
    left = shrinks
    failing = False

    def body(value: T) -> None:
        nonlocal left, failing
        left -= failing
        if left < 0:
            raise _Enough
        if fails(value):
            failing = True
            raise _Failed

    test: Any = seeded(seed)(settings_for(examples)(given(strategy)(body)))
    # Whatever ends it, `fails` has recorded what there is to know.
    with suppress(_Failed, _Enough, Flaky, Unsatisfiable):
        test()


def settings_for(examples: int) -> Any:
    """Hypothesis settings of a search: quiet, without a deadline or a database."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=False,
        print_blob=False,
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
