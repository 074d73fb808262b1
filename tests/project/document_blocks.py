"""Reads Markdown documents and runs them: Python blocks, console blocks, edits of a file.

A console block is `$ samoyeds-gen ...` lines, each followed by what it prints, with `...` for what
differs from run to run. A Python block under `<!-- edit FILE -->` replaces the line of FILE that
starts with the same call.
"""

import doctest
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"^(?:<!-- (?P<note>[^\n]*?) -->\n)?```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, text, first line, and the note in front of it."""

    language: str
    text: str
    line: int
    note: str


def blocks(path: Path) -> Iterator[Block]:
    document = path.read_text()
    for match in FENCE.finditer(document):
        line = document[: match.start("text")].count("\n") + 1
        yield Block(match["language"], match["text"], line, match["note"] or "")


def run_document(path: Path, command: Callable[[list[str]], str]) -> int:
    """Run a document's blocks in order in one namespace; how many there were.

    `command` runs a samoyeds-gen command line and returns what it printed.
    """
    namespace: dict[str, object] = {"__name__": "__document__"}
    count = 0
    for block in blocks(path):
        where = f"{path.name}:{block.line}"
        if block.note.startswith("edit "):
            edit(Path(block.note.removeprefix("edit ")), block.text)
        elif block.language == "python":
            # Lines of the document, so that a failure cites them.
            source = "\n" * (block.line - 1) + block.text
            exec(compile(source, str(path), "exec"), namespace)
        elif block.language == "console":
            run_console(block.text, command, where)
        else:
            continue
        count += 1
    return count


def run_console(text: str, command: Callable[[list[str]], str], where: str) -> None:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, expected = part.partition("\n")
        program, *arguments = shlex.split(line)
        assert program == "samoyeds-gen", f"{where}: {program} is not run"
        printed = command(arguments)
        if not doctest.OutputChecker().check_output(expected, printed, OPTIONS):
            raise AssertionError(f"{where}: $ {line}\nexpected\n{expected}\nprinted\n{printed}")


def edit(path: Path, text: str) -> None:
    """Replace the line of `path` that begins the same call on the same operand."""
    head = re.match(r"\s*[\w.]+\((?:\w+, )?", text)
    assert head, text
    lines = path.read_text().splitlines(keepends=True)
    (place,) = (number for number, line in enumerate(lines) if line.startswith(head[0]))
    lines[place] = text
    path.write_text("".join(lines))


def in_process(monkeypatch, capsys) -> Callable[[list[str]], str]:
    """A `command` that runs the command line in this process."""
    from samoyeds_gen.cli import main

    def command(arguments: list[str]) -> str:
        monkeypatch.setattr(sys, "argv", ["samoyeds-gen", *arguments])
        with suppress(SystemExit):
            main()
        printed = capsys.readouterr()
        return printed.out + printed.err

    return command
