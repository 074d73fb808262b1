"""The formula of what fits, held against a GPU: peaks of calls, and calls at the limit.

A memory smaller than the GPU's is one that torch may not allocate more of.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch

from samoyeds_gen.errors import SamoyedsError
from samoyeds_gen.formats import Format
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.moe.bench.dense import GroupedExperts
from samoyeds_gen.moe.bench.gpu import give_back, peak_bytes
from samoyeds_gen.moe.bench.peers import Layer
from samoyeds_gen.moe.bench.routings import Batch
from samoyeds_gen.moe.bench.weights import LayerWeights
from samoyeds_gen.tune.layers import LayerConfig
from samoyeds_gen.tune.layers.best import ANCHOR
from samoyeds_gen.tune.layers.capacity import (
    ALLOWANCE,
    GB,
    dense_activation,
    held,
    sparse_activation,
)
from samoyeds_gen.tune.layers.memory_rows import MemoryRow, PeakRow
from samoyeds_gen.tune.machines import Machine
from samoyeds_gen.tune.replay import first_line

PEAK_TOKENS = (128, 4096)
ROUNDING = 200 * 10**6
"""Bytes of the allowance that are left to torch, which allocates in blocks of several MB."""

FITS, NO = "fits", "does not fit"
HALVES = (1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64)
"""Of the tokens by formula: the steps of a search below them."""

BEYOND = 1.03
"""Times the tokens by formula, with which a call is to fail."""


def measure_memory(
    config: LayerConfig,
    form: Format,
    rows: Sequence[MemoryRow],
    machine: Machine,
    device: str = "cuda",
) -> tuple[list[MemoryRow], list[PeakRow]]:
    """The rows of a layer with what the GPU did, and peaks of a few calls beside the formula."""
    weights = LayerWeights(config, [form], torch.device(device))
    dense, ours = GroupedExperts(weights.gate_up, weights.down), weights.sparse[form]
    del weights
    own = config.dense_bytes
    peaks = peaks_of(ANCHOR, dense, config, partial(dense_activation, config), device)
    found = []
    for row in rows:
        seen, said = tried(dense, config, row.dense_tokens, row.gb, own)
        found.append(replace(row, dense_seen=seen, dense_measured=said))
    del dense
    name = f"ours ({form})"
    peaks += peaks_of(name, ours, config, partial(sparse_activation, config), device)
    for place, row in enumerate(found):
        weighs = held(config, form, max(1, row.tokens), machine)
        # Words lie outside of torch's memory.
        seen, said = tried(ours, config, row.tokens, row.gb, weighs.values, weighs.words)
        found[place] = replace(row, seen=seen, measured=said)
    return found, peaks


def peaks_of(
    name: str, layer: Layer, config: LayerConfig, formula: Callable[[int], int], device: str
) -> list[PeakRow]:
    """Peaks of a few calls beside those by formula."""
    peaks = []
    for tokens in PEAK_TOKENS:
        batch = plain_batch(config, tokens, device)
        layer(*batch)  # compiles, and packs weights
        peak = peak_bytes(partial(layer, *batch))
        row = PeakRow(
            config=config.name,
            contender=name,
            tokens=tokens,
            peak_bytes=peak,
            formula_bytes=formula(tokens),
        )
        peaks.append(row)
    return peaks


def tried(
    layer: Layer, config: LayerConfig, tokens: int, gb: int, own: int, outside: int = 0
) -> tuple[int, str]:
    """The most tokens of a call in a memory of `gb` GB: as many as given, if they fit and a few
    more do not, else by bisection below. And what was seen, in words.

    `own` are the bytes of the layer's weights in torch's memory, `outside` those beside it.
    """
    if not tokens:
        return 0, "weights do not fit"
    give_back()
    # What torch has asked for and cannot give back counts: gaps beside what is alive, too.
    others = max(0, int(torch.cuda.memory_reserved()) - own)
    most = gb * GB - ALLOWANCE + ROUNDING - outside + others
    did = partial(_did, layer, config, most=most)
    if (said := did(tokens)) == FITS:
        return tokens, f"{FITS}; {BEYOND:g} times as many: {did(int(tokens * BEYOND))}"
    low, high = 0, tokens
    for share in HALVES:
        middle = high - int(share * tokens)
        low, high = (middle, high) if did(middle) == FITS else (low, middle)
    return low, f"{said}; {low} {FITS}, {high} {NO}"


def _did(layer: Layer, config: LayerConfig, tokens: int, most: int) -> str:
    try:
        batch = plain_batch(config, tokens, "cuda")
        with limited(most):
            layer(*batch)
            torch.cuda.synchronize()
    except torch.cuda.OutOfMemoryError:
        return NO
    except (SamoyedsError, RuntimeError) as error:
        return first_line(error)
    finally:
        batch = Batch(*[torch.empty(0)] * 3)  # what it held is given back
        give_back()
    return FITS


@contextmanager
def limited(nbytes: int) -> Iterator[None]:
    """Let torch have no more than `nbytes` of the GPU inside."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, nbytes / total))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def plain_batch(config: LayerConfig, tokens: int, device: str) -> Batch:
    """Random tokens, each with `top` neighbouring experts, made without further memory."""
    made = torch.empty(tokens, config.hidden, dtype=torch.bfloat16, device=device)
    first = torch.randint(config.experts, (tokens, 1), device=device)
    chosen = (first + torch.arange(config.top, device=device)).remainder_(config.experts)
    weights: Array = torch.full((tokens, config.top), 1 / config.top, device=device)
    return Batch(made.normal_(), chosen, weights)
