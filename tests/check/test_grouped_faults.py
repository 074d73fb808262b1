"""Every seeded fault of a grouped kernel makes the check fail, with kind and place."""

import pytest
from faults import faulty
from grouped_faults import FAULTS, MORE_FAULTS, SUBJECTS, Fault
from test_faults import require_found

from samoyeds_gen.check import Failure
from samoyeds_gen.check.search import search

EXAMPLES = 16


@pytest.mark.parametrize("name", SUBJECTS)
def test_unedited_kernels_pass(name):
    subject = SUBJECTS[name]
    outcome = search(faulty(None, subject), examples=EXAMPLES)
    assert outcome.found is None, str(Failure(subject, "cpu", *outcome.found))
    assert outcome.examples == EXAMPLES


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_fault_is_found(fault: Fault):
    require_found(fault, SUBJECTS[fault.subject], shrinks=2)


@pytest.mark.full
@pytest.mark.parametrize("fault", MORE_FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_other_fault_is_found(fault: Fault):
    require_found(fault, SUBJECTS[fault.subject], shrinks=2)


def test_faults_have_distinct_names():
    names = [fault.name for fault in (*FAULTS, *MORE_FAULTS)]
    assert len(set(names)) == len(names)
    assert len(FAULTS) >= 20
    assert len(names) >= 75
