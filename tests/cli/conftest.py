"""A command line run in this process: its exit code, stdout and stderr."""

import sys
from dataclasses import dataclass

import pytest

from samoyeds_gen.cli import main


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    """Run `samoyeds-gen ARGUMENTS` in an empty directory; a traceback would fail the test."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["samoyeds-gen", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        return Ran(int(left.value.code or 0), captured.out, captured.err)

    return run
