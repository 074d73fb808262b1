"""Reports: text that names places, JSON that any reader takes, counters that add up."""

import json
from collections import Counter

import pytest
from faults import SUBJECTS
from hypothesis import given
from hypothesis import strategies as st

from samoyeds_gen.check import Case, CheckReport, Failure, Finding, KernelReport, Origin
from samoyeds_gen.check.failure import origin_text
from samoyeds_gen.check.tally import Tally
from samoyeds_gen.simulator import Counters, Report

SUBJECT = SUBJECTS["exchange"]
ORIGIN = Origin(3, 17, 8, 1, (8, None, 8, 8, None, 8), 5)
WRONG = Finding(
    "wrong value", "out[3, 17] is nan, expected 2", ORIGIN, 2.0, float("nan"), 0.5, 4, 9
)
FAILURE = Failure(SUBJECT, "cpu", Case(18, 130, 6, 4), WRONG)


def report(*kernels):
    return CheckReport("mine.py", "default", {"cpu": "simulator"}, kernels, Tally(), 1.25)


def kernel(failure=None, device="cpu"):
    return KernelReport(SUBJECT, device, 7, 0.5, 99, 1024, failure)


def test_a_wrong_value_names_element_group_sub_row_and_token():
    lines = str(FAILURE).splitlines()
    assert lines[:4] == [
        "wrong value on the simulator: out[3, 17] is nan, expected 2 (4 of 9 elements)",
        "  feature 17: sub-row 1 of group 8 (features 16..17), stored row 8 in V-blocks 0, 2..3, 5",
        "  token 5, selection[3]",
        "  kernel ssmm_sm80 1_2_32_bf16_sel32_bias_scale exchange sm_80; m=18, k=130, n=4",
    ]
    assert "print(got[3, 17], expected[3, 17])" in lines[-1]


def test_a_row_that_is_never_kept_says_so():
    never = Origin(0, 1, 0, 1, (None, None), 0)
    assert origin_text(SUBJECT, never)[0].endswith("kept in no V-block")


@given(st.lists(st.booleans(), max_size=12))
def test_spans_name_exactly_the_blocks_that_keep_the_row(kept):
    origin = Origin(0, 0, 0, 0, tuple(0 if each else None for each in kept), 0)
    text = origin_text(SUBJECT, origin)[0]
    if not any(kept):
        assert text.endswith("kept in no V-block")
        return
    blocks = set()
    for span in text.partition("V-blocks ")[2].split(", "):
        first, _, last = span.partition("..")
        blocks |= set(range(int(first), int(last or first) + 1))
    assert blocks == {number for number, each in enumerate(kept) if each}


def test_json_has_no_bare_nan():
    text = report(kernel(FAILURE)).to_json()
    data = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    failure = data["failures"][0]
    assert failure["finding"]["got"] == "nan"
    assert failure["finding"]["origin"]["group"] == 8
    assert failure["case"]["m"] == 18
    assert failure["snippet"] == FAILURE.snippet
    assert data["passed"] is False


def test_text_sums_up_devices_and_failures():
    passed = report(kernel())
    assert str(passed) == "mine.py: 1 kernels, 1.2 s, passed\n  cpu: simulator, 7 examples"
    failed = report(kernel(), kernel(FAILURE))
    assert (failed.passed, failed.failures) == (False, (FAILURE,))
    assert "1 failed" in str(failed)
    assert str(FAILURE) in str(failed)


def test_examples_are_counted_by_device():
    both = report(kernel(), kernel(device="gpu"), kernel())
    assert both.examples == {"cpu": 14, "gpu": 7}


def test_a_kernel_that_does_not_compile_has_no_snippet():
    failure = Failure(SUBJECT, "cpu", None, Finding("not compiled", "a.cu:3: no"))
    assert failure.snippet is None
    assert str(failure).splitlines()[0] == "not compiled on the simulator: a.cu:3: no"
    assert json.loads(report(kernel(failure)).to_json())["failures"][0]["case"] is None


def counted(number):
    counters = Counters(
        opcodes=Counter({"mma.sp": number}),
        shared_wavefronts={"ldmatrix": (2 * number, number)},
        global_sectors=Counter({"st.global": number}),
        global_requests=Counter({"st.global": 1}),
        barriers=number,
        instructions=number,
    )
    return Report(counters, 1)


def test_tallies_add_up_in_any_grouping():
    whole, left, right = Tally(), Tally(), Tally()
    for number in (3, 5, 8):
        whole.add(counted(number))
    left.add(counted(3))
    right.add(counted(5))
    right.add(counted(8))
    left.merge(right)
    assert left == whole
    assert whole.as_dict() == {
        "runs": 3,
        "instructions": 16,
        "barriers": 16,
        "opcodes": {"mma.sp": 16},
        "shared_wavefronts": {"ldmatrix": [32, 16]},
        "global_sectors": {"st.global": 16},
        "global_requests": {"st.global": 3},
    }
