"""Times layers of experts as they are, and with numbers of the package set to other values.

    python tests/gpu/compare_layers.py [--format N,M,V] CONFIG TOKENS[,TOKENS ..] NAME=VALUE ..

    python tests/gpu/compare_layers.py qwen3-30b-a3b 16,128 samoyeds_gen.tune.experts.EARLY_TO=0

Weights, of format (1,2,128) if none is given, tokens and routing are the same for both; outputs
must be the same bits. Calls are replayed from CUDA graphs and taken in turn. Needs a GPU; CONFIG is
a layer of `bench --suite moe`.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import torch

from samoyeds_gen.formats import Format
from samoyeds_gen.moe import on_kernels
from samoyeds_gen.moe.bench.gpu import graphs_of
from samoyeds_gen.moe.bench.rig import token_sets
from samoyeds_gen.moe.bench.routings import Batch, draw_batch
from samoyeds_gen.moe.bench.weights import LayerWeights
from samoyeds_gen.moe.experts import SparseExperts
from samoyeds_gen.runtime import device_info
from samoyeds_gen.tune.layers import Case
from samoyeds_gen.tune.layers.choice import chosen_kernels, compile_ahead, names_of
from samoyeds_gen.tune.layers.configs import config_named
from samoyeds_gen.tune.machines import machine_of
from samoyeds_gen.tune.replay import device_sample
from samoyeds_gen.tune.timing import Effort, Timed, time_interleaved

MOST_SETS = 8
EFFORT = Effort(rounds=7, sample_ms=20, settle_ms=60, warmup_s=0.2)


@contextmanager
def numbers(settings: list[str]) -> Iterator[None]:
    """The named numbers of the package as they are set, until the block ends."""
    places = []
    for setting in settings:
        path, _, value = setting.partition("=")
        module, _, name = path.rpartition(".")
        places.append((import_module(module), name, int(value)))
    before = [getattr(module, name) for module, name, _ in places]
    for module, name, value in places:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(places, before, strict=True):
            setattr(module, name, value)


def forget(experts: SparseExperts) -> list[object]:
    """Let the next call choose and prepare everything anew; what calls were prepared with."""
    on_kernels._kernel.cache_clear()
    chosen_kernels.cache_clear()
    prepared = experts.up_proj.sparse().known("prepared layers") or {}
    known = list(prepared.values())
    prepared.clear()
    experts._again = None
    return known


def captured(experts: SparseExperts, inputs: list[Batch]) -> tuple[torch.Tensor, Timed, object]:
    """What the first input comes to, the calls over all of them as graphs, and what to keep as long
    as these are replayed.
    """
    forget(experts)
    out = experts(*inputs[0]).clone()
    graphs, how = graphs_of(lambda turn: experts(*inputs[turn % len(inputs)]), len(inputs))
    if graphs is None:
        raise SystemExit(f"a call cannot be captured: {how}")
    return out, graphs, forget(experts)


def compare(case: Case, form: Format, experts: SparseExperts, settings: list[str]) -> str:
    """One case: a line of both times and what was chosen."""
    place = torch.device("cuda")
    generator = torch.Generator(place).manual_seed(case.tokens)
    sets = min(MOST_SETS, token_sets(2 * case.tokens * case.config.hidden))
    inputs = [draw_batch(case, generator) for _ in range(sets)]
    machine = machine_of(device_info())
    expected, plain, keep = captured(experts, inputs)
    was = names_of(chosen_kernels(case, form, machine))
    with numbers(settings):
        found, changed, keep_too = captured(experts, inputs)
        now = names_of(chosen_kernels(case, form, machine))
    same = "the same bits" if torch.equal(found, expected) else "OTHER OUTPUTS"
    times = time_interleaved({"as is": plain, "set": changed}, EFFORT, device_sample)
    del keep, keep_too
    before, after = times["as is"].median_us, times["set"].median_us
    what = was if was == now else f"{was} -> {now}"
    return f"{case}: {before:.1f} us, {after:.1f} us set, {before / after:.3f}x, {same}, {what}"


def main() -> int:
    """Every number of tokens."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--format", type=Format.parse, default=Format(1, 2, 128))
    parser.add_argument("config", type=config_named)
    parser.add_argument("tokens", type=lambda text: [int(each) for each in text.split(",")])
    parser.add_argument("settings", nargs="+", metavar="NAME=VALUE")
    given = parser.parse_args()
    cases = [Case(given.config, each, "uniform") for each in given.tokens]
    machine = machine_of(device_info())
    compile_ahead(cases, [given.format], machine)
    with numbers(given.settings):
        chosen_kernels.cache_clear()
        compile_ahead(cases, [given.format], machine)
    weights = LayerWeights(given.config, [given.format], torch.device("cuda"))
    experts = weights.sparse[given.format]
    for case in cases:
        print(compare(case, given.format, experts, given.settings), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
