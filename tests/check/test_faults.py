"""Every seeded fault makes the check fail, under the right name and with the place of the error."""

import pytest
from faults import FAULTS, SUBJECTS, UNWRITTEN, VALUE, Fault, faulty
from stream_faults import STREAM_FAULTS, STREAM_SUBJECTS, TICKET

from samoyeds_gen.check import Failure, Subject
from samoyeds_gen.check.search import search
from samoyeds_gen.check.trial import OVERWRITTEN

EXAMPLES = 24
SHRINKS = 25
STREAM_SHRINKS = 5  # enough to name a place
EVERY_SUBJECT = SUBJECTS | STREAM_SUBJECTS
EVERY_FAULT = (*FAULTS, *STREAM_FAULTS)


@pytest.mark.parametrize("name", EVERY_SUBJECT)
def test_unedited_kernels_pass(name):
    subject = EVERY_SUBJECT[name]
    outcome = search(faulty(None, subject), examples=EXAMPLES)
    assert outcome.found is None, str(Failure(subject, "cpu", *outcome.found))
    assert outcome.examples == EXAMPLES


@pytest.mark.parametrize("fault", EVERY_FAULT, ids=lambda fault: fault.name.replace(" ", "-"))
def test_fault_is_found(fault: Fault):
    shrinks = SHRINKS if fault.subject in SUBJECTS else STREAM_SHRINKS
    require_found(fault, EVERY_SUBJECT[fault.subject], shrinks)


def require_found(fault: Fault, subject: Subject, shrinks: int) -> None:
    """The check finds the fault, calls it by a kind that fits, and says where."""
    outcome = search(faulty(fault, subject), examples=EXAMPLES, shrinks=shrinks)
    assert outcome.found is not None, f"{fault.name} was not noticed"
    failure = Failure(subject, "cpu", *outcome.found)
    assert failure.kind in fault.kinds, str(failure)
    text = str(failure)
    assert text.startswith(f"{failure.kind} on the simulator: ")
    if failure.kind in (VALUE, UNWRITTEN):
        assert f"feature {failure.finding.origin.feature}: sub-row " in text
        assert f" of group {failure.finding.origin.group} " in text
        assert f"token {failure.finding.origin.token}" in text
        assert ", expected " in text.splitlines()[0]
    elif failure.kind not in (TICKET, OVERWRITTEN):
        assert "PTX line" in text.splitlines()[0]


def test_faults_have_distinct_names():
    names = [fault.name for fault in EVERY_FAULT]
    assert len(set(names)) == len(names) >= 24
