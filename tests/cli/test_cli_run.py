"""`run` compares one problem with the reference and reports what the simulator counted."""

import json

import numpy as np
import pytest

from samoyeds_gen.cli import running
from samoyeds_gen.cli.running import compare, make_data
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import Kernel
from samoyeds_gen.language import load_schedule, make_ssmm, target_named


@pytest.mark.parametrize("options", [(), ("--tokens", 40), ("-f", "4,8,32", "-d", "fp16")])
def test_a_small_problem_agrees(cli, options):
    ran = cli("run", "ssmm_sm80", "--shape", "70,130,9", "--device", "cpu", "--json", *options)
    result = json.loads(ran.out)
    assert (ran.code, ran.err, result["worst"]["wrong"]) == (0, "", 0)
    assert 0 < result["worst"]["ratio"] <= 1
    assert result["counters"]["opcodes"]["mma.sp"] > 0
    assert result["counters"]["shared_wavefronts"]["ldmatrix"]["actual"] > 0


def test_text_shows_device_error_and_counters(cli):
    ran = cli("run", "ssmm_sm80", "--shape", "64,64,8", "--device", "cpu")
    assert ran.out.startswith("device    simulator\n")
    for word in (
        "at worst",
        "compared  8 of 8 tokens, 0 wrong",
        "shared wavefronts, ldmatrix",
    ):
        assert word in ran.out


@pytest.fixture
def kernel():
    problem = make_ssmm(Format(1, 2, 64), "bfloat16")
    schedule = load_schedule("ssmm_sm80", problem.format, problem.dtype)
    return Kernel(schedule, problem, target_named("sm_80"))


@pytest.mark.parametrize("value", [np.nan, 1e30, -1e30])
def test_a_wrong_element_is_counted(kernel, value):
    data = make_data(kernel, (40, 64, 6), 11, seed=1)
    out = kernel(data.w, data.tokens, data.selection, device="cpu")
    assert compare(kernel, data, out).wrong == 0
    out[3, 17] = value
    result = compare(kernel, data, out)
    assert result.wrong == 1
    assert result.ratio > 1


def test_large_problems_are_sampled(kernel, monkeypatch):
    data = make_data(kernel, (40, 64, 30), None, seed=1)
    out = kernel(data.w, data.tokens, device="cpu")
    monkeypatch.setattr(running, "COMPARED_WORK", 40 * 64 * 5)
    assert compare(kernel, data, out).tokens == 5


def test_a_wrong_kernel_exits_with_1(cli, monkeypatch):
    monkeypatch.setattr(
        running, "compare", lambda *_: running.Comparison(2.0, 1.0, 2.0, wrong=3, tokens=8)
    )
    ran = cli("run", "ssmm_sm80", "--shape", "64,64,8", "--device", "cpu")
    assert ran.code == 1
    assert "8 of 8 tokens, 3 wrong elements" in ran.out
    assert ran.err == (
        "error: 3 elements are out of bounds, the worst by 2 times; samoyeds-gen check ssmm_sm80 "
        "finds the smallest case\n"
    )
