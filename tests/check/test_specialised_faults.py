"""Every seeded fault of the warp-specialised pipeline makes the check fail, with kind and place.

Of its products with one weight (hopper_faults.py), whose values may go past shared memory
(fragment_faults.py), whose warpgroups may have two matrices (matrices_faults.py), and with those of
several experts.
"""

import fragment_faults
import grouped_faults
import hopper_faults
import matrices_faults
import pytest
from faults import faulty
from test_faults import require_found

from samoyeds_gen.check import Failure
from samoyeds_gen.check.search import search

TABLES = (hopper_faults, fragment_faults, matrices_faults, grouped_faults)
EXAMPLES = dict(zip(TABLES, (24, 24, 24, 16), strict=True))
LEAST = dict(zip(TABLES, (24, 10, 10, 20), strict=True))  # faults of the default tests
EVERY = dict(zip(TABLES, (75, 14, 13, 75), strict=True))
SUBJECTS = [(table, name) for table in TABLES for name in table.SUBJECTS]


def of_tables(which):
    """Faults with the kernels they are of."""
    return [
        pytest.param(fault, table.SUBJECTS[fault.subject], id=fault.name.replace(" ", "-"))
        for table in TABLES
        for fault in getattr(table, which)
    ]


@pytest.mark.parametrize(("table", "name"), SUBJECTS, ids=[name for _, name in SUBJECTS])
def test_unedited_kernels_pass(table, name):
    subject = table.SUBJECTS[name]
    outcome = search(faulty(None, subject), examples=EXAMPLES[table])
    assert outcome.found is None, str(Failure(subject, "cpu", *outcome.found))
    assert outcome.examples == EXAMPLES[table]


@pytest.mark.parametrize(("fault", "subject"), of_tables("FAULTS"))
def test_fault_is_found(fault, subject):
    require_found(fault, subject, shrinks=2)


@pytest.mark.full
@pytest.mark.parametrize(("fault", "subject"), of_tables("MORE_FAULTS"))
def test_other_fault_is_found(fault, subject):
    require_found(fault, subject, shrinks=2)


@pytest.mark.parametrize("table", TABLES, ids=["hopper", "fragments", "matrices", "grouped"])
def test_faults_have_distinct_names(table):
    names = [fault.name for fault in (*table.FAULTS, *table.MORE_FAULTS)]
    assert len(set(names)) == len(names) >= EVERY[table]
    assert len(table.FAULTS) >= LEAST[table]
