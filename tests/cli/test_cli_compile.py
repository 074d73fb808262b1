"""`compile` prints what ptxas reported, as text and as JSON."""

import json

import pytest

from samoyeds_gen.language import TARGETS, Schedule
from samoyeds_gen.runtime import forget_builds


def test_json_is_pure_and_whole(cli):
    ran = cli("compile", "ssmm_sm80", "--json")
    made = json.loads(ran.out)
    assert (ran.code, ran.err) == (0, "")
    assert made["report"]["spill_stores"] == 0
    assert 0 < made["report"]["registers"] <= 255
    assert Schedule.from_json(json.dumps(made["schedule"])).digest == made["digest"]


def test_text_shows_the_numbers_of_the_json(cli):
    made = json.loads(cli("compile", "ssmm_sm80", "--json").out)
    forget_builds()  # a second process would find the build on disk
    facts = dict(line.split(maxsplit=1) for line in cli("compile", "ssmm_sm80").out.splitlines())
    assert facts["registers"].startswith(f"{made['report']['registers']} of 255 ")
    assert facts["shared"].startswith(f"{made['shared_bytes']} B of ")
    assert facts["spills"] == facts["advice"] == "none"
    assert facts["compile"].endswith("earlier, from the cache")


@pytest.mark.parametrize("target", [each.name for each in TARGETS])
def test_the_target_is_taken(cli, target):
    made = json.loads(cli("compile", "ssmm_sm80", "--target", target, "--json").out)
    assert made["target"] == target


def test_a_json_schedule_compiles_like_its_python_file(cli, tmp_path):
    made = json.loads(cli("compile", "ssmm_sm80", "--json").out)
    (tmp_path / "same.json").write_text(json.dumps(made["schedule"]))
    again = json.loads(cli("compile", "same.json", "--json").out)
    assert (again["digest"], again["report"]) == (made["digest"], made["report"])
