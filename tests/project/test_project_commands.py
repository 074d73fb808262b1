"""README's two commands are what a newcomer and .ci/run execute; generated/ is current."""

import os
import re
import subprocess

import pytest
from document_blocks import ROOT, blocks

from samoyeds_gen.cli import app
from samoyeds_gen.cli.emitting import (
    SUFFIXES,
    drift,
    generated_texts,
    routing_texts,
    shipped_schedules,
)

INSTALL_AND_CHECK = "pip install . && samoyeds-gen check schedules/ssmm_sm80.py"
INSTALL_AND_TEST = 'pip install -e ".[test]" && pytest -n 2'
MOST_SCHEDULES = 16


def test_readme_has_exactly_two_commands():
    fences = [block.text for block in blocks(ROOT / "README.md") if block.language == "bash"]
    assert fences == [f"{INSTALL_AND_CHECK}\n", f"{INSTALL_AND_TEST}\n"]


def test_readme_lists_every_subcommand():
    listed = re.findall(r"^\| `samoyeds-gen (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    registered = [each.name for each in app.registered_commands]
    assert sorted(listed) == sorted(registered)


@pytest.mark.parametrize(("number", "command"), [(1, INSTALL_AND_CHECK), (2, INSTALL_AND_TEST)])
def test_ci_runs_them_as_they_stand(number, command):
    script = (ROOT / ".ci" / "run").read_text()
    start = script.index("readme_command() {")
    function = script[start : script.index("\n}", start) + 2]
    done = subprocess.run(
        ["bash", "-c", f"{function}\nreadme_command {number}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{command}\n"
    assert f"from_readme {number}" in script


def test_ci_is_strict_reads_nothing_and_ends_with_pytest():
    path = ROOT / ".ci" / "run"
    script = path.read_text()
    assert os.access(path, os.X_OK)
    assert "set -euo pipefail" in script
    assert "exec < /dev/null" in script
    assert script.rstrip().splitlines()[-1].startswith("pytest ")
    subprocess.run(["bash", "-n", path], check=True)


def test_generated_files_are_current():
    texts = routing_texts()
    for path in shipped_schedules():
        texts |= generated_texts(path)
    assert drift(texts, ROOT / "generated", whole=True) == ""


def test_generated_files_stay_few():
    names = [path.name for path in (ROOT / "generated").iterdir()]
    assert all(name.endswith(SUFFIXES) for name in names)
    assert len(names) <= 2 * MOST_SCHEDULES
