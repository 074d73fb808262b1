"""The ladder as a picture: a bar a rung, as long as its speed over cuBLAS, beside the model's.

The predicted bar is an outline, the measured one is filled; without measurements there are outlines
alone. One panel a shape; all have one scale.
"""

from math import ceil

from samoyeds_gen.pictures.palette import INK, KEPT, MUTED, READ
from samoyeds_gen.pictures.svg import Drawing, text_width
from samoyeds_gen.tune.ladder_figures import Figures, Step

WIDTH = 880
MARGIN = 28
LABELS = 124
VALUES = 60
ROW = 27
BAR = 17
TOP = 96
HEAD = 34
GAP = 30


def draw_ladder(figures: Figures) -> str:
    """The picture as SVG text. Bars carry data-* attributes with what they stand for."""
    heights = [HEAD + ROW * len(figures.at(shape)) + GAP for shape in figures.shapes]
    title = f"The ladder on one {figures.gpu}"
    drawing = Drawing(WIDTH, TOP + sum(heights) + 12, title)
    drawing.text(MARGIN, 42, title, size=18, bold=True)
    _legend(drawing, 70)
    top, most = TOP, _most(figures)
    for shape, height in zip(figures.shapes, heights, strict=True):
        _panel(drawing, figures, figures.at(shape), top, most)
        top += height
    return drawing.svg()


def _most(figures: Figures) -> float:
    """The end of the axis: the next half above every ratio."""
    ratios = [figures.predicted_ratio(each) for each in figures.steps]
    ratios += [each.ratio for each in figures.steps if each.ratio is not None]
    return max(1.0, ceil(2 * max(ratios, default=1.0)) / 2)


def _panel(
    drawing: Drawing, figures: Figures, steps: tuple[Step, ...], top: float, most: float
) -> None:
    m, k, n = steps[0].shape
    drawing.text(MARGIN, top + 12, f"m={m}, k={k}, n={n}: times as fast as cuBLAS", bold=True)
    left, scale = MARGIN + LABELS, (WIDTH - 2 * MARGIN - LABELS - VALUES) / most
    first, bottom = top + HEAD, top + HEAD + ROW * len(steps)
    for tick in range(round(2 * most) + 1):
        x = left + tick / 2 * scale
        drawing.line(x, first - 4, x, bottom, width=0.5, dashed=tick > 0)
        drawing.text(x, bottom + 13, f"{tick / 2:g}x", size=10, fill=MUTED, anchor="middle")
    for place, step in enumerate(steps):
        y = first + place * ROW
        words = f"tried: {step.name}" if step.tried else step.name
        drawing.text(left - 8, y + 13, words, size=11.5, anchor="end")
        _bars(drawing, step, figures.predicted_ratio(step), (left, y, scale))


def _bars(drawing: Drawing, step: Step, ratio: float, at: tuple[float, float, float]) -> None:
    """The measured bar under the predicted outline; `at` is left end, top and pixels a unit."""
    left, y, scale = at
    m, k, n = step.shape
    data: dict[str, object] = {"shape": f"{m},{k},{n}", "rung": step.name}
    if step.ratio is not None:
        fill = READ if step.tried else KEPT
        measured = {**data, "kind": "measured", "value": float(step.ratio)}
        drawing.rect(left, y, step.ratio * scale, BAR, fill=fill, radius=1, data=measured)
    drawing.rect(
        left,
        y,
        ratio * scale,
        BAR,
        fill="none",
        stroke=INK,
        radius=1,
        dashed=True,
        data={**data, "kind": "predicted", "value": float(ratio)},
    )
    shown, end = (ratio, ratio) if step.ratio is None else (step.ratio, max(ratio, step.ratio))
    colour = MUTED if step.ratio is None else INK
    drawing.text(left + end * scale + 6, y + 13, f"{shown:.2f}x", size=11, fill=colour)


def _legend(drawing: Drawing, y: float) -> None:
    x = float(MARGIN)
    for fill, stroke, words in (
        (KEPT, None, "measured"),
        (READ, None, "measured, not in the shipped schedule"),
        ("none", INK, "predicted by the model"),
    ):
        drawing.rect(x, y - 11, 14, 14, fill=fill, stroke=stroke, radius=2, dashed=bool(stroke))
        drawing.text(x + 20, y, words, size=11.5)
        x += 44 + text_width(words, 11.5)


__all__ = ["draw_ladder"]
