"""Kernels that begin while the launch before them ends: the same outputs, and only then."""

from dataclasses import replace

import numpy as np
import pytest

import samoyeds_gen as sg
from samoyeds_gen.compiler import compile_plan, emit
from samoyeds_gen.formats import Format
from samoyeds_gen.language import load_schedule, make_ssmm, target_named
from samoyeds_gen.language.schedule import Launch, Tile

FORMS = (Format(1, 2, 64), Format(1, 1, 32), Format(4, 8, 32))
EARLY = (
    ("decode_sm80", Launch(True)),
    ("decode_sm80", Launch(True, True)),
    ("ssmm_sm90", Launch(True)),
)


def schedule_of(name, form, launch):
    made = replace(load_schedule(name, form, make_ssmm(form, "bf16").dtype), where=())
    if name == "ssmm_sm90":
        made = replace(made, tile=Tile(made.tile.m, 16, made.tile.k))
    return replace(made, launch=launch)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize(("name", "early"), EARLY)
def test_outputs_are_those_of_a_launch_that_waits(name, early, form):
    rng = np.random.default_rng(0)
    dense = rng.integers(-3, 4, (70, 200)).astype(np.float32)
    w = sg.encode(dense, n=form.n, m=form.m, v=form.v)
    tokens = rng.integers(-3, 4, (19, 200)).astype(w.data.dtype)
    options = {"n": form.n, "m": form.m, "v": form.v, "target": "sm_90a"}
    found = [
        sg.compile(schedule_of(name, form, launch), **options)(w, tokens, device="cpu")
        for launch in (Launch(), early)
    ]
    assert found[0].tobytes() == found[1].tobytes()
    wanted = tokens.astype(np.float64) @ w.decode().astype(np.float64).T
    assert np.array_equal(found[0].astype(np.float64), wanted)


@pytest.mark.parametrize(("name", "launch"), EARLY)
def test_nothing_else_changes_in_the_text(name, launch):
    """The lines of a kernel that waits for launches to end are all there, in their order."""
    form, target = FORMS[0], target_named("sm_90a")
    problem = make_ssmm(form, "bf16")
    texts = [
        emit(compile_plan(schedule_of(name, form, each), problem, target)).splitlines()
        for each in (Launch(), launch)
    ]
    late, early = ([line for line in text if "// Schedule " not in line] for text in texts)
    rest = iter(early)
    assert all(line in rest for line in late)
    more = "\n".join(early)
    assert "griddepcontrol" not in "\n".join(late)
    assert more.index("launch_dependents();") < more.index("  await_launch();")
    assert ("prefetch_l2(weight +" in more) == launch.prefetch
