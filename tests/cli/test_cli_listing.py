"""`list` shows every shipped schedule, target and rule."""

import ast
import json
from pathlib import Path

import samoyeds_gen
from samoyeds_gen.assets import asset_directory
from samoyeds_gen.cli.rules import directives, every_rule
from samoyeds_gen.compiler import RULES
from samoyeds_gen.language import TARGETS

PACKAGE = Path(samoyeds_gen.__file__).parent


def test_every_shipped_schedule_and_target_is_listed(cli):
    ran = cli("list", "--json")
    listed = json.loads(ran.out)
    assert {each["name"] for each in listed["schedules"]} == {
        path.stem for path in asset_directory("schedules").glob("*.py")
    }
    assert [each["name"] for each in listed["targets"]] == [each.name for each in TARGETS]
    assert all(each["formats"] and each["about"] for each in listed["schedules"])


def test_the_sm80_schedule_takes_every_shipped_format(cli):
    listed = json.loads(cli("list", "--json").out)["schedules"]
    (formats,) = (each["formats"] for each in listed if each["name"] == "ssmm_sm80")
    assert len(formats) == 24


def test_the_table_names_what_the_json_names(cli):
    table = cli("list").out
    for each in json.loads(cli("list", "--json").out)["schedules"]:
        assert each["name"] in table


def test_every_rule_that_a_refusal_names_is_listed():
    listed = [rule.name for rule in every_rule()]
    assert len(listed) == len(set(listed))
    assert set(listed) >= set(RULES)
    named = {name for path in PACKAGE.rglob("*.py") for name in rule_names(path)}
    assert named, "no rule was found in the sources"
    assert named - set(listed) == set()


def test_every_listed_rule_exists():
    named = {name for path in PACKAGE.rglob("*.py") for name in rule_names(path)}
    assert {rule.name for rule in every_rule()} - named - set(RULES) - set(directives()) == set()


def test_every_rule_has_a_sentence(cli):
    rules = json.loads(cli("list", "--rules", "--json").out)
    assert all(rule["sentence"].endswith(".") for rule in rules)
    table = cli("list", "--rules").out
    assert all(rule["name"] in table for rule in rules)


def rule_names(path: Path) -> set[str]:
    """String constants given as `rule=`, or first to the two functions that pass them on."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        given = [keyword.value for keyword in node.keywords if keyword.arg == "rule"]
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if called in ("_refuse", "_hazard"):
            given += node.args[:1]
        names |= {each.value for each in given if isinstance(each, ast.Constant)} - {None}
    return names
