"""Where text goes: tables to stdout, progress and complaints to stderr.

Progress is drawn from the `progress(done, total)` callbacks that the rooms report through; without
a terminal nothing is drawn, so that logs and pipes stay clean.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

WIDTH_WITHOUT_TERMINAL = 120


def stdout() -> Console:
    """The console of results: as wide as the terminal, 120 columns into a file or pipe."""
    width = None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL
    return Console(file=sys.stdout, width=width, highlight=False, markup=False)


def stderr() -> Console:
    """The console of progress and complaints."""
    return Console(file=sys.stderr, highlight=False, markup=False, soft_wrap=True)


def complain(sentence: str) -> None:
    """Print one line on stderr that says what was refused."""
    line = " ".join(sentence.split())
    stderr().print(Text.assemble(("error: ", "bold red"), line))


def print_json(value: object) -> None:
    """Print `value` as JSON on stdout, and nothing else."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Print a table on stdout; columns whose name starts with ">" are right-aligned."""
    table = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(
            column.removeprefix(">"),
            justify="right" if column.startswith(">") else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    stdout().print(table)


def print_facts(facts: Sequence[tuple[str, object]]) -> None:
    """Print name and value pairs on stdout, one a line, values aligned."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        sys.stdout.write(f"{name:<{width}}  {value}\n")


def print_section(title: str, body: str) -> None:
    """Print a titled block of text on stdout, untouched."""
    stdout().rule(title, align="left", style="dim", characters="-")
    sys.stdout.write(f"{body.rstrip()}\n\n")


@contextmanager
def progress(doing: str) -> Iterator[Callable[[float, float], None]]:
    """Draw a bar on stderr while the block runs; the callback takes (done, total)."""
    console = stderr()
    if not console.is_terminal:
        yield lambda done, total: None
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:g}/{task.total}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def steps(doing: str) -> Iterator[Callable[[int, int, str], None]]:
    """As `progress`, with a sentence for each step: callback (done, total, sentence).

    Sentences are printed on stderr, with or without a terminal, since such work takes minutes.
    """
    console = stderr()
    with progress(doing) as advance:

        def report(done: int, total: int, sentence: str) -> None:
            advance(done, total)
            console.print(f"{done}/{total} {sentence}")

        yield report
