"""`emit` writes what the compiler emits, repeatably; `emit --check` shows every difference."""

import pytest

from samoyeds_gen.assets import asset_directory, for_experts
from samoyeds_gen.cli.emitting import generated_texts, routing_plans
from samoyeds_gen.cli.options import Experts


def test_every_shipped_schedule_gives_a_kernel_and_a_plan(cli, tmp_path):
    assert cli("emit").code == 0
    stems = [*routing_plans()]
    for path in asset_directory("schedules").glob("*.py"):
        kernels = [f"{path.stem}_{experts}" for experts in Experts]
        stems += kernels if for_experts(path) else [path.stem]
    wanted = sorted(f"{stem}{suffix}" for stem in stems for suffix in (".cu", ".plan.txt"))
    assert sorted(path.name for path in (tmp_path / "generated").iterdir()) == wanted
    ran = cli("emit", "--check")
    assert (ran.code, ran.err) == (0, "")


def test_emission_repeats_and_names_no_place_of_this_machine():
    for path in asset_directory("schedules").glob("*.py"):
        texts = generated_texts(str(path))
        assert texts == generated_texts(str(path))
        for text in texts.values():
            assert str(path.parent) not in text


def edit(path):
    path.write_text(path.read_text().replace("kStages = ", "kStages = 1"))


def lose(path):
    path.unlink()


def add(path):
    (path.parent / "forgotten.cu").write_text("// nobody emits this\n")


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (edit, "-constexpr int kStages = 1"),
        (lose, "+constexpr int kStages = "),
        (add, "-// nobody"),
    ],
)
def test_a_difference_is_shown_as_a_diff_and_fails(cli, tmp_path, change, shown):
    cli("emit")
    change(tmp_path / "generated" / "ssmm_sm80.cu")
    ran = cli("emit", "--check")
    assert ran.code == 1
    assert any(line.startswith(shown) for line in ran.out.splitlines())
    assert ran.out.startswith("--- generated/")
    assert ran.err.startswith("error: generated is not what the schedules emit")
    assert ran.err.count("\n") == 1


def test_check_of_one_file_ignores_the_others(cli, tmp_path):
    cli("emit", "ssmm_sm80")
    add(tmp_path / "generated" / "ssmm_sm80.cu")
    assert cli("emit", "--check", "ssmm_sm80").code == 0


def test_format_and_dtype_can_be_asked_for(cli, tmp_path):
    cli("emit", "ssmm_sm80", "-f", "4,8,32", "-d", "fp16", "-o", "here")
    text = (tmp_path / "here" / "ssmm_sm80.plan.txt").read_text()
    assert "format (4,8,32)  float16 -> float16  fold expand" in text
