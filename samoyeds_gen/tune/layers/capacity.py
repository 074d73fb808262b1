"""How much memory a layer call takes, by formula, and how many tokens fit.

Decides what counts: all weights of one layer, what a call is given and returns, and intermediate
arrays that are alive at the same time. Pieces that no number of tokens changes much (a context,
workspaces of libraries) are one allowance.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from samoyeds_gen.compiler import Plan, compile_plan
from samoyeds_gen.compiler.routing import MOST_ALONE, chunk_of
from samoyeds_gen.formats import Format
from samoyeds_gen.formats.weight import expected_arrays
from samoyeds_gen.kernel.prepared import ALIGNMENT
from samoyeds_gen.kernel.routing_steps import SORT_ALONE
from samoyeds_gen.language import target_named
from samoyeds_gen.tune.buckets import bucket
from samoyeds_gen.tune.layers.choice import chosen_kernels
from samoyeds_gen.tune.layers.configs import Case, LayerConfig
from samoyeds_gen.tune.machines import Machine

GB: Final = 10**9
CAPACITIES: Final = (24, 80, 141)
"""Memories, in GB, for which the largest number of tokens is said."""

ALLOWANCE: Final = GB
"""Bytes left for a context, kernels, workspaces of libraries, and the allocator's rounding."""

MOST_TOKENS: Final = 2**24
BYTES: Final = {"bfloat16": 2, "float16": 2, "uint32": 4, "uint8": 1}
FORMULA: Final = (
    "weights of one layer + inputs (tokens, chosen experts int64, weights float32) + what a call "
    "holds at most <= memory - 1 GB. Ours: routing, the gated intermediate, a row a choice, and "
    "the output. grouped_mm: sorted order, and the largest of chosen tokens with gate and up, gate "
    "and up with the gated intermediate, that with a row a choice, and this with the output"
)


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes of all weights of a layer: as stored, and of these in a GPU's memory the values, beside
    them the words packed of metadata and indices, which themselves stay on the host.
    """

    stored: int
    values: int
    words: int

    @property
    def resident(self) -> int:
        """What lies in a GPU's memory, which is what a call reads."""
        return self.values + self.words


def dense_activation(config: LayerConfig, tokens: int) -> int:
    """Bytes of the grouped peer's intermediate arrays and output where most are alive.

    With S = tokens * top rows: sorted keys and order 10 S, and the largest of chosen tokens 2 S H
    with gate and up 4 S I, those with the gated intermediate 2 S I, that with its product 2 S H,
    and this with its places 8 S and the output.
    """
    rows, h, i = tokens * config.top, config.hidden, config.inner
    end = 2 * rows * h + 8 * rows + 2 * tokens * h
    return 10 * rows + max(2 * rows * h + 4 * rows * i, 6 * rows * i, 2 * rows * (h + i), end)


def sparse_activation(config: LayerConfig, tokens: int) -> int:
    """Bytes of our call's output and intermediate arrays, `ExpertsCall.workspace_bytes`.

    Tokens that are packed for the first product lie where the rows of the second one will.
    """
    rows, top = tokens * config.top, config.top
    arrays = [4 * tokens * top, 4 * tokens * top, 4 * (config.experts + 1), 4 * rows, 4 * rows]
    arrays.append(4 * tokens * top)
    if tokens > min(SORT_ALONE, MOST_ALONE):
        arrays.append(4 * -(-tokens // chunk_of(tokens)) * config.experts)
    arrays += [2 * rows * config.inner, 2 * rows * config.hidden]
    workspace = sum(-(-each // ALIGNMENT) * ALIGNMENT for each in arrays)
    return workspace + 2 * tokens * config.hidden


def given_bytes(config: LayerConfig, tokens: int) -> int:
    """Bytes of a call's inputs."""
    return tokens * (2 * config.hidden + 12 * config.top)


def held(config: LayerConfig, form: Format, tokens: int, machine: Machine) -> Held:
    """Bytes of our weights, with the words that a call of so many tokens reads beside values."""
    return _held(config, form, bucket(tokens), machine)


@lru_cache(maxsize=4096)
def _held(config: LayerConfig, form: Format, tokens: int, machine: Machine) -> Held:
    """Those of all numbers of tokens of a bucket, whose kernels are the same."""
    stored = values = words = 0
    kernels = chosen_kernels(Case(config, tokens), form, machine)
    shapes = ((2 * config.inner, config.hidden), (config.hidden, config.inner))
    for kernel, (m, k) in zip(kernels, shapes, strict=True):
        arrays = expected_arrays(form, "bfloat16", (m, k))
        stored += sum(BYTES[kind] * rows * columns for kind, (rows, columns) in arrays.values())
        plan = compile_plan(kernel.schedule, kernel.problem, target_named(machine.target))
        rows, columns = arrays["data"][1]
        values += 2 * rows * columns
        words += packed_bytes(plan, form, m, k)
    return Held(*(config.experts * each for each in (stored, values, words)))


def packed_bytes(plan: Plan, form: Format, m: int, k: int) -> int:
    """Bytes of the derived arrays that a plan of warpgroups reads of one weight [m, k]."""
    total = 0
    for packing in plan.packings:
        assert packing.source == "weight.words", f"{packing.source} is not of a warpgroup"
        rows = form.stored_rows(m) if packing.rows == "stored" else form.bands(m) * form.m
        groups = -(-rows // packing.row_multiple) * packing.row_multiple // 64
        tiles = -(-k // packing.k_multiple)
        block = 8 * packing.k_multiple
        block += {"prefix": (form.m - 1) * 64, "expand": 256}.get(packing.fold, 0)
        total += groups * tiles * block
    return total


def largest(need: Callable[[int], int], capacity: int) -> int:
    """The most tokens with need(tokens) <= capacity, 0 where not even one fits.

    `need` grows with tokens.
    """
    low, high = 0, 1
    while high <= MOST_TOKENS and need(high) <= capacity:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if need(middle) <= capacity else (low, middle)
    return low


def dense_need(config: LayerConfig, tokens: int) -> int:
    """Bytes that the grouped peer takes in all, with the row numbers that it keeps."""
    given, numbers = given_bytes(config, tokens), 8 * tokens * config.top
    return config.dense_bytes + given + numbers + dense_activation(config, tokens)


def sparse_need(config: LayerConfig, tokens: int, form: Format, machine: Machine) -> int:
    """Bytes that our layer takes in all."""
    weights = held(config, form, tokens, machine).resident
    return weights + given_bytes(config, tokens) + sparse_activation(config, tokens)
