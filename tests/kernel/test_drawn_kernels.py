"""The main property: what the emitted PTX computes is what the reference computes.

Schedules, formats, types, epilogues and targets are drawn, and problems for each of them. The same
property on more examples is `samoyeds-gen check ssmm_sm80 --profile nightly`.
"""

import pytest

from samoyeds_gen.assets import asset_directory
from samoyeds_gen.check import check_schedule
from samoyeds_gen.check.work import Drawn

SHIPPED = sorted(path.stem for path in asset_directory("schedules").glob("*.py"))


@pytest.mark.parametrize("seed", range(6))
def test_drawn_kernels_agree_with_the_reference(seed):
    result = Drawn("ssmm_sm80", kernels=5, examples=12, device="cpu", seed=1000 * seed).run()
    failures = [kernel.failure for kernel in result.kernels if kernel.failure is not None]
    assert not failures, "\n\n".join(map(str, failures))
    assert result.counters.runs >= 5 * 12


@pytest.mark.parametrize("seed", range(2))
def test_drawn_streams_agree_with_the_reference(seed):
    result = Drawn("decode_sm80", kernels=5, examples=12, device="cpu", seed=1000 * seed).run()
    failures = [kernel.failure for kernel in result.kernels if kernel.failure is not None]
    assert not failures, "\n\n".join(map(str, failures))
    assert result.counters.runs >= 4 * 12


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_schedules_pass_a_short_check(name):
    report = check_schedule(name, device="cpu", examples=12 if name == "ssmm_sm80" else 4)
    assert report.passed, str(report)
    assert report.kernels
