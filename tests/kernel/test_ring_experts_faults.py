"""Every seeded fault of a grouped ring kernel is noticed, and comes to what it should."""

import pytest
from ring_experts_faults import FAULTS, SUBJECTS, faulty, kernel_of, outcome


@pytest.mark.parametrize("subject", SUBJECTS)
def test_unedited_kernels_pass(subject):
    assert outcome(kernel_of(subject)) is None


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.name.replace(" ", "-"))
def test_a_fault_is_found(fault):
    assert outcome(faulty(fault)) in fault.kinds


def test_faults_have_distinct_names():
    assert len({each.name for each in FAULTS}) == len(FAULTS) > 40
