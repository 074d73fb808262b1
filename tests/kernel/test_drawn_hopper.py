"""Drawn warp-specialised kernels build clean and compute what the reference computes.

The same on more examples is `samoyeds-gen check ssmm_sm90 --profile nightly`.
"""

import pytest
from hypothesis import Phase, given, settings

from samoyeds_gen.check.groups import grouped_corners
from samoyeds_gen.check.strategies import Scope, corners
from samoyeds_gen.check.trial import try_case
from samoyeds_gen.check.work import drawn_subjects
from samoyeds_gen.compiler.warp_specialised.geometry import derive_geometry
from samoyeds_gen.errors import CompileError
from samoyeds_gen.kernel import build_variant

# Registers between an estimate and those there are, from which a kernel may spill. ptxas moves more
# out of the loop over tiles where there is one warpgroup, and has spilled 16 bytes 104 below.
NEAR = {1: 128, 2: 32, 3: 32, 4: 32}
SUBJECTS = drawn_subjects("ssmm_sm90")
# Shrinking compiles a kernel a step; the check, whose report is smaller, is for that.
DRAWN = settings(max_examples=25, phases=(Phase.generate,))


def require_agreement(subject, cases):
    """Build; no spills, stack or advice; exact on integers, within the bound on reals.

    A kernel whose estimate comes near the registers there are may spill, and is then refused.
    """
    g = derive_geometry(subject.schedule, subject.problem)
    try:
        variant = build_variant(subject.schedule, subject.problem, subject.target)
    except CompileError as error:
        if error.rule == "no-spills" and g.consumer_registers - g.registers <= NEAR[g.consumers]:
            return
        raise
    report = variant.build.report
    assert (report.spills, report.stack, report.advice) == (False, 0, ()), str(report)
    assert "warning" not in variant.build.log
    for case in cases(Scope.of(variant.plan)):
        finding, _ = try_case(variant, case)
        assert finding is None, f"{subject}\n{subject.schedule}\n{case}\n{finding}"


def every_corner(scope):
    """The corners of what the kernel takes: one weight, or several experts'."""
    return grouped_corners(scope) if scope.unit else corners(scope)


def several_tiles(scope):
    """A case of several tiles, more than CTAs if they are persistent; sums are small integers."""
    if scope.unit:
        return tuple(each for each in grouped_corners(scope) if each.values == "integers")[:2]
    case = next(each for each in corners(scope) if each.m > scope.tile[0] * max(scope.ctas, 1))
    assert case.values == "integers"
    return (case,)


@given(subject=SUBJECTS)
@DRAWN
def test_drawn_kernels_agree_with_the_reference(subject):
    require_agreement(subject, several_tiles)


@pytest.mark.full
@given(subject=SUBJECTS)
@settings(DRAWN, max_examples=40)
def test_drawn_kernels_agree_at_every_corner(subject):
    require_agreement(subject, every_corner)
