"""The tables that `samoyeds-gen bench` prints of layers of experts and of decoder layers."""

from collections.abc import Sequence

import typer

from samoyeds_gen.cli.console import print_table
from samoyeds_gen.tune.layers.markdown import memory_cells
from samoyeds_gen.tune.layers.memory_rows import MemoryRow, PeakRow
from samoyeds_gen.tune.layers.model_rows import ModelMean, ModelRow, model_means
from samoyeds_gen.tune.layers.rows import LayerMean, LayerRow, layer_means
from samoyeds_gen.tune.layers.run import LayerResults
from samoyeds_gen.tune.markdown import times


def print_layers(results: LayerResults) -> None:
    """Every row of the suite moe, then the means, then what did not take part."""
    print_table(
        (
            "layer, tokens",
            "contender",
            ">eager us",
            ">graph us",
            ">TFLOP/s",
            ">TB/s",
            ">of grouped_mm",
            ">of best",
            ">peak MB",
            ">host us",
        ),
        [_layer_cells(row) for row in results.rows],
    )
    for row in results.rows:
        if row.replay != "graph":
            typer.echo(f"* {row.case} {row.contender}: timed from the {row.replay}")
        if "fit in L2" in row.rotated:
            typer.echo(f"* {row.case} {row.contender}: rotated are {row.rotated}")
    if results.rows:
        print_table(
            ("geometric mean", "contender", ">of grouped_mm", ">least", ">of best", ">least"),
            [_layer_mean(each) for each in layer_means(results.rows)],
        )
    _print_rest(results)


def print_models(results: LayerResults) -> None:
    """Every row of the suite model, then the means, then what did not take part."""
    print_table(
        (
            "layer, call",
            "contender",
            ">eager us",
            ">graph us",
            ">tokens/s",
            ">of grouped_mm",
            ">weights MB",
            ">peak MB",
        ),
        [_model_cells(row) for row in results.rows],
    )
    if results.rows:
        print_table(
            ("geometric mean", "contender", ">of grouped_mm", ">least", ">calls"),
            [_model_mean(each) for each in model_means(results.rows)],
        )
    _print_rest(results)


def print_memory(rows: Sequence[MemoryRow], peaks: Sequence[PeakRow]) -> None:
    """How many tokens fit, layer by layer, then measured peaks beside the formula."""
    print_table(
        (
            "layer",
            ">GB",
            "format",
            ">stored",
            ">in memory",
            ">dense tokens",
            ">our tokens",
            ">ratio",
        ),
        [memory_cells(row) for row in rows],
    )
    tried = [row for row in rows if row.measured or row.dense_measured]
    if tried:
        print_table(
            ("layer", ">GB", "dense did", "ours did"),
            [(row.config, str(row.gb), row.dense_measured, row.measured) for row in tried],
        )
    if peaks:
        print_table(
            ("layer", "contender", ">tokens", ">peak MB", ">by formula"),
            [_peak_cells(row) for row in peaks],
        )


def _print_rest(results: LayerResults) -> None:
    if results.failed:
        print_table(
            ("layer, tokens", "left out", "why"),
            [(f"{r.config} {r.tokens}", r.contender, r.error) for r in results.failed],
        )
    if results.cut:
        typer.echo(f"{results.cut} cases were left out for time")


def _layer_cells(row: LayerRow) -> tuple[str, ...]:
    return (
        row.case,
        row.contender,
        f"{row.us_eager:.1f}",
        "" if row.us_graph is None else f"{row.us_graph:.1f}",
        f"{row.tflops:.0f}",
        f"{row.weight_tbs:.2f}",
        times(row.ratio),
        times(row.ratio_best),
        f"{row.peak_bytes / 1e6:.1f}",
        f"{row.host_us:.0f}",
    )


def _layer_mean(mean: LayerMean) -> tuple[str, ...]:
    group = mean.group if mean.routing == "uniform" else f"{mean.group}, {mean.routing}"
    ratios = (mean.ratio, mean.least, mean.ratio_best, mean.least_best)
    return (group, mean.contender, *map(times, ratios))


def _model_cells(row: ModelRow) -> tuple[str, ...]:
    return (
        row.case,
        row.contender,
        f"{row.us_eager:.1f}",
        "" if row.us_graph is None else f"{row.us_graph:.1f}",
        f"{row.tokens_per_s:.0f}",
        times(row.ratio),
        f"{row.held_bytes / 1e6:.0f}",
        f"{row.peak_bytes / 1e6:.1f}",
    )


def _model_mean(mean: ModelMean) -> tuple[str, ...]:
    return mean.group, mean.contender, times(mean.ratio), times(mean.least), str(mean.cases)


def _peak_cells(row: PeakRow) -> tuple[str, ...]:
    peak, formula = row.peak_bytes / 1e6, row.formula_bytes / 1e6
    return row.config, row.contender, str(row.tokens), f"{peak:.1f}", f"{formula:.1f}"
