"""What lies on a GPU of a stack of weights: data, and one set of words for every tile in use."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from expert_products import experts_of, integers
from test_grouped import close

import samoyeds_gen as sg
from samoyeds_gen.compiler import compile_plan
from samoyeds_gen.formats import Format, encode
from samoyeds_gen.kernel import packing, share_packings
from samoyeds_gen.language import dtype_named, load_schedule, make_ssmm, target_named
from samoyeds_gen.language.schedule import Epilogue, Overlap, Pipeline, Tile, Warps
from samoyeds_gen.runtime import ArrayView
from samoyeds_gen.runtime.arrays import row_major
from samoyeds_gen.tune.experts import ExpertTask, expert_schedules
from samoyeds_gen.tune.machines import machine_named

SHARE = 0.29  # of dense bytes
EXPERTS = 3
TARGET = target_named("sm_90a")
PRODUCTS = {
    "gate and up": {"index": "int32", "gated": True, "activation": "silu"},
    "down": {"scale": True},
}


def plans_in_use(form, rows, k, options):
    """Plans of the schedules a layer may call: for few tokens and for many, of each height."""
    problem = make_ssmm(form, "bfloat16", grouped=True, **options)
    chosen = {}
    for tokens in (1, 256, 1024, 8192):
        task = ExpertTask(rows, k, EXPERTS, 2, tokens)
        for schedule in expert_schedules(task, problem, machine_named("H200")):
            chosen.setdefault((schedule.tile, schedule.pack), schedule)
    return [compile_plan(each, problem, TARGET) for each in chosen.values()]


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("v", [32, 64, 128, 256])
def test_data_and_words_of_all_schedules_take_29_percent(v, product):
    rows, k = 2 * 448, 512  # 448 stored rows are no multiple of a tile of two or three warpgroups
    w = encode(np.random.default_rng(v).standard_normal((EXPERTS * rows, k)), n=1, m=2, v=v)
    plans = plans_in_use(w.format, rows, k, PRODUCTS[product])
    assert {plan.geometry.consumers for plan in plans} == {2, 3}
    resident = {id(w.data): w.data}
    for plan in plans:
        assert plan.takes("weight.data")
        resident |= {id(words): words for words in packing.packed(w, plan, EXPERTS).values()}
    assert len(resident) == 2
    dense = 2 * EXPERTS * rows * k
    assert dense / 4 < sum(each.nbytes for each in resident.values()) <= SHARE * dense


@pytest.fixture
def uploads(monkeypatch):
    """What is uploaded, with weak references to what was on the host."""
    found = []

    def stage(array, device):
        found.append(weakref.ref(array))
        return ArrayView(
            "device", 4096, array.shape, row_major(array.shape), array.dtype.name, device,
            "numpy", None,
        )  # fmt: skip

    monkeypatch.setattr(packing, "stage", stage)
    return found


def uploaded(w, plan, device=0, experts=EXPERTS):
    return packing.on_device(w, plan, plan.packing_key, device, experts)


def test_plans_share_uploads_and_leave_nothing_on_the_host(uploads):
    form, rows, k = Format(1, 2, 64), 896, 256
    w = experts_of(form, EXPERTS, rows, k, np.random.default_rng(0))
    views = [uploaded(w, plan) for plan in plans_in_use(form, rows, k, PRODUCTS["down"])]
    assert len(uploads) == 2  # data and words
    assert all(view[name] is views[0][name] for view in views for name in view)
    gc.collect()
    assert sum(array() is not None for array in uploads) == 1  # data, which is the weight's
    plan = plans_in_use(form, rows, k, PRODUCTS["down"])[0]
    uploaded(w, plan, device=1)
    assert len(uploads) == 4


def test_words_that_copies_share_stay_on_the_host(uploads):
    schedule = load_schedule("ssmm_sm90", Format(1, 2, 64), dtype_named("bfloat16"))
    plan = compile_plan(schedule, make_ssmm(Format(1, 2, 64), "bfloat16"), TARGET)
    w = encode(np.random.default_rng(0).standard_normal((256, 256)), n=1, m=2, v=64)
    twin = replace(w, data=w.data.copy())
    share_packings(w, twin, plan)
    for each in (w, twin):
        uploaded(each, plan, experts=1)
    data, words, copied, same = (array() for array in uploads)
    if data is not w.data:
        (words, data), (same, copied) = (data, words), (copied, same)
    assert data is w.data
    assert copied is twin.data
    assert words is same is not None


@pytest.mark.torch
def test_words_are_packed_without_the_values():
    """A copy of the values of all experts would take gigabytes of the host."""
    pytest.importorskip("torch", reason="torch is not installed")
    w = experts_of(Format(1, 2, 64), EXPERTS, 128, 128, np.random.default_rng(0)).torch()
    hollow = replace(w, data=w.data.to("meta"))  # whose values cannot be read
    for options in PRODUCTS.values():
        for plan in plans_in_use(w.format, 128, 128, options):
            got = packing.packed(hollow, plan, EXPERTS)
            for name, words in packing.packed(w, plan, EXPERTS).items():
                np.testing.assert_array_equal(got[name], words)


@pytest.mark.parametrize("consumers", [2, 3])
def test_tiles_of_both_heights_read_the_same_words(consumers):
    """Rows of an expert end inside a tile of three warpgroups: its last ones read words again."""
    form = Format(1, 2, 64)
    base = load_schedule("ssmm_sm90", form, dtype_named("bfloat16"))
    schedule = replace(
        base,
        name="height",
        tile=Tile(128 * consumers, 16, base.tile.k),
        warps=Warps(4 * consumers, 1),
        overlap=Overlap(1),
        epilogue=Epilogue(8),
        pipeline=Pipeline(2, "tma"),
        where=(),
    )
    kernel = sg.compile_grouped(schedule, n=1, m=2, v=64)
    assert kernel.variant.plan.geometry.consumers == consumers
    rng = np.random.default_rng(consumers)
    w = experts_of(form, 2, 2 * 64 * 5, 192, rng)
    offsets = np.array([0, 3, 8], np.int32)
    close(kernel, w, integers(rng, 8, 192).astype(w.numpy().data.dtype), offsets)
