"""Every seeded fault makes the check fail, under the right name and with the place of the error."""

import pytest
from faults import FAULTS, SUBJECTS, VALUE, Fault, faulty

from samoyeds_gen.check.tally import Tally
from samoyeds_gen.check.work import check_kernel

EXAMPLES = 40


@pytest.mark.parametrize("name", SUBJECTS)
def test_unedited_kernels_pass(name):
    subject = SUBJECTS[name]
    report = check_kernel(subject, faulty(None, subject), EXAMPLES, "cpu", 0, Tally())
    assert report.failure is None, str(report.failure)
    assert report.examples == EXAMPLES


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_fault_is_found(fault: Fault):
    subject = SUBJECTS[fault.subject]
    report = check_kernel(subject, faulty(fault, subject), EXAMPLES, "cpu", 0, Tally())
    assert report.failure is not None, f"{fault.name} was not noticed"
    assert report.failure.kind in fault.kinds, str(report.failure)
    text = str(report.failure)
    assert text.startswith(f"{report.failure.kind} on the simulator: ")
    if report.failure.kind == VALUE:
        assert " is " in text.splitlines()[0]
        assert "expected" in text.splitlines()[0]
        assert "sub-row" in text
        assert "of group" in text
        assert "token" in text


def test_faults_have_distinct_names():
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names) >= 12
