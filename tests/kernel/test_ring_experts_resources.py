"""What ptxas makes of grouped ring kernels: nothing spills, on any GPU that has no wgmma."""

import pytest

from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import grouped_kernel
from samoyeds_gen.language import load_schedule, make_ssmm, target_named
from samoyeds_gen.tune.experts import ExpertTask, expert_schedules
from samoyeds_gen.tune.machines import machine_named

GATE = {"index": "int32", "activation": "silu", "gated": True}
DOWN = {"scale": True}
PLAIN = {"index": "int64", "activation": "gelu", "bias": True, "scale": True}
SHIPPED = [
    ("ssmm_sm80_prefix", Format(1, 2, 128), GATE, "sm_80"),
    ("ssmm_sm80_prefix", Format(1, 4, 32), GATE, "sm_89"),
    ("ssmm_sm80_prefix", Format(1, 2, 32), PLAIN, "sm_86"),
    ("ssmm_sm80_expand", Format(2, 4, 32), GATE, "sm_86"),
    ("ssmm_sm80_expand", Format(4, 8, 16), PLAIN, "sm_80"),
    ("ssmm_sm80_expand", Format(1, 1, 64), GATE, "sm_89"),
    ("ssmm_sm80", Format(1, 2, 64), GATE, "sm_86"),
    ("ssmm_sm80_exchange", Format(1, 2, 128), GATE, "sm_89"),
]
CHOSEN = [
    ("A100", Format(1, 2, 128), GATE, 4096),
    ("A100", Format(2, 4, 32), GATE, 1024),
    ("A100", Format(1, 2, 64), DOWN, 16),
    ("3090", Format(1, 2, 128), GATE, 1024),
    ("3090", Format(1, 1, 32), DOWN, 4096),
    ("L40S", Format(1, 2, 128), DOWN, 4096),
    ("L40S", Format(1, 4, 32), GATE, 128),
]


def require_lean(schedule, problem, target):
    report = grouped_kernel(schedule, problem, target).variant.build.report
    assert (report.spill_stores, report.spill_loads, report.stack) == (0, 0, 0), str(report)
    assert report.advice == ()
    assert report.static_shared == 0, "experts are counted in registers"
    assert report.registers <= target.registers_per_thread
    promised = schedule.resident.ctas * schedule.warps.threads * report.registers
    assert promised <= target.registers_per_sm


@pytest.mark.parametrize(("name", "form", "options", "target"), SHIPPED)
def test_shipped_schedules_take_experts(name, form, options, target):
    problem = make_ssmm(form, "bf16", grouped=True, **options)
    require_lean(load_schedule(name, form, problem.dtype), problem, target_named(target))


@pytest.mark.parametrize(("name", "form", "options", "tokens"), CHOSEN)
def test_the_first_choice_needs_no_second(name, form, options, tokens):
    problem, machine = make_ssmm(form, "bf16", grouped=True, **options), machine_named(name)
    task = ExpertTask(m=14336, k=4096, experts=8, top=2, tokens=tokens)
    best = expert_schedules(task, problem, machine)[0]
    require_lean(best, problem, target_named(machine.target))
