"""A comparison as a picture: time, ratio to cuBLAS and share of the measured roof, shape by shape.

One colour a contender, one group of bars a shape. Times are on a logarithmic axis from the nearest
power of ten below; ratios and shares start at zero.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any

from samoyeds_gen.pictures.palette import CONTENDERS, MUTED
from samoyeds_gen.pictures.svg import Drawing, text_width
from samoyeds_gen.tune.results import Row

MARGIN = 28
LABELS = 54
PANEL = 150
GAP = 62
TOP = 74
LEAST_BAR = 7.0
MOST_BAR = 36.0
BETWEEN = 14.0
LEAST_WIDTH = 880


@dataclass(frozen=True, slots=True)
class Panel:
    """One quantity: its title, how it is read from a row, and the axis' ticks as (value, label)."""

    title: str
    value: Callable[[Any], float | None]
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def height(self, value: float) -> float:
        """Pixels of a bar of this value."""
        least, most = self.ticks[0][0], self.ticks[-1][0]
        if self.logarithmic:
            value, least, most = log10(value), log10(least), log10(most)
        return min(max((value - least) / (most - least), 0.0), 1.0) * PANEL


def draw_measurements(rows: Sequence[Row], *, title: str) -> str:
    """The picture as SVG text. Bars carry data-* attributes with what they stand for."""
    return draw_panels(rows, panels_of(rows), _words_of, title=title)


def _words_of(row: Row) -> str:
    return f"{row.m},{row.k},{row.n}"


def draw_panels(
    rows: Sequence[Any], panels: Sequence[Panel], words: Callable[[Any], str], *, title: str
) -> str:
    """Any rows with a `contender` as SVG text: those of the same `words` are a group of bars."""
    shapes = list(dict.fromkeys(words(row) for row in rows))
    names = list(dict.fromkeys(row.contender for row in rows))
    room = (LEAST_WIDTH - 2 * MARGIN - LABELS) / max(1, len(shapes)) - BETWEEN
    bar = min(MOST_BAR, max(LEAST_BAR, room / max(1, len(names))))
    group = bar * len(names) + BETWEEN
    width = max(LEAST_WIDTH, ceil(2 * MARGIN + LABELS + group * len(shapes)))
    legend = _legend_rows(names, width)
    height = TOP + len(panels) * (PANEL + GAP) + 22 * len(legend) + 12
    drawing = Drawing(width, height, f"Measurements on {title}")
    drawing.text(MARGIN, 42, f"Measurements on {title}", size=18, bold=True)
    for place, panel in enumerate(panels):
        top = TOP + place * (PANEL + GAP) + 24
        _draw_axis(drawing, panel, top, width)
        for row in rows:
            place_of = shapes.index(words(row)) * group + names.index(row.contender) * bar
            at = (MARGIN + LABELS + place_of, top, bar)
            data = {"shape": words(row), "contender": row.contender}
            _draw_bar(drawing, panel, panel.value(row), colour_of(names, row.contender), at, data)
        _draw_shapes(drawing, shapes, group, top)
    _draw_legend(drawing, legend, names, TOP + len(panels) * (PANEL + GAP) + 12)
    return drawing.svg()


def panels_of(rows: Sequence[Row]) -> list[Panel]:
    """The panels there are figures for; time always."""
    times = [row.median_us for row in rows] or [1.0]
    panels = [Panel("microseconds a launch", lambda row: row.median_us, powers(times), True)]
    ratios = [row.ratio for row in rows if row.ratio is not None]
    if ratios:
        panels.append(Panel("times as fast as cuBLAS", lambda row: row.ratio, halves(max(ratios))))
    shares = [row.roof for row in rows if row.roof is not None]
    if shares:
        ticks = tuple((each / 4, f"{25 * each} %") for each in range(5))
        panels.append(Panel("share of the measured roof", lambda row: row.roof, ticks))
    return panels


def powers(values: Sequence[float]) -> tuple[tuple[float, str], ...]:
    """Ticks at 1, 2 and 5 times powers of ten around the values."""
    first, last = floor(log10(min(values))), ceil(log10(max(values)))
    last = max(last, first + 1)
    steps = [(10.0**power * step) for power in range(first, last) for step in (1, 2, 5)]
    return tuple((value, f"{value:g}") for value in [*steps, 10.0**last])


def halves(most: float) -> tuple[tuple[float, str], ...]:
    """Ticks at every half up to beyond the largest ratio."""
    top = max(2, ceil(2 * most))
    return tuple((each / 2, f"{each / 2:g}x") for each in range(top + 1))


def colour_of(names: Sequence[str], name: str) -> str:
    """The colour of a contender, by its place among all."""
    return CONTENDERS[names.index(name) % len(CONTENDERS)]


def _draw_axis(drawing: Drawing, panel: Panel, top: float, width: int) -> None:
    drawing.text(MARGIN, top - 12, panel.title, size=13, bold=True)
    left, bottom = MARGIN + LABELS, top + PANEL
    for value, label in panel.ticks:
        y = bottom - panel.height(value)
        drawing.line(left - 4, y, width - MARGIN, y, width=0.5, dashed=value != panel.ticks[0][0])
        drawing.text(left - 8, y + 3.5, label, size=10, fill=MUTED, anchor="end")


def _draw_bar(
    drawing: Drawing,
    panel: Panel,
    value: float | None,
    fill: str,
    at: tuple[float, float, float],
    data: dict[str, str],
) -> None:
    """A bar whose left end, axis top and width are `at`; nothing where there is no figure."""
    if value is None:
        return
    x, top, bar = at
    height = panel.height(value)
    y = top + PANEL - height
    drawing.rect(x, y, bar - 1, height, fill=fill, radius=1, data={**data, "value": float(value)})


def _draw_shapes(drawing: Drawing, labels: Sequence[str], group: float, top: float) -> None:
    """Each shape's sizes under its bars, on as many lines as keep them apart."""
    lines = max(1, ceil((max(map(len, labels), default=1) * 5.6 + 6) / group))
    for place, label in enumerate(labels):
        x = MARGIN + LABELS + place * group + (group - BETWEEN) / 2
        y = top + PANEL + 13 + 10 * (place % lines)
        drawing.text(x, y, label, size=9, fill=MUTED, anchor="middle")


def _legend_rows(names: Sequence[str], width: int) -> list[list[str]]:
    """Names in lines that fit the width."""
    rows: list[list[str]] = [[]]
    room = float(width - 2 * MARGIN)
    for name in names:
        needed = 44 + text_width(name, 11.5)
        if rows[-1] and needed > room:
            rows.append([])
            room = float(width - 2 * MARGIN)
        rows[-1].append(name)
        room -= needed
    return rows


def _draw_legend(
    drawing: Drawing, legend: Sequence[Sequence[str]], names: Sequence[str], top: float
) -> None:
    for line, row in enumerate(legend):
        x, y = float(MARGIN), top + 22 * line
        for name in row:
            drawing.rect(x, y - 11, 14, 14, fill=colour_of(names, name), radius=3)
            drawing.text(x + 20, y, name, size=11.5)
            x += 44 + text_width(name, 11.5)


__all__ = ["Panel", "draw_measurements", "draw_panels", "halves", "panels_of", "powers"]
