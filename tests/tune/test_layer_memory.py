"""What a layer call takes by formula: against the call itself, and against encoded weights."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_cases import TINY

from samoyeds_gen.compiler import compile_plan
from samoyeds_gen.formats import Format, encode
from samoyeds_gen.formats.warpgroup import warpgroup_words
from samoyeds_gen.kernel import experts as experts_module
from samoyeds_gen.kernel import prepared as prepared_module
from samoyeds_gen.kernel.routing_steps import Built, order_of, shapes_of
from samoyeds_gen.language import Routing, target_named
from samoyeds_gen.tune.layers import CONFIGS, Case, config_named
from samoyeds_gen.tune.layers.capacity import (
    ALLOWANCE,
    CAPACITIES,
    GB,
    dense_activation,
    dense_need,
    held,
    largest,
    packed_bytes,
    sparse_activation,
    sparse_need,
)
from samoyeds_gen.tune.layers.choice import chosen_kernels
from samoyeds_gen.tune.layers.memory_rows import MemoryRow, PeakRow, memory_json, memory_rows
from samoyeds_gen.tune.machines import machine_named

H200 = machine_named("H200")
SM90 = target_named("sm_90a")
FORM = Format(1, 2, 128)


class Kernel:
    """A grouped kernel that is planned, but not compiled."""

    def __init__(self, chosen):
        self.problem = chosen.problem
        self.gathers_before = chosen.packs_tokens
        plan = compile_plan(chosen.schedule, chosen.problem, SM90)
        launcher = SimpleNamespace(loaded=None)
        self.variant = SimpleNamespace(plan=plan, launcher=lambda device: launcher)


@pytest.fixture
def no_driver(monkeypatch):
    """ExpertsCall lays out its arrays; nothing is compiled, loaded or copied."""
    array = SimpleNamespace(pointer=0, dtype="bfloat16", shape=(1, 1), size=1, itemsize=2)
    monkeypatch.setattr(
        prepared_module, "on_device", lambda *given: dict.fromkeys(("weight.data", "w"), array)
    )
    monkeypatch.setattr(prepared_module, "tensor_map", lambda *given: None)
    monkeypatch.setattr(
        prepared_module, "device_info", lambda device: SimpleNamespace(multiprocessors=132)
    )
    monkeypatch.setattr(Built, "loaded", lambda self, device: None)
    built = SimpleNamespace(
        loaded=lambda device: None,
        sources=(),
        plan=SimpleNamespace(threads=32, constant=lambda name: 8,
                             problem=SimpleNamespace(elements=8)),
    )  # fmt: skip
    monkeypatch.setattr(
        experts_module,
        "order_of_combine",
        lambda *given, **options: SimpleNamespace(built=built, blocks=1),
    )


@pytest.mark.torch
@pytest.mark.parametrize("tokens", [16, 128, 129, 1000, 16384])
@pytest.mark.parametrize("name", ["mixtral-8x7b", "qwen1.5-moe", "qwen3-30b-a3b"])
def test_our_formula_is_what_a_call_lays_out(no_driver, name, tokens):
    pytest.importorskip("torch", reason="torch is not installed")
    config = config_named(name)
    routing = Routing(config.experts, config.top, "softmax_topk", False)
    order = order_of(routing, SM90, tokens, chooses=False, values="float32")
    first, down = chosen_kernels(Case(config, tokens), FORM, H200)
    weights = [
        SimpleNamespace(dtype="bfloat16", shape=(config.experts * m, k))
        for m, k in ((2 * config.inner, config.hidden), (config.hidden, config.inner))
    ]
    products = tuple(zip((Kernel(first), Kernel(down)), weights, strict=True))
    call = experts_module.ExpertsCall(order, SM90, products, tokens=tokens, numbers={}, device=0)
    held = call.workspace_bytes + 2 * tokens * config.hidden
    assert held == sparse_activation(config, tokens)
    arrays = call._arrays.offsets
    assert ("packed" in arrays) == first.packs_tokens
    if first.packs_tokens:
        assert arrays["packed"] == arrays["rows"] != arrays["wide"]
    assert shapes_of(routing, tokens).slots == (tokens, config.top)


def test_ours_takes_less_than_the_dense_call_at_every_size():
    for config in CONFIGS:
        for tokens in (16, 128, 1024, 4096, 16384):
            assert sparse_activation(config, tokens) < dense_activation(config, tokens)


@pytest.mark.parametrize("form", [(1, 2, 128), (1, 2, 64), (1, 2, 32), (1, 1, 32), (4, 8, 32)])
def test_weights_are_as_large_as_they_are_encoded(form):
    form, config = Format(*form), TINY
    first, down = chosen_kernels(Case(config, 16), form, H200)
    stored = words = values = 0
    for kernel, m, k in (
        (first, 2 * config.inner, config.hidden),
        (down, config.hidden, config.inner),
    ):
        w = encode(np.random.default_rng(0).standard_normal((m, k)), n=form.n, m=form.m, v=form.v)
        plan = compile_plan(kernel.schedule, kernel.problem, SM90)
        (packing,) = plan.packings
        made = warpgroup_words(
            w,
            fold=packing.fold or "direct",
            row_multiple=packing.row_multiple,
            tile_k=packing.k_multiple,
        )
        assert packed_bytes(plan, form, m, k) == made.nbytes
        stored, words, values = stored + w.nbytes, words + made.nbytes, values + w.data.nbytes
    found = held(config, form, 16, H200)
    assert found.stored == config.experts * stored
    assert found.values == config.experts * values
    assert found.resident == config.experts * (values + words)


@pytest.mark.parametrize("v", [32, 64, 128])
def test_weights_take_at_most_29_percent_of_dense_ones(v):
    for config in CONFIGS:
        for tokens in (16, 16384):
            found = held(config, Format(1, 2, v), tokens, H200)
            assert found.stored <= 0.29 * config.dense_bytes
            assert found.resident <= 0.29 * config.dense_bytes


def test_the_dense_formula_is_the_larger_of_its_moments():
    mixtral, qwen = config_named("mixtral-8x7b"), config_named("qwen3-30b-a3b")
    rows = 16384 * 2
    assert dense_activation(mixtral, 16384) == 10 * rows + 6 * rows * 14336
    rows = 16 * 8
    assert dense_activation(qwen, 16) == 10 * rows + 2 * rows * 2048 + 4 * rows * 768


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**12))
def test_the_largest_is_the_last_that_fits(slope, offset, capacity):
    def need(tokens):
        return offset + slope * tokens

    found = largest(need, capacity)
    assert found == 0 or need(found) <= capacity
    assert need(found + 1) > capacity or found >= 2**24


def test_rows_are_the_formula_turned_round():
    config = config_named("openmoe-34b")
    rows = memory_rows(config, FORM, H200)
    assert [row.gb for row in rows] == list(CAPACITIES)
    for row in rows:
        room = row.gb * GB - ALLOWANCE
        assert (
            dense_need(config, row.dense_tokens) <= room < dense_need(config, row.dense_tokens + 1)
        )
        assert sparse_need(config, row.tokens, FORM, H200) <= room
        assert sparse_need(config, row.tokens + 1, FORM, H200) > room
        assert row.tokens_ratio == row.tokens / row.dense_tokens > 1
        assert row.resident_share <= 0.29
    assert memory_rows(config, FORM, H200, (2,))[0].tokens_ratio is None
    data = json.loads(
        memory_json(
            rows,
            [PeakRow(config="a", contender="b", tokens=1, peak_bytes=2, formula_bytes=3)],
            {"gpu": "H200"},
        )
    )
    assert [MemoryRow(**row) for row in data["rows"]] == rows
    assert data["peaks"][0]["formula_bytes"] == 3
    assert "1 GB" in data["formula"]
