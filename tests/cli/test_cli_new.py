"""`new` writes a schedule that compiles for every shipped format, and never overwrites."""

import pytest

from samoyeds_gen.check.strategies import SHIPPED
from samoyeds_gen.cli.listing import legal_formats


def test_the_starter_is_legal_for_every_shipped_format(cli, tmp_path):
    ran = cli("new", "mine")
    assert ran.code == 0
    assert ran.out.splitlines() == ["wrote mine.py", "next: samoyeds-gen check mine.py"]
    assert len(legal_formats(tmp_path / "mine.py")) == len(SHIPPED)


def test_the_starter_compiles(cli):
    cli("new", "mine")
    ran = cli("compile", "mine.py")
    assert ran.code == 0
    assert "mine_1_2_64_bf16 for " in ran.out


@pytest.mark.parametrize("name", ["mine", "mine.py"])
def test_an_existing_file_is_not_overwritten(cli, tmp_path, name):
    (tmp_path / "mine.py").write_text("kept")
    ran = cli("new", name)
    assert ran.code == 1
    assert ran.err == "error: schedule-file: mine.py exists already; choose another name\n"
    assert (tmp_path / "mine.py").read_text() == "kept"


def test_the_target_is_written(cli, tmp_path):
    cli("new", "mine", "--target", "sm_90a")
    assert '@schedule(ssmm, target="sm_90a")' in (tmp_path / "mine.py").read_text()
