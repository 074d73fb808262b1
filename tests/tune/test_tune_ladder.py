"""The ladder: every rung is one legal step from another, and figures end up where they belong."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from project_places import ROOT
from tune_cases import H200

from samoyeds_gen.compiler import first_violation
from samoyeds_gen.errors import CompileError, TuneError
from samoyeds_gen.kernel import Choice
from samoyeds_gen.language import load_schedule, target_named
from samoyeds_gen.tune import ladder
from samoyeds_gen.tune.contender import Contender, Failure
from samoyeds_gen.tune.ladder import Rung, contenders, ladder_problem, measured, predicted, rungs
from samoyeds_gen.tune.ladder_figures import (
    Figures,
    Step,
    as_json,
    as_markdown,
    read_figures,
)
from samoyeds_gen.tune.timing import Effort, Timed

EVERY = rungs()
BY_NAME = {each.name: each for each in EVERY}
EFFORT = Effort(rounds=3, sample_ms=1.0, settle_ms=1.0, warmup_s=0.01)
SMALL = (1024, 1024, 1024)
# What a rung may change of the one it is held against, where that is more than one field.
TOGETHER = {
    "fold=prefix": {"tile", "stationary"},
    "k=64": {"tile", "layout", "pipeline"},
    "3 warpgroups": {"tile", "warps"},
}
CHANGES = {"stages=3": "pipeline", "n=192": "tile", "turns": "overlap", "raster=16": "raster"}
CHANGES |= {"n=200": "tile", "whole lines": "epilogue", "cluster": "cluster", "split": "overlap"}


def changed(one, other):
    names = [each.name for each in dataclasses.fields(one) if each.name not in ("name", "where")]
    return {name for name in names if getattr(one, name) != getattr(other, name)}


def test_every_rung_is_legal_and_different():
    problem, target = ladder_problem(), target_named("sm_90a")
    own = [each for each in EVERY if each.schedule is not None]
    for rung in own:
        assert first_violation(rung.schedule, problem, target) is None, rung.name
    assert len({each.schedule.digest for each in own}) == len(own) == len(EVERY) - 1
    assert len(BY_NAME) == len(EVERY)


def test_a_rung_changes_one_directive_of_an_earlier_one():
    names = [each.name for each in EVERY]
    for place, rung in enumerate(EVERY[3:], start=3):
        assert rung.before in names[:place]
        allowed = TOGETHER.get(rung.name) or {CHANGES[rung.name]}
        assert changed(rung.schedule, BY_NAME[rung.before].schedule) == allowed, rung.name
    climbed = [each for each in EVERY if not each.tried]
    assert [each.before for each in climbed] == ["", *(each.name for each in climbed[:-1])]
    assert EVERY[len(climbed) :] == tuple(each for each in EVERY if each.tried)


def test_the_top_is_the_shipped_schedule():
    problem = ladder_problem()
    shipped = load_schedule("ssmm_sm90", problem.format, problem.dtype)
    top = [each for each in EVERY if not each.tried][-1]
    assert changed(top.schedule, shipped) == set()


@pytest.fixture(scope="module")
def built():
    """Real figures of the first rungs and the top, without the rest's compilation."""
    few = (*EVERY[:2], EVERY[8])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ladder, "rungs", lambda: few)
        return predicted(H200, [SMALL])


def test_resources_are_those_of_the_build(built):
    dense, ring, top = built.steps
    assert (dense.registers, dense.shared_bytes, dense.digest) == (None, None, "")
    assert ring.producer_registers is None
    assert 0 < ring.accumulators < ring.registers <= 255
    assert (top.consumer_registers, top.accumulators, top.producer_registers) == (240, 200, 24)
    assert top.registers == 168
    assert top.shared_bytes == 214552
    assert all(each.spill_bytes == 0 for each in built.steps)
    assert all(each.predicted_us > 0 and each.limit for each in built.steps)
    assert all(each.measured_us is None and each.ratio is None for each in built.steps)


def test_a_rung_that_does_not_compile_leaves_the_others(monkeypatch):
    def refuse(schedule, problem, target):
        raise CompileError("it spills", rule="no-spills", remedy="use fewer")

    monkeypatch.setattr(ladder, "build_variant", refuse)
    dense, *others = predicted(H200, [SMALL]).steps
    assert dense.verdict == ""
    assert all("it spills" in each.verdict for each in others)
    assert all(each.registers is None and each.predicted_us > 0 for each in others)
    assert [each.digest for each in others] == [each.schedule.digest for each in EVERY[1:]]


class InventedRig:
    """A GPU on which everybody takes the time that they are given; a text is a failure."""

    machine = H200

    def __init__(self, times):
        self.times = times

    def contenders(self, shape):
        return [self._one(name, us) for name, us in self.times.items()]

    def _one(self, name, us):
        if isinstance(us, str):
            return Failure(name, us)
        rung = BY_NAME.get(name)
        choice = None if rung is None else Choice(rung.schedule, "given", "", None)
        return Contender(
            name=name,
            timed=Timed(lambda turn: us),
            weight_bytes=1,
            verdict="ok",
            format="1,2,128" if choice else None,
            choice=choice,
        )

    def sample(self, run, settle, timed):
        return run(0)

    def release(self):
        pass


def test_times_go_to_their_rungs_and_ratios_are_to_the_faster_dense(built):
    times = {"cuBLAS out[n,m]": 90.0, "cuBLAS out[m,n]": 80.0, "mma.sp ring": 40.0, "n=200": 20.0}
    dense, ring, top = measured(built, InventedRig(times), EFFORT).steps
    assert [each.measured_us for each in (dense, ring, top)] == [80.0, 40.0, 20.0]
    assert [each.ratio for each in (dense, ring, top)] == [1.0, 2.0, 4.0]
    assert (top.shared_bytes, top.digest) == (built.steps[2].shared_bytes, built.steps[2].digest)


def test_a_rung_that_fails_has_its_error_and_no_time(built):
    times = {"cuBLAS out[n,m]": 90.0, "mma.sp ring": 40.0, "n=200": "wrong: 3 elements"}
    figures = measured(built, InventedRig(times), EFFORT)
    top = figures.steps[2]
    assert (top.measured_us, top.ratio, top.verdict) == (None, None, "wrong: 3 elements")
    assert figures.measured_gain(top) is None


def test_the_rig_gets_every_rung_but_the_dense_one():
    assert [name for name, _, _ in contenders(H200)] == [each.name for each in EVERY[1:]]
    for (_, _, make), rung in zip(contenders(H200), EVERY[1:], strict=True):
        kernel = make(SMALL)
        assert (kernel.schedule, kernel.target.name) == (rung.schedule, "sm_90a")


def step(name, before="", us=100.0, **changes):
    base = Step(8, 16, 24, name, f"do {name}", before, False, us, "matrix work")
    return dataclasses.replace(base, **changes)


TIME = st.floats(0.5, 1e6)


@given(one=TIME, other=TIME, least=TIME)
def test_gains_are_of_the_named_rung(one, other, least):
    steps = (
        step("a", us=one, measured_us=one),
        step("b", "a", us=other, measured_us=other),
        step("c", "a", us=least),
    )
    figures = Figures("H200", steps)
    assert figures.predicted_gain(steps[0]) is None
    assert figures.predicted_gain(steps[1]) == one / other
    assert figures.measured_gain(steps[1]) == one / other
    assert figures.predicted_gain(steps[2]) == one / least
    assert figures.measured_gain(steps[2]) is None
    assert figures.predicted_ratio(steps[2]) == one / least


def test_json_reads_back(tmp_path, built):
    figures = dataclasses.replace(built, about={"date": "2026-11-21", "effort": {"rounds": 9}})
    path = tmp_path / "ladder.json"
    path.write_text(as_json(figures))
    assert read_figures(path) == figures


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"gpu": "x", "steps": [{"m": 1}]}'])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(TuneError, match=r"other\.json does not hold"):
        read_figures(path)


def test_the_table_has_a_line_a_rung():
    steps = (
        step("a", us=300.0, measured_us=280.4, ratio=1.0),
        step(
            "b",
            "a",
            us=150.0,
            measured_us=100.2,
            ratio=2.798,
            registers=168,
            accumulators=200,
            consumer_registers=240,
            producer_registers=24,
            shared_bytes=2048,
        ),
        step("c", "b", us=75.0, tried=True, registers=99, accumulators=64),
    )
    about = {
        "driver": "1.2",
        "date": "2026-11-21",
        "command": "samoyeds-gen ladder",
        "effort": {"rounds": 9, "sample_ms": 50.0},
    }
    lines = as_markdown(Figures("H200", steps, about)).splitlines()
    assert lines[0] == "**m=8, k=16, n=24**"
    assert lines[4] == "| a | do a | 300 |  | 280 |  | 1.00x |  |  |"
    assert lines[5] == "| b | do b | 150 | 2.00x | 100 | 2.80x | 2.80x | 240 (200) / 24 | 2.0 |"
    assert lines[6] == "| tried: c | do c (against b) | 75 | 2.00x |  |  |  | 99 (64) |  |"
    assert lines[-1] == (
        "H200, driver 1.2, 2026-11-21, 9 rounds of 50 ms; made by `samoyeds-gen ladder`."
    )
    dry = as_markdown(Figures("H200", (step("a"),)))
    assert "not measured yet" in dry


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the docs are not here")
def test_the_published_ladder_is_of_these_rungs():
    """A changed rung needs new figures: the page would tell what nobody has run."""
    figures = read_figures(ROOT / "docs" / "measurements" / "ladder_h200.json")
    expected = [
        (each.name, each.directive, each.before, each.tried, digest(each)) for each in EVERY
    ]
    assert len(figures.shapes) >= 2
    for shape in figures.shapes:
        found = [(s.name, s.directive, s.before, s.tried, s.digest) for s in figures.at(shape)]
        assert found == expected
    assert json.loads(as_json(figures))["format"] == "1,2,128"


def digest(rung: Rung) -> str:
    return (rung.schedule or SimpleNamespace(digest="")).digest
