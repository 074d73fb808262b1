"""The suites of `samoyeds-gen bench` about layers of experts: what they are asked for and print.

Files named with -o are written again after every case, so that a run may end at any moment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from samoyeds_gen.cli import benching
from samoyeds_gen.cli.console import print_table, steps
from samoyeds_gen.errors import TuneError
from samoyeds_gen.formats import Format
from samoyeds_gen.pictures import draw_layers
from samoyeds_gen.runtime import device_info
from samoyeds_gen.tune.layers import CONFIGS, TOKENS, Case, cases_of, config_named
from samoyeds_gen.tune.layers.best import read_peers
from samoyeds_gen.tune.layers.rows import LayerMean, LayerRow, layers_json, rows_csv
from samoyeds_gen.tune.layers.run import LayerResults, run_layers
from samoyeds_gen.tune.machines import machine_of
from samoyeds_gen.tune.timing import FULL, QUICK, Effort


@dataclass(frozen=True, slots=True)
class LayerRequest:
    """The options of a suite of layers as they were given."""

    configs: Sequence[str] | None
    tokens: str | None
    routing: str
    rounds: int | None
    quick: bool
    peers: bool
    outputs: Sequence[Path]
    within: float | None

    @property
    def effort(self) -> Effort:
        """How long to time."""
        base = QUICK if self.quick else FULL
        return Effort(self.rounds or base.rounds, base.sample_ms, base.settle_ms, base.warmup_s)


def bench_layers(suite: str, formats: Sequence[Format], given: LayerRequest) -> None:
    """Run a suite of layers on the present GPU."""
    bench_moe(formats, given)


def bench_moe(formats: Sequence[Format], given: LayerRequest) -> None:
    """The suite moe: layers of experts, without their router, beside dense ones."""
    configs = [config_named(name) for name in given.configs or []] or list(CONFIGS)
    cases = cases_of(configs, parse_tokens(given.tokens), given.routing)
    benching.require_torch("bench", "for its layers and the float64 check")
    about = {**benching.about(given.effort), "suite": "moe"}

    def written(results: LayerResults) -> None:
        for path in given.outputs:
            path.write_text(as_file(path, results, about))

    results = measure_layers(cases, formats, given, written)
    print_layers(results)
    typer.echo(f"{device_info()}, bfloat16, {given.effort.rounds} rounds")


def measure_layers(
    cases: Sequence[Case],
    formats: Sequence[Format],
    given: LayerRequest,
    written: Callable[[LayerResults], None],
) -> LayerResults:
    """Run the comparison on the present GPU with its progress on stderr."""
    from samoyeds_gen.moe.bench.rig import TorchLayerRig
    from samoyeds_gen.tune.layers.choice import compile_ahead

    machine = machine_of(device_info())
    with steps("bench") as advance:
        advance(0, len(cases), "compiling")
        compile_ahead(cases, formats, machine)
        return run_layers(
            cases,
            TorchLayerRig(machine, formats, with_peers=given.peers),
            given.effort,
            read_peers(),
            progress=advance,
            written=written,
            within=given.within,
        )


def as_file(path: Path, results: LayerResults, about: dict[str, object]) -> str:
    """What a file with this suffix holds of the results."""
    if path.suffix == ".svg":
        return draw_layers(results.rows, title=str(about["gpu"]))
    if path.suffix == ".csv":
        return rows_csv(results.rows, LayerRow)
    return layers_json(results.rows, results.failed, about)


def parse_tokens(text: str | None) -> list[int]:
    """Numbers of tokens from "16,128"; those of the suite without a text. Raises TuneError."""
    if text is None:
        return list(TOKENS)
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise TuneError(
            f"tokens {text!r} are not whole numbers", remedy="write them as 16,128"
        ) from None


def print_layers(results: LayerResults) -> None:
    """Every row, then the means, then what did not take part."""
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
        [_cells(row) for row in results.rows],
    )
    if results.means:
        print_table(
            ("geometric mean", "contender", ">of grouped_mm", ">least", ">of best", ">least"),
            [_mean(each) for each in results.means],
        )
    if results.failed:
        print_table(
            ("layer, tokens", "left out", "why"),
            [(f"{r.config} {r.tokens}", r.contender, r.error) for r in results.failed],
        )
    if results.cut:
        typer.echo(f"{results.cut} cases were left out for time")


def _cells(row: LayerRow) -> tuple[str, ...]:
    return (
        row.case,
        row.contender,
        f"{row.us_eager:.1f}",
        "" if row.us_graph is None else f"{row.us_graph:.1f}",
        f"{row.tflops:.0f}",
        f"{row.weight_tbs:.2f}",
        _times(row.ratio),
        _times(row.ratio_best),
        f"{row.peak_bytes / 1e6:.1f}",
        f"{row.host_us:.0f}",
    )


def _mean(mean: LayerMean) -> tuple[str, ...]:
    group = mean.group if mean.routing == "uniform" else f"{mean.group}, {mean.routing}"
    ratios = (mean.ratio, mean.least, mean.ratio_best, mean.least_best)
    return (group, mean.contender, *map(_times, ratios))


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"
