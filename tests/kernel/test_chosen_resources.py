"""Every schedule that compile may choose on Hopper builds: no spills, no stack, no ptxas advice.

Those of the shipped tuning table, and the candidates for layers of experts.
"""

import pytest

from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import build_variant
from samoyeds_gen.language import make_ssmm, target_named
from samoyeds_gen.tune.experts import ExpertTask, expert_schedules
from samoyeds_gen.tune.machines import machine_named
from samoyeds_gen.tune.tables import read_table, shipped_tables

HOPPER = target_named("sm_90a")
LAYERS = (
    {"gated": True, "activation": "silu", "index": "int32"},
    {"gated": True, "activation": "gelu"},
    {"scale": True},
)


def tuned():
    for path in shipped_tables():
        for record in read_table(path.read_text(), path.name):
            if record.schedule is not None and record.schedule.target == HOPPER.name:
                format = Format(*map(int, record.format.split(",")))
                yield record.schedule, make_ssmm(format, record.dtype)


def for_experts():
    for format in (Format(1, 2, 128), Format(1, 2, 64), Format(1, 1, 32)):
        for layer in LAYERS:
            problem = make_ssmm(format, "bfloat16", grouped=True, **layer)
            for tokens in (16, 128, 4096):
                task = ExpertTask(2816, 2048, experts=60, top=4, tokens=tokens)
                for schedule in expert_schedules(task, problem, machine_named("H200")):
                    yield schedule, problem


def named(pairs):
    different = {f"{each[0].name} {each[1].suffix}": each for each in pairs}
    return [pytest.param(*pair, id=name) for name, pair in different.items()]


@pytest.mark.full
@pytest.mark.product
@pytest.mark.parametrize(("schedule", "problem"), named([*tuned(), *for_experts()]))
def test_what_may_be_chosen_builds(schedule, problem):
    report = build_variant(schedule, problem, HOPPER).build.report
    assert (report.spills, report.stack, report.advice) == (False, 0, ()), str(report)
