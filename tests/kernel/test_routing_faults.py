"""Every seeded fault of a routing kernel is noticed, and comes to what it should."""

import pytest
from routing_faults import (
    COMBINE_FAULTS,
    EARLY_COMBINE_FAULTS,
    EARLY_FAULTS,
    FAULTS,
    SORT_FAULTS,
    SUBJECTS,
    outcome_of_combine,
    outcome_of_route,
    outcome_of_sort,
)

ONE_CTA = 256


def alone(fault):
    return ONE_CTA if fault.step in ("route", "sort") else 0


def name_of(fault):
    return fault.name.replace(" ", "-")


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("tokens", [ONE_CTA, 0])
def test_unedited_kernels_pass(subject, tokens):
    assert outcome_of_route(None, subject, tokens) is None
    assert outcome_of_sort(None, subject, tokens) is None


def test_an_unedited_combination_passes():
    assert outcome_of_combine(None) is None


@pytest.mark.parametrize("tokens", [ONE_CTA, 0])
def test_kernels_that_begin_early_pass(tokens):
    assert outcome_of_route(None, "softmax", tokens, early=True) is None
    assert outcome_of_combine(None, early=True) is None


@pytest.mark.parametrize("fault", EARLY_FAULTS, ids=name_of)
def test_a_fault_of_a_kernel_that_begins_early_is_found(fault):
    assert outcome_of_route(fault, fault.subject, alone(fault), early=True) in fault.kinds


@pytest.mark.parametrize("fault", EARLY_COMBINE_FAULTS, ids=name_of)
def test_a_fault_of_a_combination_that_begins_early_is_found(fault):
    assert outcome_of_combine(fault, early=True) in fault.kinds


@pytest.mark.parametrize("fault", FAULTS, ids=name_of)
def test_a_fault_of_routing_is_found(fault):
    assert outcome_of_route(fault, fault.subject, alone(fault)) in fault.kinds


@pytest.mark.parametrize("fault", SORT_FAULTS, ids=name_of)
def test_a_fault_of_sorting_is_found(fault):
    assert outcome_of_sort(fault, fault.subject, alone(fault)) in fault.kinds


@pytest.mark.parametrize("fault", COMBINE_FAULTS, ids=name_of)
def test_a_fault_of_combining_is_found(fault):
    assert outcome_of_combine(fault) in fault.kinds


def test_faults_have_distinct_names():
    names = [each.name for each in (*FAULTS, *SORT_FAULTS, *COMBINE_FAULTS)]
    assert len(names) > 60
    for faults in (FAULTS, SORT_FAULTS, COMBINE_FAULTS):
        assert len({each.name for each in faults}) == len(faults)
