"""`pytest -m gpu`: the same property engine on silicon."""

import pytest

from samoyeds_gen.assets import asset_directory
from samoyeds_gen.check import check_schedule
from samoyeds_gen.check.work import Drawn
from samoyeds_gen.runtime import device_target, driver_present, driver_problem

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not driver_present(), reason=str(driver_problem())),
]
SHIPPED = sorted(path.stem for path in asset_directory("schedules").glob("*.py"))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_schedules_pass_their_check(name):
    report = check_schedule(name, device="gpu", examples=480)
    assert report.passed, str(report)
    assert report.examples["gpu"] == 480


def test_auto_reports_both_devices():
    report = check_schedule("ssmm_sm80", examples=24)
    assert report.passed, str(report)
    assert set(report.examples) == set(report.devices) == {"cpu", "gpu"}


@pytest.mark.parametrize("seed", range(4))
def test_drawn_kernels_agree_with_the_reference(seed):
    work = Drawn(
        "ssmm_sm80", kernels=20, examples=40, device="gpu", seed=seed, target=device_target()
    )
    failures = [each.failure for each in work.run().kernels if each.failure is not None]
    assert not failures, "\n\n".join(map(str, failures))
