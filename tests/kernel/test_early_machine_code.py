"""Machine code of kernels that begin early: nothing global is read or written before they wait."""

import re
from dataclasses import replace

import pytest
from machine_code import needs_disassembler

from samoyeds_gen.compiler import Combine, Step, lower_combine, lower_step
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import build_variant
from samoyeds_gen.kernel.routing_steps import built_of
from samoyeds_gen.language import Routing, load_schedule, make_ssmm, target_named
from samoyeds_gen.language.dtypes import BFLOAT16
from samoyeds_gen.language.schedule import Launch
from samoyeds_gen.runtime import disassemble

ROUTING = Routing(64, 4, "softmax_topk", True)
WAIT, BEGIN = r"\bACQBULK\b", r"\bPREEXIT\b"
ACCESS = r"\b(LDG|STG|LDGSTS|ATOMG|REDG?|UTMALDG|UTMASTG|UBLKCP)\b"  # loads, stores, copies by TMA


def first(pattern, lines):
    """The place of the first line that has the pattern; -1 where none has."""
    return next((i for i, line in enumerate(lines) if re.search(pattern, line)), -1)


def order_of(text):
    """Where launches behind are let begin, where the kernel waits, and where it reads or writes."""
    lines = text.splitlines()
    return tuple(first(each, lines) for each in (BEGIN, WAIT, ACCESS))


@needs_disassembler
@pytest.mark.parametrize("format", [Format(1, 2, 64), Format(4, 8, 32), Format(1, 1, 32)], ids=str)
@pytest.mark.parametrize("name", ["decode_sm80", "ssmm_sm90"])
def test_nothing_stands_before_the_wait(name, format):
    """A compiler may move loads of memory that it takes for constant."""
    problem = make_ssmm(format, "bfloat16", bias=True)
    schedule = load_schedule(name, format, problem.dtype)
    schedule = replace(schedule, launch=Launch(True, prefetch=name == "decode_sm80"))
    built = build_variant(schedule, problem, target_named("sm_90a"))
    begin, wait, access = order_of(disassemble(built.build.cubin))
    assert -1 < begin < wait < access


@needs_disassembler
@pytest.mark.parametrize("gated", [False, True])
def test_experts_wait_before_they_count_tiles(gated):
    activation = "silu" if gated else None
    index = "int32" if gated else None
    problem = make_ssmm(
        Format(1, 2, 64), "bfloat16", grouped=True, gated=gated, activation=activation, index=index
    )
    base = load_schedule("experts_sm90", problem.format, problem.dtype)
    built = build_variant(replace(base, launch=Launch(True)), problem, target_named("sm_90a"))
    begin, wait, access = order_of(disassemble(built.build.cubin))
    assert -1 < begin < wait < access


@needs_disassembler
@pytest.mark.parametrize(
    "problem",
    [
        *(
            Step(ROUTING, kind, early=True)
            for kind in ("route", "choose", "sort", "count", "place")
        ),
        *(Combine(4, BFLOAT16, 8, weighted, early=True) for weighted in (False, True)),
    ],
    ids=lambda problem: problem.entry,
)
def test_routing_kernels_wait_before_they_read(problem):
    lower = lower_step if isinstance(problem, Step) else lower_combine
    built = built_of(lower(problem, target_named("sm_90a")))
    begin, wait, access = order_of(disassemble(built.build.cubin))
    assert -1 < begin < wait < access


def test_an_access_before_the_wait_is_seen():
    late = "PREEXIT ;\n@P0 ACQBULK ;\nLDG.E.64 R2, [R2] ;\n"
    assert order_of(late) == (0, 1, 2)
    assert order_of("LDG.E R2, [R4] ;\n" + late) == (1, 2, 0)
    assert order_of("MOV R1, R2 ;\n") == (-1, -1, -1)
