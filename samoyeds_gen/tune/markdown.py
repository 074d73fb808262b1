"""The figures of products as Markdown tables, from what `samoyeds-gen bench --output` writes."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from samoyeds_gen.errors import TuneError
from samoyeds_gen.tune.contender import CUBLAS
from samoyeds_gen.tune.results import Row, geometric_mean, means
from samoyeds_gen.tune.suites import SMALLEST_WEIGHT, Shape

NOT_YET: Final = "Not measured yet.\n"
PEER: Final = "cuSPARSELt"


def read_products(path: Path) -> list[Row]:
    """The rows of a file of products. Raises TuneError for any other file."""
    try:
        return [Row(**row) for row in json.loads(path.read_text())["rows"]]
    except (ValueError, KeyError, TypeError):
        raise TuneError(
            f"{path.name} does not hold the figures of products",
            remedy=f"write it with samoyeds-gen bench auto --output {path.name}",
        ) from None


def rates_markdown(rows: Sequence[Row]) -> str:
    """Dense-equivalent TFLOP/s of every contender by shape, with the ratio to cuBLAS."""
    return _by_shape(rows, lambda row: f"{row.tflops:.0f}") + _ahead(rows)


def times_markdown(rows: Sequence[Row]) -> str:
    """Microseconds of every contender by shape, with the ratio to cuBLAS."""
    return _by_shape(rows, _microseconds)


def decode_markdown(rows: Sequence[Row]) -> str:
    """Our microseconds and ratios by weight and tokens; the means; bytes a second at one token."""
    ours = [row for row in rows if row.kind == "ours"]
    if not ours:
        return NOT_YET
    tokens = list(dict.fromkeys(row.n for row in ours))
    by_weight: dict[tuple[int, int], dict[int, Row]] = {}
    for row in ours:
        by_weight.setdefault((row.m, row.k), {})[row.n] = row
    lines = [
        (f"{m} x {k}", *(_cell(cells.get(n), _microseconds) for n in tokens))
        for (m, k), cells in by_weight.items()
    ]
    head = ("m x k", *(f"n = {n}" for n in tokens))
    return "\n".join((table(head, lines), _means(ours), _bandwidth(ours)))


def _by_shape(rows: Sequence[Row], figure: Callable[[Row], str]) -> str:
    """A line a shape, a column a contender: cuBLAS's faster layout, peers, and our formats."""
    if not rows:
        return NOT_YET
    columns: dict[str, dict[Shape, Row]] = {}
    for row in rows:
        name = f"({row.format})" if row.kind == "ours" else row.contender.partition(" out")[0]
        cells = columns.setdefault(name, {})
        if row.shape not in cells or row.median_us < cells[row.shape].median_us:
            cells[row.shape] = row
    lines = []
    for shape in dict.fromkeys(row.shape for row in rows):
        here = [(name, cells.get(shape)) for name, cells in columns.items()]
        figures = [_cell(row, figure, bare=name == CUBLAS) for name, row in here]
        lines.append((", ".join(map(str, shape)), *figures))
    ratios = [
        [row.ratio for row in cells.values() if row.ratio is not None] for cells in columns.values()
    ]
    spread = [
        "" if name == CUBLAS or not each else f"{geometric_mean(each):.2f}x ({min(each):.2f}x)"
        for name, each in zip(columns, ratios, strict=True)
    ]
    return table(("m, k, n", *columns), [*lines, ("geometric mean (least)", *spread)])


def _microseconds(row: Row) -> str:
    return f"{row.median_us:.1f}"


def _cell(row: Row | None, figure: Callable[[Row], str], *, bare: bool = False) -> str:
    """A row's figure and ratio; nothing where a run has no such row."""
    if row is None:
        return ""
    return figure(row) if bare or row.ratio is None else f"{figure(row)} ({times(row.ratio)})"


def _ahead(rows: Sequence[Row]) -> str:
    """How much less time ours takes at 2:4 than the quickest algorithm of the vendor's library."""
    peer = {row.shape: row.median_us for row in rows if row.contender.startswith(PEER)}
    pairs = [
        1 - row.median_us / peer[row.shape]
        for row in rows
        if row.kind == "ours" and row.format.startswith("1,1,") and row.shape in peer
    ]
    if not pairs:
        return ""
    less = ", ".join(f"{100 * each:.1f}" for each in pairs)
    return f"\nAt plain 2:4 ours takes {less} % less time than {PEER}'s best algorithm.\n"


def _means(ours: Sequence[Row]) -> str:
    found = [f"{each.group} {each.ratio:.2f}x (least {each.least:.2f}x)" for each in means(ours)]
    return f"Geometric means: {', '.join(found)}.\n"


def _bandwidth(ours: Sequence[Row]) -> str:
    """TB/s of weight bytes at the fewest tokens; the smallest weight is mostly launches."""
    least = min(row.n for row in ours)
    large = [row for row in ours if (row.m, row.k) != SMALLEST_WEIGHT]
    rates = [row.weight_tbs for row in large if row.n == least]
    if not rates:
        return ""
    return (
        f"At n = {least} that is {min(rates):.1f} to {max(rates):.1f} TB/s of weight bytes "
        f"(without the smallest weight).\n"
    )


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = "|---" * len(head) + "|"
    rows = ["| " + " | ".join(each) + " |" for each in (head, *lines)]
    return "\n".join([rows[0], rule, *rows[1:]]) + "\n"


def times(ratio: float | None) -> str:
    """A ratio as it stands in a table; nothing for none."""
    return "" if ratio is None else f"{ratio:.2f}x"
