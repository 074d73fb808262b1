"""Small kernels for tests of the call: quick to compile and to simulate."""

from dataclasses import replace

import ml_dtypes
import numpy as np

import samoyeds_gen as sg
from samoyeds_gen.compiler.stream.geometry import tile_step
from samoyeds_gen.formats import Format
from samoyeds_gen.language import load_schedule, make_ssmm
from samoyeds_gen.language.schedule import Split, Stationary, Tile, Warps

PAIRS = Format(1, 2, 32)
DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


def tiny(fold, format, *, target="sm_80", k=64, **changes):
    """The shipped schedule with this fold and the smallest tile of two warps along m."""
    base = load_schedule("ssmm_sm80", format, make_ssmm(format, "bf16").dtype)
    row = format.m if fold in ("exchange", "prefix") and not format.plain else 1
    short = format.v == 16 and row > 1
    return replace(
        base,
        tile=Tile(16 * row * 2, 16, k),
        warps=Warps(2, k // 64),
        tensorize="mma_sp_m16n8k16" if short else "mma_sp_m16n8k32",
        stationary=Stationary(fold),
        pipeline=replace(base.pipeline, stages=3),
        where=(),
        **changes,
    )


def tiny_stream(fold, format, *, split=2, **changes):
    """The shipped stream with this fold, two warps each way, one group in flight, two chunks."""
    base = load_schedule("decode_sm80", format, make_ssmm(format, "bf16").dtype)
    schedule = replace(
        base,
        warps=Warps(2, 1, 2),
        stationary=Stationary(fold),
        pipeline=replace(base.pipeline, stages=4, fragments=2),
        split=Split(split),
        where=(),
        **changes,
    )
    step = tile_step(schedule, make_ssmm(format, "bf16"))
    return replace(schedule, tile=Tile(step, 16, 256))


def compiled(fold="exchange", format=PAIRS, dtype="bfloat16", **options):
    """A compiled tiny kernel; "stream-" before the fold makes it a stream."""
    stream, _, name = fold.rpartition("-")
    schedule = tiny_stream(name, format) if stream else tiny(fold, format)
    return sg.compile(schedule, n=format.n, m=format.m, v=format.v, dtype=dtype, **options)


def integers(shape, seed=0, dtype="bfloat16"):
    """Small integers: their sums are exact."""
    values = np.random.default_rng(seed).integers(-3, 4, shape)
    return values.astype(DTYPES[dtype])


def weight(m, k, format=PAIRS, seed=1, dtype="bfloat16"):
    """An encoded weight of small integers."""
    dense = integers((m, k), seed, dtype)
    return sg.encode(dense, n=format.n, m=format.m, v=format.v, dtype=dtype)


def exactly(got, expected):
    """Whether `got` is `expected` (float64) rounded to its type, NaN included."""
    rounded = expected.astype(got.dtype).astype(np.float64)
    return np.array_equal(got.astype(np.float64), rounded, equal_nan=True)
