"""The figures of layers as Markdown tables, from the rows that `samoyeds-gen bench` writes."""

from collections.abc import Sequence
from typing import Any

from samoyeds_gen.tune.layers.best import ANCHOR
from samoyeds_gen.tune.layers.memory_rows import MemoryRow
from samoyeds_gen.tune.layers.model_rows import ModelRow, model_means
from samoyeds_gen.tune.layers.rows import LayerRow, layer_means
from samoyeds_gen.tune.markdown import NOT_YET, table, times

NOTHING = ""
MEGA = 1e6


def layers_markdown(rows: Sequence[LayerRow], about: dict[str, Any]) -> str:
    """Our times by layer and tokens with their ratios, the means, and peak memory."""
    if not rows:
        return NOT_YET
    parts = []
    for routing in dict.fromkeys(row.routing for row in rows):
        of_routing = [row for row in rows if row.routing == routing]
        for name in dict.fromkeys(row.contender for row in of_routing if row.kind == "ours"):
            ours = [row for row in of_routing if row.contender == name]
            parts.append(f"**{name}, {routing} routing**, microseconds (of best, of grouped_mm)\n")
            parts.append(_by_tokens(ours, _time_cell))
    means = [
        (
            each.group,
            each.routing,
            each.contender,
            *map(times, (each.ratio_best, each.least_best, each.ratio, each.least)),
        )
        for each in layer_means(rows)
        if each.contender != ANCHOR
    ]
    head = ("cases", "routing", "contender", "of best", "least", "of grouped_mm", "least")
    parts += ["**Geometric means**\n", table(head, means)]
    first = [row for row in rows if row.contender == _first_of_ours(rows)]
    dense = {row.case: row for row in rows if row.contender == ANCHOR}
    parts.append("**Peak memory of a call beside weights and inputs**, MB (grouped_mm)\n")
    parts.append(
        _by_tokens(
            [row for row in first if row.case in dense and row.routing == first[0].routing],
            lambda row: f"{row.peak_bytes / MEGA:.1f} ({dense[row.case].peak_bytes / MEGA:.1f})",
        )
    )
    return "\n".join([*parts, _made(about)])


def models_markdown(rows: Sequence[ModelRow], about: dict[str, Any]) -> str:
    """One line a call and contender, then the means."""
    if not rows:
        return NOT_YET
    head = (
        "layer", "call", "experts", "us", "tokens/s", "of grouped_mm", "weights MB", "peak MB",
    )  # fmt: skip
    lines = [
        (
            row.config,
            row.call,
            row.contender,
            f"{row.us:.1f}",
            f"{row.tokens_per_s:.0f}",
            times(row.ratio),
            f"{row.held_bytes / MEGA:.0f}",
            f"{row.peak_bytes / MEGA:.1f}",
        )
        for row in rows
    ]
    means = [
        (each.group, each.contender, times(each.ratio), times(each.least), str(each.cases))
        for each in model_means(rows)
        if each.contender != ANCHOR
    ]
    parts = [table(head, lines)]
    parts.append(table(("geometric mean", "experts", "of grouped_mm", "least", "calls"), means))
    return "\n".join([*parts, _made(about)])


def memory_markdown(rows: Sequence[MemoryRow], about: dict[str, Any]) -> str:
    """One line a layer and memory; who tried it, if anybody did."""
    if not rows:
        return NOT_YET
    tried = any(row.measured or row.dense_measured for row in rows)
    head = ("layer", "GB", "format", "stored", "in memory", "dense", "ours", "ratio")
    lines = []
    for row in rows:
        lines.append(
            (*memory_cells(row), row.dense_measured, row.measured) if tried else memory_cells(row)
        )
    text = table((*head, "dense did", "ours did") if tried else head, lines)
    how = _made(about) if tried else f"By formula alone, for one {about.get('gpu')}.\n"
    return "\n".join([text, how])


def memory_cells(row: MemoryRow) -> tuple[str, ...]:
    """A layer, a memory and a format; the shares of dense bytes; the tokens that fit."""
    shares, (dense, ours) = (row.share, row.resident_share), row.fits
    return (
        row.config,
        str(row.gb),
        row.format,
        *(f"{100 * each:.1f} %" for each in shares),
        str(dense),
        str(ours),
        times(ours / dense if dense else None),
    )


def _by_tokens(rows: Sequence[LayerRow], cell: Any) -> str:
    """A line a layer, a column a number of tokens."""
    tokens = sorted({row.tokens for row in rows})
    found = {(row.config, row.tokens): cell(row) for row in rows}
    lines = [
        (config, *(found.get((config, each), NOTHING) for each in tokens))
        for config in dict.fromkeys(row.config for row in rows)
    ]
    return table(("layer", *(f"{each} tokens" for each in tokens)), lines)


def _time_cell(row: LayerRow) -> str:
    ratios = ", ".join(times(each) or "-" for each in (row.ratio_best, row.ratio))
    return f"{row.us:.1f} ({ratios})"


def _first_of_ours(rows: Sequence[LayerRow]) -> str:
    return next((row.contender for row in rows if row.kind == "ours"), NOTHING)


def _made(about: dict[str, Any]) -> str:
    effort = about.get("effort") or {}
    return (
        f"{about.get('gpu')}, driver {about.get('driver')}, torch {about.get('torch')}, "
        f"{about.get('date')}, {effort.get('rounds')} rounds of {effort.get('sample_ms', 0):.0f} "
        "ms.\n"
    )
