"""Grouped kernels in the simulator: every expert's rows are products with its own weight."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from expert_products import device_run, experts_of, integers, within
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny

import samoyeds_gen as sg
from samoyeds_gen.errors import LaunchError, ScheduleError
from samoyeds_gen.formats import Format
from samoyeds_gen.language import dtype_named, load_schedule
from samoyeds_gen.language.schedule import Pipeline, Raster, Tile
from samoyeds_gen.reference import grouped_with_bound

HOPPER = "hopper"
CASES = [
    *((HOPPER, Format(1, 2, v)) for v in (64, 128)),
    *((HOPPER, Format(n, m, v)) for n, m, v in ((2, 4, 32), (1, 1, 32), (4, 8, 16))),
    *(("prefix", Format(1, m, v)) for m, v in ((2, 64), (4, 32))),
    *(("exchange", Format(1, m, v)) for m, v in ((2, 128), (4, 64))),
    *(("expand", Format(n, m, v)) for n, m, v in ((2, 4, 32), (1, 1, 32), (4, 8, 16), (1, 2, 16))),
]
PIPELINES = [(HOPPER, Format(1, 2, 64)), ("prefix", Format(1, 2, 64))]
each_case = pytest.mark.parametrize(("shape", "form"), CASES, ids=str)
each_pipeline = pytest.mark.parametrize(("shape", "form"), PIPELINES, ids=str)


def small(shape, form):
    """A schedule with few tokens a tile, which is quick to simulate: Hopper's, or of the ring with
    a fold.
    """
    if shape != HOPPER:
        return tiny(shape, form, raster=Raster(2))
    base = load_schedule("ssmm_sm90", form, dtype_named("bfloat16"))
    tile = Tile(base.tile.m, 16, base.tile.k)
    return replace(base, name="small", tile=tile, pipeline=Pipeline(3, "tma"), where=())


@cache
def compiled(shape, form, **options):
    f = form
    return sg.compile_grouped(small(shape, form), n=f.n, m=f.m, v=f.v, **options)


def close(kernel, w, tokens, offsets, selection=None, **more):
    """Whether every element is within its bound; NaN stands for what was never written."""
    out = kernel(w, tokens, offsets, selection, device="cpu", **more)
    problem = kernel.problem
    value, bound = grouped_with_bound(
        w,
        tokens,
        offsets,
        selection,
        gate_block=kernel.gate_block,
        fold=kernel.variant.plan.schedule.stationary.fold,
        activation=problem.activation,
        **more,
    )
    assert out.shape == value.shape
    assert (np.abs(out.astype(np.float64) - value) <= bound).all()
    return out


counts = st.lists(st.sampled_from((0, 0, 1, 3, 15, 16, 17, 33)), min_size=1, max_size=5)


@each_case
@settings(max_examples=4, deadline=None)
@given(counts=counts, seed=st.integers(0, 2**16))
def test_rows_are_products_with_their_expert(shape, form, counts, seed):
    rng = np.random.default_rng(seed)
    rows, k = form.m * int(rng.integers(1, 40)), int(rng.choice((40, 128, 200)))
    w = experts_of(form, len(counts), rows, k, rng)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    tokens = integers(rng, offsets[-1], k).astype(w.numpy().data.dtype)
    scale = rng.standard_normal(offsets[-1]).astype(np.float32)
    close(compiled(shape, form, scale=True), w, tokens, offsets, scale=scale)


@each_case
@settings(max_examples=4, deadline=None)
@given(counts=counts, seed=st.integers(0, 2**16))
def test_gates_meet_their_up_projections(shape, form, counts, seed):
    rng = np.random.default_rng(seed)
    kernel = compiled(shape, form, index="int32", activation="silu", gated=True)
    rows, k = kernel.gate_block * int(rng.integers(1, 9)), int(rng.choice((40, 128, 200)))
    w = experts_of(form, len(counts), rows, k, rng, kernel.gate_block)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    tokens = integers(rng, 24, k).astype(w.numpy().data.dtype)
    selection = rng.integers(0, 24, offsets[-1]).astype(np.int32)
    close(kernel, w, tokens, offsets, selection)


@each_pipeline
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
def test_other_gates_and_plain_experts(shape, form, activation):
    rng = np.random.default_rng(1)
    offsets = np.array([0, 5, 5, 40], np.int32)
    tokens = integers(rng, 40, 128).astype(experts_of(form, 1, 2, 16, rng).numpy().data.dtype)
    gated = compiled(shape, form, activation=activation, gated=True)
    close(gated, experts_of(form, 3, 64, 128, rng, gated.gate_block), tokens, offsets)
    plain = compiled(shape, form, activation=activation, bias=True)
    bias = rng.standard_normal(3 * 130).astype(np.float32)
    close(plain, experts_of(form, 3, 130, 128, rng), tokens, offsets, bias=bias)


@each_pipeline
def test_many_experts_and_none_with_tokens(shape, form):
    rng = np.random.default_rng(2)
    kernel = compiled(shape, form)
    counts = np.zeros(70, np.int32)
    counts[[3, 31, 32, 63, 69]] = 2, 1, 17, 1, 3
    w = experts_of(form, 70, 2, 64, rng)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    tokens = integers(rng, offsets[-1], 64).astype(w.numpy().data.dtype)
    close(kernel, w, tokens, offsets)
    assert kernel(w, tokens[:0], np.zeros(71, np.int32), device="cpu").shape == (0, 2)


@each_pipeline
@pytest.mark.parametrize(
    "ends", [(0, 5, 30, 90), (0, 5, 5, 11), (0, 10, 5, 5)], ids=["beyond", "short", "falling"]
)
def test_device_counts_never_reach_beyond_the_rows(shape, form, ends):
    """Counts on a GPU are not read by the host: rows that no expert owns stay as they were."""
    rng = np.random.default_rng(4)
    kernel = compiled(shape, form)
    w = experts_of(form, 3, 40, 64, rng)
    tokens = integers(rng, 20, 64).astype(w.numpy().data.dtype)
    assert within(kernel, device_run(kernel, w, tokens, ends), w, tokens, np.array(ends))


def test_tile_rows_are_walked_in_groups():
    """Three tile rows, walked two and one at a time, of experts that have several tile columns."""
    form, rng = Format(1, 2, 64), np.random.default_rng(5)
    kernel = compiled("prefix", form)
    w = experts_of(form, 3, 150, 64, rng)
    offsets = np.array([0, 40, 41, 90], np.int32)
    close(kernel, w, integers(rng, 90, 64).astype(w.numpy().data.dtype), offsets)


def test_the_ring_launches_as_many_tiles_as_counts_can_make():
    plan = compiled("prefix", Format(1, 2, 64)).variant.plan
    assert plan.tile[:2] == (64, 16)
    assert plan.grid(128, 33, 132, experts=1) == (2 * 3, 1, 1)
    assert plan.grid(128, 33, 132, experts=4) == (2 * 6, 1, 1)
    assert plan.grid(128, 2, 132, experts=64) == (2 * 2, 1, 1)  # no more than rows


def refused(**changes):
    form, rng = Format(1, 2, 64), np.random.default_rng(3)
    w = experts_of(form, 2, 64, 64, rng, 16)
    given = {
        "w": w,
        "tokens": integers(rng, 6, 64).astype(w.numpy().data.dtype),
        "offsets": np.array([0, 2, 6], np.int32),
        "selection": None,
        "scale": None,
    } | changes
    kernel = compiled(HOPPER, form, activation="silu", gated=True)
    with pytest.raises(LaunchError) as caught:
        kernel(given.pop("w"), given.pop("tokens"), given.pop("offsets"), device="cpu", **given)
    return str(caught.value)


def test_refusals():
    offsets = lambda *values: np.array(values, np.int32)  # noqa: E731
    assert "offsets go from 1 to 6, they have to rise from 0 to n=6" in refused(
        offsets=offsets(1, 2, 6)
    )
    assert "offsets[2] falls to 1" in refused(offsets=offsets(0, 2, 1))
    assert "they have to rise from 0 to n=6" in refused(offsets=offsets(0, 2, 5))
    assert "1 to 511 experts" in refused(offsets=offsets(0))
    assert "each needs the same number of rows, a multiple of 32" in refused(
        offsets=offsets(0, 1, 2, 6)
    )
    assert "int32" in refused(offsets=np.array([0, 2, 6]))
    assert "scale is True, the kernel is compiled for none" in refused(scale=np.ones(6, np.float32))
    assert "selection is int32" in refused(selection=np.zeros(6, np.int32))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"activation": None, "gated": True}, "activation"),
        ({"activation": "silu", "gated": True, "bias": True}, "activation"),
        ({"schedule": "decode_sm80"}, "one-weight"),
        ({"form": Format(8, 16, 32), "activation": "silu", "gated": True}, "gate-rows"),
        ({"schedule": "ssmm_sm80_expand", "activation": "silu", "gated": True}, "gate-rows"),
    ],
)
def test_schedules_that_cannot_be_grouped(changes, rule):
    changes = dict(changes)
    f = changes.pop("form", Format(1, 2, 64))
    with pytest.raises(ScheduleError) as caught:
        sg.compile_grouped(changes.pop("schedule", "ssmm_sm90"), n=f.n, m=f.m, v=f.v, **changes)
    assert caught.value.rule == rule
