"""The suites of `samoyeds-gen bench` about layers of experts: what they are asked for and print.

Files named with -o are written again after every case, so that a run may end at any moment.
"""

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from samoyeds_gen.cli import benching
from samoyeds_gen.cli.console import steps
from samoyeds_gen.cli.layer_tables import print_layers, print_memory, print_models
from samoyeds_gen.errors import TuneError
from samoyeds_gen.formats import Format
from samoyeds_gen.pictures import draw_layers, draw_models
from samoyeds_gen.runtime import device_info, driver_present
from samoyeds_gen.tune.layers import CONFIGS, TOKENS, Case, LayerConfig, cases_of, config_named
from samoyeds_gen.tune.layers.best import read_peers
from samoyeds_gen.tune.layers.capacity import FORMULA
from samoyeds_gen.tune.layers.memory_rows import MemoryRow, PeakRow, memory_json, memory_rows
from samoyeds_gen.tune.layers.model_rows import ModelRow, model_rows, models_json
from samoyeds_gen.tune.layers.models import MODELS, ModelCase, model_cases, model_named
from samoyeds_gen.tune.layers.resume import begun, left
from samoyeds_gen.tune.layers.rows import LayerRow, layer_rows, layers_json, rows_csv
from samoyeds_gen.tune.layers.run import LayerResults, Written, run_layers
from samoyeds_gen.tune.machines import Machine, machine_named, machine_of
from samoyeds_gen.tune.results import require_suffix
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
    resume: bool = False

    @property
    def effort(self) -> Effort:
        """How long to time."""
        base = QUICK if self.quick else FULL
        return Effort(self.rounds or base.rounds, base.sample_ms, base.settle_ms, base.warmup_s)


def bench_layers(suite: str, formats: Sequence[Format], given: LayerRequest) -> None:
    """Run a suite of layers on the present GPU."""
    {"moe": bench_moe, "model": bench_models, "memory": bench_memory}[suite](formats, given)


def bench_moe(formats: Sequence[Format], given: LayerRequest) -> None:
    """The suite moe: layers of experts, without their router, beside dense ones."""
    configs = [config_named(name) for name in given.configs or []] or list(CONFIGS)
    cases = cases_of(configs, parse_tokens(given.tokens), given.routing)
    benching.require_torch("bench", "for its layers and the float64 check")
    about = {**benching.about(given.effort), "suite": "moe"}
    written = _writer(given, about, draw_layers, LayerRow, layers_json)
    done = LayerResults()
    if given.resume:
        done = begun(_resumed(given), about)
        cases = left(cases, formats, done)
    results = measure_layers(cases, formats, given, written, done)
    print_layers(results)
    _sign(given)


def bench_models(formats: Sequence[Format], given: LayerRequest) -> None:
    """The suite model: decoder layers, with attention and router, beside dense ones."""
    _refuse_options("model", given)
    models = [model_named(name) for name in given.configs or []] or list(MODELS)
    benching.require_torch("bench", "for its layers and the float64 check")
    about = {**benching.about(given.effort), "suite": "model"}
    written = _writer(given, about, draw_models, ModelRow, models_json)
    print_models(measure_models(model_cases(models), formats, given, written))
    _sign(given)


def bench_memory(formats: Sequence[Format], given: LayerRequest) -> None:
    """The suite memory: how many tokens fit, by formula, and on a GPU where there is one."""
    _refuse_options("memory", given)
    for path in given.outputs:
        require_suffix(path, (".json", ".csv"))
    configs = [config_named(name) for name in given.configs or []] or list(CONFIGS)
    machine = machine_of(device_info()) if driver_present() else machine_named("H200")
    measured = driver_present() and importlib.util.find_spec("torch") is not None
    about = benching.about(given.effort) if measured else {"gpu": machine.name, "measured": False}
    rows: list[MemoryRow] = []
    peaks: list[PeakRow] = []
    total, start = len(configs) * len(formats), time.monotonic()
    with steps("bench") as advance:
        for done, (config, form) in enumerate((c, f) for c in configs for f in formats):
            advance(done, total, f"{config.name} {form}")
            found: list[MemoryRow] = memory_rows(config, form, machine)
            seen: list[PeakRow] = []
            late = given.within is not None and time.monotonic() - start > given.within
            if measured and not late:
                found, seen = measure_memory(config, form, found, machine)
            rows, peaks = rows + found, peaks + seen
            for path in given.outputs:
                text = memory_json(rows, peaks, {**about, "suite": "memory"})
                path.write_text(rows_csv(rows, MemoryRow) if path.suffix == ".csv" else text)
    print_memory(rows, peaks)
    typer.echo(f"{machine.name}; {FORMULA}")


def measure_memory(
    config: LayerConfig, form: Format, rows: list[MemoryRow], machine: Machine
) -> tuple[list[MemoryRow], list[PeakRow]]:
    """The rows of one layer with what the present GPU did."""
    from samoyeds_gen.moe.bench import memory

    return memory.measure_memory(config, form, rows, machine)


def measure_layers(
    cases: Sequence[Case],
    formats: Sequence[Format],
    given: LayerRequest,
    written: Written,
    done: LayerResults,
) -> LayerResults:
    """Run the comparison of experts on the present GPU with its progress on stderr.

    Results are added to those that are `done`.
    """
    from samoyeds_gen.moe.bench.rig import TorchLayerRig
    from samoyeds_gen.tune.layers.choice import compile_ahead

    machine, peers = machine_of(device_info()), read_peers()
    with steps("bench") as advance:
        advance(0, len(cases), "compiling")
        compile_ahead(cases, formats, machine)
        return run_layers(
            cases,
            TorchLayerRig(machine, formats, with_peers=given.peers),
            given.effort,
            lambda case, ready, timings: layer_rows(case, ready, timings, peers.best(case)),
            progress=advance,
            written=written,
            within=given.within,
            begun=done,
        )


def measure_models(
    cases: Sequence[ModelCase], formats: Sequence[Format], given: LayerRequest, written: Written
) -> LayerResults:
    """Run the comparison of decoder layers on the present GPU with its progress on stderr."""
    from samoyeds_gen.moe.bench.model_rig import TorchModelRig

    with steps("bench") as advance:
        return run_layers(
            cases,
            TorchModelRig(formats),
            given.effort,
            model_rows,
            progress=advance,
            written=written,
            within=given.within,
        )


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


def _writer(
    given: LayerRequest,
    about: dict[str, object],
    draw: Callable[..., str],
    kind: type,
    as_json: Callable[..., str],
) -> Written:
    """Writes every file that was asked for: a picture, rows of a `kind`, or all as JSON."""

    def written(results: LayerResults) -> None:
        for path in given.outputs:
            match path.suffix:
                case ".svg":
                    text = draw(results.rows, title=str(about["gpu"]))
                case ".csv":
                    text = rows_csv(results.rows, kind)
                case _:
                    text = as_json(results.rows, results.failed, about)
            path.write_text(text)

    return written


def _resumed(given: LayerRequest) -> Path:
    """The file that a run goes on with."""
    for path in given.outputs:
        if path.suffix == ".json":
            return path
    raise TuneError(
        "--resume goes on with the cases of a .json file, but no -o names one",
        remedy="add -o FILE.json",
    )


def _refuse_options(suite: str, given: LayerRequest) -> None:
    if given.tokens is not None or given.routing != "uniform" or given.resume:
        raise TuneError(
            f"--tokens, --routing and --resume are options of the suite moe, not of {suite}",
            remedy="leave them out",
        )


def _sign(given: LayerRequest) -> None:
    typer.echo(f"{device_info()}, bfloat16, {given.effort.rounds} rounds")
