"""Directives: what they record, where, and how they are documented."""

import inspect

import pytest

from samoyeds_gen.assets import asset_directory
from samoyeds_gen.compiler import compile_plan
from samoyeds_gen.errors import ScheduleError
from samoyeds_gen.formats import Format
from samoyeds_gen.language import atoms, layouts, load_schedule, make_ssmm, schedule
from samoyeds_gen.language.directives import REQUIRED, Directives
from samoyeds_gen.language.kernels import ssmm
from samoyeds_gen.language.schedule import Schedule

FORMAT = Format(1, 2, 64)
DTYPE = make_ssmm(FORMAT, "bf16").dtype
DIRECTIVES = [
    name
    for name, value in vars(Directives).items()
    if inspect.isfunction(value) and not name.startswith("_") and name != "finish"
]
SHIPPED = sorted(path.stem for path in asset_directory("schedules").glob("*.py"))


@schedule(ssmm, target="sm_80")
def example(s, weight, tokens, out):
    s.tile(m=256, n=64, k=128)
    s.warps(m=4, n=2)
    s.tensorize(atoms.MMA_SP_M16N8K32)
    s.pack(weight.metadata, order="fragment")
    s.pack(tokens, gather="on_load")
    s.layout(out, order="token_major")
    s.stationary(out, space="registers", fold="exchange" if weight.format.n == 1 else "expand")
    s.stationary(weight.metadata, space="registers")
    s.pipeline(stages=3, copy=atoms.CP_ASYNC_16B)
    s.raster(group=4)
    s.resident(ctas=2)


def test_a_schedule_function_reads_the_format():
    assert example(Format(1, 2, 64), DTYPE).stationary.fold == "exchange"
    assert example(Format(2, 4, 64), DTYPE).stationary.fold == "expand"


def test_without_a_layout_rows_get_their_own_swizzle():
    made = example(FORMAT, DTYPE)
    assert (made.layout.weight, made.layout.tokens) == ("xor_128b", "xor_256b")


def test_every_directive_remembers_its_line():
    made = example(FORMAT, DTYPE)
    lines, first = inspect.getsourcelines(example.body)
    for directive, where in made.where:
        word = directive.split(".")[0]
        assert f"s.{word}(" in lines[where.line - first], directive
        assert where.path == __file__


def test_the_body_is_a_value_maker():
    assert example(FORMAT, DTYPE) == example(FORMAT, DTYPE)
    assert example(FORMAT, DTYPE) == Schedule.from_json(example(FORMAT, DTYPE).to_json())


@pytest.mark.parametrize("name", DIRECTIVES)
def test_docstrings_give_a_sentence_a_picture_and_the_other_name(name):
    text = inspect.getdoc(getattr(Directives, name))
    first = text.splitlines()[0]
    assert "." in first
    assert first.rstrip().endswith(")"), "ends with what the field calls it"
    assert "(" in first
    if name not in ("layout", "stationary"):  # theirs show the call and what it gives
        assert "->" in text or name == "pack"
    assert any(
        line.startswith((" ", "    ")) or "->" in line or "(" in line
        for line in text.splitlines()[1:]
    )


def test_required_directives_exist():
    assert set(REQUIRED) <= set(DIRECTIVES)


def test_a_directive_cannot_be_given_twice():
    @schedule(ssmm, target="sm_80")
    def twice(s, weight, tokens, out):
        s.tile(m=256, n=64, k=64)
        s.tile(m=256, n=64, k=64)

    with pytest.raises(ScheduleError, match="tile is given twice") as caught:
        twice(FORMAT, DTYPE)
    assert caught.value.where.path == __file__


def test_a_broken_rule_cites_the_line_that_broke_it():
    @schedule(ssmm, target="sm_80")
    def conflicted(s, weight, tokens, out):
        s.tile(m=256, n=64, k=64)
        s.warps(m=4, n=2)
        s.tensorize(atoms.MMA_SP_M16N8K32)
        s.layout(tokens, space="shared", swizzle=layouts.XOR_64B)
        s.stationary(out, space="registers", fold="exchange")
        s.pipeline(stages=4, copy=atoms.CP_ASYNC_16B)

    with pytest.raises(ScheduleError) as caught:
        compile_plan(conflicted(FORMAT, DTYPE), make_ssmm(FORMAT, "bf16"))
    assert caught.value.rule == "swizzle-row"
    lines, first = inspect.getsourcelines(conflicted.body)
    assert "s.layout(tokens" in lines[caught.value.where.line - first]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_schedules_are_found_by_name_and_say_what_they_are(name):
    by_name = load_schedule(name, FORMAT, DTYPE)
    by_path = load_schedule(asset_directory("schedules") / f"{name}.py", FORMAT, DTYPE)
    assert by_name == by_path
    assert by_name.name == name
    text = (asset_directory("schedules") / f"{name}.py").read_text()
    assert text.startswith('"""')
    assert len(text.splitlines()) <= 40


def test_json_is_read_without_running_python(tmp_path):
    path = tmp_path / "plain.json"
    path.write_text(example(FORMAT, DTYPE).to_json())
    assert load_schedule(path, FORMAT, DTYPE) == example(FORMAT, DTYPE)
    assert load_schedule(str(path), FORMAT, DTYPE).source_path is None
