"""The emitted text of routing kernels, under the laws of all emitted text."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_cases import drawn_routings

from samoyeds_gen.compiler import (
    Combine,
    Step,
    emit_routing,
    lower_combine,
    lower_step,
    print_routing_plan,
)
from samoyeds_gen.errors import ScheduleError
from samoyeds_gen.language import TARGETS, Routing, Target, target_named
from samoyeds_gen.language.dtypes import OUTPUT_TYPES
from samoyeds_gen.runtime import compile_source, require_clean

LONGEST_LINE = 110
KINDS = ("route", "choose", "sort", "count", "place")
SM80 = target_named("sm_80")
steps = (
    st.builds(
        Step, drawn_routings(most=512), st.sampled_from(KINDS), st.sampled_from(OUTPUT_TYPES),
        st.sampled_from(["int32", "int64"]), st.sampled_from([None, *OUTPUT_TYPES]),
    )
    .filter(lambda step: not step.gate or (step.routing.shared and not step.counts))
    .map(lambda step: lower_step(step, SM80))
)  # fmt: skip
combines = st.builds(
    Combine, st.integers(1, 40), st.sampled_from(OUTPUT_TYPES), st.sampled_from([1, 2, 4])
).map(lambda problem: lower_combine(problem, SM80))
plans = st.one_of(steps, combines)


@settings(max_examples=120)
@given(plans)
def test_text_obeys_the_laws_of_emitted_text(plan):
    text = emit_routing(plan)
    assert text.isascii()
    assert text.endswith("}\n")
    for mark in ("\t", "{{", "}}", "<%", "%>", "//%", "//#", "\r", "\n\n\n"):
        assert mark not in text, repr(mark)
    for word in ("#include", "template<", "template <", "if constexpr", "#if", "None", "True"):
        assert word not in text, word
    for line in text.splitlines():
        assert line == line.rstrip()
        assert len(line) <= LONGEST_LINE, line
    assert text.count("__global__") == 1
    assert plan.entry in text
    head = text.split("\n\n")[0]
    assert f"Generated from templates/{plan.template}" in head
    code = re.sub(r"//.*", "", text)
    assert code.count("{") == code.count("}")
    assert code.count("(") == code.count(")")


@settings(max_examples=120)
@given(plans)
def test_everything_named_is_used(plan):
    text = emit_routing(plan)
    names = re.findall(r"^constexpr int (k\w+) = -?\d+;  // \S", text, re.MULTILINE)
    assert len(names) == len(set(names)) == text.count("constexpr int ")
    code = re.sub(r"//.*", "", text)
    functions = re.findall(r"__forceinline__ \w+ (\w+)\(", code)
    types = [each.name for each in plan.types]
    for name in (*names, *functions, *types, *(each.name for each in plan.parameters)):
        assert len(re.findall(rf"\b{name}\b", code)) >= 2, name


@settings(max_examples=60)
@given(steps)
def test_the_order_of_atomics_does_not_matter(plan):
    """Whole numbers are added, bits are set, and nobody asks what was there before."""
    text = emit_routing(plan)
    used = re.findall(r"^.*\batomic\w+\(.*$", text, re.MULTILINE)
    assert used
    for line in used:
        assert re.match(r" +atomic(Or|Add)\(", line), line


@settings(max_examples=60)
@given(plans)
def test_the_plan_prints_everything(plan):
    printed = print_routing_plan(plan)
    assert printed.isascii()
    for each in (*plan.parameters, *(c for group in plan.constants for c in group.constants)):
        assert f" {each.name} " in printed
    assert all(each.text in printed for each in (*plan.sections, *plan.functions))


@settings(max_examples=60)
@given(drawn_routings(most=512), st.sampled_from(KINDS), st.sampled_from([None, *OUTPUT_TYPES]))
def test_entries_tell_kernels_apart(routing, kind, gate):
    """Two steps of one name have one text, apart from what the name leaves out on purpose."""
    step = Step(routing, kind, OUTPUT_TYPES[0], gate=gate)
    assert re.fullmatch(r"[a-z]\w+", step.entry)
    other = Step(routing, kind, OUTPUT_TYPES[1], gate=gate)
    assert (step.entry == other.entry) == (kind == "place")
    entries = {Step(routing, kind, gate=each).entry for each in (None, *OUTPUT_TYPES)}
    assert len(entries) == 1 + len(OUTPUT_TYPES)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_kernels_are_clean_on_every_target(target):
    """No spills, not even where lanes have the most experts and formulas the most steps."""
    widest = Routing(
        512, 16, "softmax_topk", False, bias=True, groups=4, top_groups=2, group_score="top2_sum"
    )
    deepseek = Routing(
        256, 8, "sigmoid_grouped", True, scaling=2.5, groups=8, top_groups=4, bias=True, shared=1
    )
    chosen = [lower_step(Step(widest, kind), target) for kind in ("route", "choose")]
    chosen += [lower_step(Step(deepseek, kind), target) for kind in ("route", "place")]
    for plan in (*chosen, lower_combine(Combine(9, OUTPUT_TYPES[0], 8), target)):
        build = compile_source(emit_routing(plan), name=plan.source_name, target=target.name)
        require_clean(build.report)
        assert build.report.registers * plan.threads <= target.registers_per_sm


def test_too_little_shared_memory_is_refused():
    small = Target("sm_80", 80, 4096, 4096, 2048)
    with pytest.raises(ScheduleError, match="needs 51200 bytes of shared memory, sm_80 has 4096"):
        lower_step(Step(Routing(512, 16, "softmax_topk", True), "route"), small)
