"""The emitted text: one readable concrete kernel, the same every time, quickly."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samoyeds_gen.check.work import drawn_subjects
from samoyeds_gen.compiler import compile_plan, emit, print_plan
from samoyeds_gen.formats import Format
from samoyeds_gen.language import load_schedule, make_ssmm

LONGEST_LINE = 110
MOST_SECONDS = 0.05
NAMES = ["ssmm_sm80", "decode_sm80", "ssmm_sm90"]
texts = st.one_of(map(drawn_subjects, NAMES)).map(
    lambda subject: compile_plan(subject.schedule, subject.problem, subject.target)
)
EXAMPLES = settings(max_examples=60)
FORMATS = [Format(1, 1, 64), Format(1, 2, 16), Format(1, 2, 128), Format(4, 8, 32)]


def plan_of(format, name, **problem):
    made = make_ssmm(format, "bfloat16", **problem)
    return compile_plan(load_schedule(name, format, made.dtype), made)


@given(texts)
@EXAMPLES
def test_text_is_plain_and_narrow(plan):
    text = emit(plan)
    assert text.isascii()
    assert text.endswith("}\n")
    for mark in ("\t", "{{", "}}", "<%", "%>", "//%", "//#", "\r", "\n\n\n"):
        assert mark not in text, repr(mark)
    for line in text.splitlines():
        assert line == line.rstrip()
        assert len(line) <= LONGEST_LINE, line


@given(texts)
@EXAMPLES
def test_one_concrete_kernel(plan):
    text = emit(plan)
    assert text.count("__global__") == 1
    assert plan.entry in text
    # An include or a C++ template would hide code that is not in the file; the last two words are
    # what a template prints for something left open or a value that was never set.
    for word in ("#include", "template<", "template <", "if constexpr", "#if", "TODO", "None"):
        assert word not in text, word


@given(texts)
@EXAMPLES
def test_every_constant_is_named_once_explained_and_used(plan):
    text = emit(plan)
    names = re.findall(r"^constexpr int (k\w+) = -?\d+;  // \S", text, re.MULTILINE)
    assert len(names) == len(set(names)) == text.count("constexpr int ")
    for group in plan.constants:
        for constant in group.constants:
            assert f"constexpr int {constant.name} = {constant.value};" in text
    code = re.sub(r"//.*", "", text)
    unused = [name for name in names if len(re.findall(rf"\b{name}\b", code)) < 2]
    assert not unused


@given(texts)
@EXAMPLES
def test_every_function_and_parameter_is_used(plan):
    code = re.sub(r"//.*", "", emit(plan))
    functions = re.findall(r"__forceinline__ \w+ (\w+)\(", code)
    for name in [*functions, *(each.name for each in plan.parameters)]:
        assert len(re.findall(rf"\b{name}\b", code)) >= 2, name


@given(texts)
@EXAMPLES
def test_static_asserts_speak(plan):
    asserts = re.findall(r'static_assert\(.*?, "([^"]+)"\);', emit(plan))
    assert len(asserts) >= 8
    assert all(" " in sentence for sentence in asserts)


@given(texts)
@EXAMPLES
def test_braces_and_comments_balance(plan):
    code = re.sub(r"//.*", "", emit(plan))
    assert code.count("{") == code.count("}")
    assert code.count("(") == code.count(")")


@given(texts)
@EXAMPLES
def test_the_header_names_sources_and_digest_but_no_machine(plan):
    head = emit(plan).split("\n\n")[0]
    assert f"Generated from schedules/{plan.schedule.name}.py and templates/" in head
    assert "samoyeds-gen emit" in head
    assert plan.schedule.digest in head
    assert not re.search(r"/\w+/\w+/|20\d\d-", head)


@given(texts)
@EXAMPLES
def test_the_plan_prints_every_operation_in_order(plan):
    printed = print_plan(plan)
    assert printed.isascii()
    at = -1
    for op in (*plan.setup, *plan.prologue, *plan.loop, *plan.epilogue):
        following = printed.find(op.text, at + 1)
        assert following > at, op.text
        at = following
    for buffer in plan.buffers:
        assert f"buffer {buffer.name} " in printed
    for parameter in plan.parameters:
        assert parameter.name in printed


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_emission_takes_less_than_fifty_milliseconds(format, name):
    plan_and_text = []
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        plan = plan_of(format, name, index="int64", bias=True, scale=True, activation="silu")
        plan_and_text.append((plan, emit(plan)))
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < MOST_SECONDS
    assert len(set(plan_and_text)) == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_options_appear_only_when_asked_for(format, name):
    plain, full = (
        emit(plan_of(format, name, **options))
        for options in (
            {},
            {"index": "int32", "bias": True, "scale": True, "activation": "gelu"},
        )
    )
    for word in ("selection", "bias", "scale", "activate"):
        assert not re.search(rf"\b{word}\b", plain), word
        assert re.search(rf"\b{word}\b", full), word
