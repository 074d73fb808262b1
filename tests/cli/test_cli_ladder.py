"""`samoyeds-gen ladder`: what it writes without a GPU, and what it refuses."""

import json

import pytest

from samoyeds_gen.runtime import driver_present
from samoyeds_gen.tune.ladder import rungs


def test_dry_writes_figures_tables_and_a_plot(cli, tmp_path):
    names = [tmp_path / f"ladder{suffix}" for suffix in (".json", ".md", ".svg")]
    outputs = [word for name in names for word in ("--output", str(name))]
    done = cli("ladder", "--dry", "--shape", "1024,1024,1024", *outputs)
    assert done.code == 0, done.err
    record = json.loads(names[0].read_text())
    assert (record["gpu"], record["measured"]) == ("H200", False)
    assert record["command"] == "samoyeds-gen ladder --dry --shape 1024,1024,1024"
    assert [each["name"] for each in record["steps"]] == [each.name for each in rungs()]
    assert all(each["spill_bytes"] == 0 for each in record["steps"])
    for each in rungs():
        assert each.name in done.out
        assert f"| {each.directive}" in names[1].read_text()
    assert names[2].read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--dry", "--output", "x.csv"), 1, ("x.csv", ".json", ".md", ".svg")),
        (("--dry", "--shape", "1,2"), 1, ("m,k,n",)),
        (("--dry", "--gpu", "nobody's"), 1, ("nobody's", "H200")),
        (("--dry", "--gpu", "A100"), 1, ("A100", "sm_80", "sm_90a")),
        (("--gpu", "H200"), 2, ("--dry",)),
    ],
)
def test_refusals(cli, arguments, code, words):
    done = cli("ladder", *arguments)
    assert done.code == code
    assert all(word in done.err for word in words), done.err
    assert "Traceback" not in done.err


@pytest.mark.skipif(driver_present(), reason="needs a machine without a GPU")
def test_without_a_gpu_it_says_so(cli):
    done = cli("ladder")
    assert done.code == 1
    assert done.err.count("\n") == 1
