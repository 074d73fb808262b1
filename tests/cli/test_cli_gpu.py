"""The same commands where there is a GPU: `run` times the kernel, `check` covers both devices."""

import json

import pytest

from samoyeds_gen.runtime import driver_present

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not driver_present(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("options", [(), ("--tokens", 300), ("-f", "4,8,32", "-d", "fp16")])
def test_run_uses_the_gpu_and_times_it(cli, options):
    ran = cli("run", "ssmm_sm80", "--shape", "500,1000,200", "--json", *options)
    result = json.loads(ran.out)
    assert (ran.code, ran.err, result["worst"]["wrong"]) == (0, "", 0)
    assert result["device"] != "simulator"
    assert 0 < result["launch_seconds"] < result["call_seconds"]
    assert "counters" not in result


def test_check_reports_both_devices(cli):
    ran = cli("check", "ssmm_sm80", "-f", "1,2,64", "-n", "8", "--json")
    report = json.loads(ran.out)
    assert (ran.code, report["passed"]) == (0, True)
    assert report["examples"] == {"cpu": 8, "gpu": 8}


def test_text_names_the_gpu(cli):
    out = cli("run", "ssmm_sm80", "--shape", "500,1000,200", "--device", "gpu").out
    assert " us a launch" in out
    assert "with copies to and from the GPU" in out
