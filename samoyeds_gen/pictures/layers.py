"""Layers as a picture, case by case: time or rate, ratios to dense peers, and memory."""

from collections.abc import Sequence

from samoyeds_gen.pictures.measurements import Panel, draw_panels, halves, powers
from samoyeds_gen.tune.layers.model_rows import ModelRow
from samoyeds_gen.tune.layers.rows import LayerRow

MEGABYTE = 1e6
LEAST_PEAK = 0.01
"""Megabytes that stand for nothing at all on a logarithmic axis."""


def draw_layers(rows: Sequence[LayerRow], *, title: str) -> str:
    """The picture as SVG text. Bars carry data-* attributes with what they stand for."""
    return draw_panels(rows, layer_panels(rows), lambda row: row.case, title=title)


def layer_panels(rows: Sequence[LayerRow]) -> list[Panel]:
    """The panels there are figures for; time and memory always."""
    times = [row.us for row in rows] or [1.0]
    panels = [Panel("microseconds a call", lambda row: row.us, powers(times), True)]
    ratios = [row.ratio for row in rows if row.ratio is not None]
    if ratios:
        ticks = halves(max(ratios))
        panels.append(Panel("times as fast as grouped_mm", lambda row: row.ratio, ticks))
    best = [row.ratio_best for row in rows if row.ratio_best is not None]
    if best:
        ticks = halves(max(best))
        panels.append(
            Panel("times as fast as the best dense peer", lambda row: row.ratio_best, ticks)
        )
    peaks = [_peak(row) for row in rows] or [1.0]
    panels.append(Panel("megabytes of a call beside its weights", _peak, powers(peaks), True))
    return panels


def draw_models(rows: Sequence[ModelRow], *, title: str) -> str:
    """Decoder layers likewise: tokens a second, ratio to the dense layer, and memory."""
    return draw_panels(rows, model_panels(rows), lambda row: row.case, title=title)


def model_panels(rows: Sequence[ModelRow]) -> list[Panel]:
    """The panels there are figures for; rate and memory always."""
    rates = [row.tokens_per_s for row in rows] or [1.0]
    panels = [Panel("tokens a second", lambda row: row.tokens_per_s, powers(rates), True)]
    ratios = [row.ratio for row in rows if row.ratio is not None]
    if ratios:
        ticks = halves(max(ratios))
        panels.append(Panel("times as fast as with grouped_mm", lambda row: row.ratio, ticks))
    peaks = [_peak(row) for row in rows] or [1.0]
    panels.append(Panel("megabytes of a call beside its weights", _peak, powers(peaks), True))
    return panels


def _peak(row: LayerRow | ModelRow) -> float:
    return max(row.peak_bytes / MEGABYTE, LEAST_PEAK)


__all__ = ["draw_layers", "draw_models", "layer_panels", "model_panels"]
