"""`check` runs the checker and reports it as a table or as pure JSON."""

import json
import re

import pytest

from samoyeds_gen.cli import checking
from samoyeds_gen.kernel import kernel

FEW = ("--format", "1,2,64", "--dtype", "bf16", "--device", "cpu", "--jobs", "1", "-n", "4")


def test_json_is_pure_and_says_what_was_checked(cli):
    ran = cli("check", "ssmm_sm80", *FEW, "--json")
    report = json.loads(ran.out)
    assert (ran.code, ran.err, report["passed"]) == (0, "", True)
    assert report["examples"] == {"cpu": 4}
    assert {each["format"] for each in report["kernels"]} == {"1,2,64"}
    assert {each["dtype"] for each in report["kernels"]} == {"bfloat16"}


def test_the_table_shows_every_kernel_and_the_devices(cli):
    ran = cli("check", "ssmm_sm80", *FEW)
    assert ran.code == 0
    assert ran.out.count("passed") == 5
    assert "ssmm_sm80: 4 kernels, " in ran.out
    assert "cpu: simulator, 4 examples" in ran.out


def test_the_starter_passes(cli):
    cli("new", "mine")
    assert cli("check", "mine.py", "--format", "4,8,32", *FEW[2:]).code == 0


def test_a_failure_is_printed_with_its_snippet_and_exit_code_1(cli, monkeypatch):
    emit = kernel.emit
    monkeypatch.setattr(
        kernel, "emit", lambda plan: re.sub(r"cp_async_wait_\d\(\);", "", emit(plan))
    )
    ran = cli("check", "ssmm_sm80", *FEW[:-1], "1")
    assert ran.code == 1
    assert "read before arrival on the simulator: " in ran.out
    assert 'kernel = sg.compile(schedule, n=1, m=2, v=64, dtype="bfloat16"' in ran.out
    assert ran.err == "error: 1 of 1 checks failed\n"


def test_options_reach_the_checker(cli, monkeypatch):
    asked = {}

    def record(file, **options):
        asked.update(options, file=file)
        raise KeyboardInterrupt

    monkeypatch.setattr(checking, "check_schedule", record)
    cli("check", "x.py", *FEW, "--seed", "7", "--profile", "quick", "--target", "sm_89")
    assert (asked["file"], asked["seed"], asked["profile"]) == ("x.py", 7, "quick")
    assert (asked["examples"], asked["jobs"], asked["device"]) == (4, 1, "cpu")
    assert (str(asked["format"]), asked["dtype"], asked["target"]) == ("1,2,64", "bf16", "sm_89")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-n", "0"), "examples=0 is not a positive integer; ask for at least 1"),
        (("--profile", "slow"), "profile 'slow' is not one of quick, default, thorough, nightly; "),
        (("--format", "0,1,16"), "format 0,1,16 keeps 0 of 1 sub-rows, "),
    ],
)
def test_bad_requests_are_one_line(cli, arguments, sentence):
    ran = cli("check", "ssmm_sm80", *arguments)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"error: {sentence}")
    assert ran.err.count("\n") == 1
