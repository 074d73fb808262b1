"""check_schedule end to end on the simulator: reports, failures, snippets, refusals, processes."""

import contextlib
import io
import json
from dataclasses import replace

import pytest
from faults import FAULTS, SUBJECTS
from grouped_faults import SUBJECTS as GROUPED

import samoyeds_gen.kernel.kernel as kernel_module
from samoyeds_gen.check import PROFILES, Profile, check_schedule, subjects_of
from samoyeds_gen.check.strategies import SHIPPED
from samoyeds_gen.check.work import Drawn, Listed
from samoyeds_gen.compiler import emit
from samoyeds_gen.errors import LaunchError, ScheduleError
from samoyeds_gen.formats import Format
from samoyeds_gen.language import Schedule

TINY = SUBJECTS["exchange"].schedule
FORMAT = Format(1, 2, 32)


def named_fault(name):
    return next(fault for fault in FAULTS if fault.name == name)


@pytest.fixture
def broken(monkeypatch):
    """Make every kernel that is compiled carry a fault: the engine and snippets both see it."""

    def break_with(name):
        fault = named_fault(name)
        monkeypatch.setattr(
            kernel_module, "emit", lambda plan: emit(plan).replace(fault.old, fault.new)
        )

    return break_with


def test_shipped_schedule_passes_and_reports(tmp_path):
    seen = []
    report = check_schedule(
        "ssmm_sm80",
        format=Format(1, 2, 64),
        dtype="bf16",
        device="cpu",
        examples=6,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert report.passed, str(report)
    assert report.examples == {"cpu": 6}
    assert seen[-1] == (6, 6)
    data = json.loads(report.to_json())
    assert data["passed"] is True
    assert data["devices"] == {"cpu": "simulator"}
    assert data["counters"]["runs"] == 6
    assert data["counters"]["opcodes"]["mma.sp"] > 0
    actual, ideal = data["counters"]["shared_wavefronts"]["ldmatrix"]
    assert actual == ideal > 0
    assert {each["format"] for each in data["kernels"]} == {"1,2,64"}
    assert "passed" in str(report)


def test_json_schedule_and_schedule_value_are_checked(tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(TINY.to_json())
    for source in (TINY, str(path)):
        report = check_schedule(source, format=FORMAT, dtype="fp16", device="cpu", examples=4)
        assert report.passed, str(report)


def test_auto_says_why_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr("samoyeds_gen.check.checking.driver_present", lambda: False)
    monkeypatch.setattr("samoyeds_gen.check.checking.driver_problem", lambda: "no driver")
    report = check_schedule(TINY, format=FORMAT, examples=1)
    assert report.devices == {"cpu": "simulator", "gpu": "not used, no driver"}


def test_failure_is_shrunk_and_its_snippet_shows_it(broken):
    broken("scale of the next token")
    report = check_schedule(TINY, format=FORMAT, device="cpu", examples=3)
    assert not report.passed
    failure = next(each for each in report.failures if each.kind == "wrong value")
    finding, origin = failure.finding, failure.finding.origin
    assert (failure.case.m, failure.case.k, failure.case.n(failure.subject.problem)) == (1, 1, 2)
    text = str(failure)
    assert f"out[{origin.selected}, {origin.feature}] is {finding.got:g}, expected" in text
    assert "feature 0: sub-row 0 of group 0 (features 0..1)" in text
    assert f"token {origin.token}" in text
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(failure.snippet, {})
    got, expected = (float(word) for word in printed.getvalue().split())
    assert (got, expected) == pytest.approx((finding.got, finding.expected), rel=1e-2)
    assert json.loads(report.to_json())["failures"][0]["snippet"] == report.failures[0].snippet


@pytest.mark.parametrize("name", ["one exchange left out", "wide store to a narrow row"])
def test_snippets_of_larger_cases_and_of_faults_run(broken, name):
    broken(name)
    report = check_schedule(TINY, format=FORMAT, dtype="bf16", device="cpu", examples=2)
    failure = report.failures[0]
    printed = io.StringIO()
    if failure.kind == "wrong value":
        with contextlib.redirect_stdout(printed):
            exec(failure.snippet, {})
        got, expected = (float(word) for word in printed.getvalue().split())
        finding = failure.finding
        assert (got, expected) == pytest.approx((finding.got, finding.expected), rel=1e-2)
    else:
        with pytest.raises(Exception, match=failure.kind):
            exec(failure.snippet, {})
        assert ".cu:" in failure.finding.sentence, "the line of the emitted file is named"


def test_a_kernel_that_does_not_compile_is_a_failure(monkeypatch):
    monkeypatch.setattr(kernel_module, "emit", lambda plan: "nonsense")
    report = check_schedule(TINY, format=FORMAT, dtype="bf16", device="cpu", examples=1)
    assert [each.kind for each in report.failures] == ["not compiled"]
    assert "nonsense" in str(report)


def test_every_shipped_format_is_in_the_default_set():
    subjects = [each for each in subjects_of("ssmm_sm80") if each.weights == "one"]
    assert [each.problem.format for each in subjects] == list(SHIPPED)
    assert {each.problem.dtype.name for each in subjects} == {"float16", "bfloat16"}
    assert {each.problem.index for each in subjects} == {None, "int32", "int64"}
    assert {each.problem.out_dtype.name for each in subjects} == {"float16", "bfloat16", "float32"}
    assert len({each.problem.activation for each in subjects}) == 5
    assert all(each.origin for each in subjects)


def test_formats_that_a_schedule_does_not_take_are_left_out():
    subjects = subjects_of(TINY)
    assert {each.problem.format for each in subjects} == {
        f
        for f in SHIPPED
        if (f.n == 1 and 64 % (16 * f.m) == 0 and f.v >= 32 and f.m < 4) or f.plain
    }
    assert all(each.origin is None for each in subjects)
    impossible = replace(TINY, tile=replace(TINY.tile, k=48))
    with pytest.raises(ScheduleError, match="tile-k: "):
        subjects_of(impossible)
    with pytest.raises(ScheduleError, match="fold-format: "):
        subjects_of(TINY, format=Format(2, 4, 32))


def test_a_schedule_for_experts_is_checked_on_several_with_gates_and_without():
    subjects = [each for each in subjects_of("ssmm_sm90") if each.problem.grouped]
    assert {each.weights for each in subjects} == {"experts", "gated experts"}
    assert {each.problem.index for each in subjects} == {None, "int32", "int64"}
    assert {each.problem.scale for each in subjects} == {False, True}
    assert len({(each.problem.format.n, each.problem.format.m) for each in subjects}) == 6
    assert len(subjects) == 8
    one = subjects_of("ssmm_sm90", format=Format(8, 16, 32))
    assert {each.weights for each in one} == {"one", "experts"}, "its bands are wider than 8 rows"


def test_a_schedule_for_experts_alone_is_checked_on_them_alone():
    tiny = GROUPED["gated"].schedule
    before = replace(tiny, pack=replace(tiny.pack, gather="before"))
    subjects = subjects_of(before, format=Format(1, 2, 64))
    assert {each.weights for each in subjects} == {"experts", "gated experts"}
    report = check_schedule(before, format=Format(1, 2, 64), device="cpu", examples=9)
    assert report.passed, str(report)
    work = Drawn(before, kernels=3, examples=3, device="cpu", seed=1, format=Format(1, 2, 64))
    assert {each.subject.problem.grouped for each in work.run().kernels} == {True}


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("(bias + expert * m)", "bias", "wrong value"),
        ("result[j] *= up[j];", "result[j] += up[j];", "wrong value"),
        ("last_row = expert_rows[expert + 1];", "last_row = n;", "race"),
        ("min(offsets[at + 1], n)", "offsets[at + 1]", "out of bounds"),
    ],
)
def test_snippets_of_experts_show_the_failure(monkeypatch, old, new, kind):
    monkeypatch.setattr(kernel_module, "emit", lambda plan: emit(plan).replace(old, new))
    name = "gated" if "up" in old else "experts"
    outcome = Listed((GROUPED[name],), (12,), "cpu", 0).run()
    failure = outcome.kernels[0].failure
    finding = failure.finding
    assert failure.kind == kind
    assert f"tokens of experts {list(failure.case.counts)}" in str(failure)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if kind == "race":
            with pytest.raises(Exception, match=kind):
                exec(failure.snippet, {})
            return
        exec(failure.snippet, {})
    if kind == "wrong value":
        assert f" of expert {finding.origin.expert})" in str(failure)
        got, expected = (float(word) for word in printed.getvalue().split())
        assert (got, expected) == pytest.approx((finding.got, finding.expected), rel=1e-2)
    else:
        assert kind in printed.getvalue(), "a call would refuse these offsets"


def test_drawn_kernels_vary_in_everything():
    work = Drawn("ssmm_sm80", kernels=8, examples=2, device="cpu", seed=3)
    result = work.run()
    assert all(each.failure is None for each in result.kernels), str(result.kernels)
    subjects = [each.subject for each in result.kernels]
    assert len({each.target.name for each in subjects}) >= 3
    assert len({each.schedule.tile for each in subjects}) >= 3
    assert len({each.problem.format for each in subjects}) >= 4
    assert result.counters.runs == sum(each.examples for each in result.kernels)


def test_drawn_kernels_shrink_to_the_smallest_tile(broken):
    broken("last tokens unwritten")
    result = Drawn("ssmm_sm80", kernels=4, examples=8, device="cpu", seed=0).run()
    failures = [each for each in result.kernels if each.failure is not None]
    assert len(failures) == 1
    schedule = failures[0].subject.schedule
    assert (schedule.tile.m, schedule.tile.n, schedule.pipeline.stages) == (16, 16, 2)


def test_the_nightly_profile_has_a_hundred_thousand_examples():
    nightly = next(each for each in PROFILES if each.name == "nightly")
    assert nightly.examples == 100_000
    assert nightly.drawn > 0


def test_a_lost_gpu_ends_the_work_on_it(monkeypatch):
    """After a failed launch every later one fails too, and says nothing."""

    def fail(variant, inputs, device, poison=0):
        raise LaunchError("an illegal memory access was encountered")

    monkeypatch.setattr("samoyeds_gen.check.trial.run_kernel", fail)
    subjects = (SUBJECTS["exchange"], SUBJECTS["prefix"])
    result = Listed(subjects, (20, 20), "gpu", 0).run()
    assert [each.examples for each in result.kernels] == [1]
    assert result.kernels[0].failure.kind == "launch failed"
    assert str(result.kernels[0].failure).startswith("launch failed on the GPU: an illegal memory")
    with pytest.raises(LaunchError):
        Listed(subjects, (1, 1), "cpu", 0).run()


@pytest.mark.parametrize("profile", ["default", "nightly"])
def test_a_source_that_is_none_is_refused_before_anything_runs(profile, tmp_path):
    with pytest.raises(ScheduleError, match="no schedule file"):
        check_schedule(tmp_path / "none.py", profile=profile, device="cpu")
    with pytest.raises(ScheduleError, match="fold-format: "):
        check_schedule(TINY, profile=profile, device="cpu", format=Format(2, 4, 32))


def test_nightly_draws_schedules(monkeypatch):
    monkeypatch.setattr("samoyeds_gen.check.profiles.PROFILES", (Profile("nightly", 12, drawn=4),))
    report = check_schedule("ssmm_sm80", profile="nightly", device="cpu", format=Format(1, 2, 64))
    assert report.passed, str(report)
    assert report.examples == {"cpu": 12}
    assert {str(each.subject.problem.format) for each in report.kernels} == {"1,2,64"}
    assert len({each.subject.schedule for each in report.kernels}) > 1


def test_processes_give_the_report_that_one_process_gives():
    one, two = (
        check_schedule(TINY, format=FORMAT, device="cpu", examples=4, jobs=jobs) for jobs in (1, 2)
    )
    assert two.passed
    assert one.examples == two.examples
    assert one.counters.as_dict() == two.counters.as_dict()
    assert [str(each.subject) for each in one.kernels] == [
        str(each.subject) for each in two.kernels
    ]


def test_schedule_survives_the_way_to_another_process():
    import pickle

    subject = SUBJECTS["prefix"]
    assert pickle.loads(pickle.dumps(subject)) == subject
    assert Schedule.from_json(subject.schedule.to_json()) == subject.schedule
