"""What compile chooses for shapes that were never tuned, beside the best of a search. Minutes."""

from functools import partial

import pytest

import samoyeds_gen as sg
from samoyeds_gen.formats import Format
from samoyeds_gen.language import make_ssmm, target_named
from samoyeds_gen.runtime import device_info, driver_present, driver_problem

torch = pytest.importorskip("torch", reason="buffers and checks are torch's")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.full,
    pytest.mark.skipif(not driver_present(), reason=driver_problem() or "no GPU"),
    pytest.mark.timeout(600),
]

FORM = Format(1, 2, 128)
UNTUNED = (
    (11008, 4096, 2048),
    (4096, 11008, 3000),
    (6144, 6144, 6144),
    (2560, 9728, 1024),
    (28672, 8192, 512),
    (3584, 18944, 4096),
    (12288, 4096, 20),
    (5120, 13824, 48),
    (7168, 2048, 100),
    (4096, 4096, 200),
)


@pytest.mark.parametrize("shape", UNTUNED, ids=lambda shape: "x".join(map(str, shape)))
def test_the_choice_is_close_to_the_best_found(shape):
    from samoyeds_gen.tune.building import build_all
    from samoyeds_gen.tune.choice import Task
    from samoyeds_gen.tune.database import Database
    from samoyeds_gen.tune.machines import machine_of
    from samoyeds_gen.tune.measuring import Measuring
    from samoyeds_gen.tune.search import QUICK_RUNGS, search
    from samoyeds_gen.tune.timing import Effort

    machine = machine_of(device_info())
    if machine.name != "H200":
        pytest.skip(f"the shipped table is of an H200, this is {machine.name}")
    task = Task(machine, target_named(machine.target), make_ssmm(FORM, "bf16"), shape)
    choice = sg.compile(n=FORM.n, m=FORM.m, v=FORM.v).kernel_for(*shape).choice
    measuring = Measuring(task)
    found = search(task, Database(None), partial(build_all, task), measuring, rungs=QUICK_RUNGS)
    rivals = list(dict.fromkeys([choice.schedule, found.winner.schedule]))
    times = measuring(rivals, Effort(rounds=5, sample_ms=20, settle_ms=60, warmup_s=0.1))
    mine, best = times[choice.schedule].us, times[found.winner.schedule].us
    print(
        f"{shape}: chosen {choice.schedule.name} {mine:.1f} us, "
        f"best found {found.winner.schedule.name} {best:.1f} us\n{found.winner.schedule}"
    )
    assert mine <= 1.10 * best
