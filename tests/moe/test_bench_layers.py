"""What a comparison of layers computes, on a CPU: routings, weights, the bound, every contender."""

# ruff: noqa: E402

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed")

from samoyeds_gen.formats import Format
from samoyeds_gen.moe.bench import memory
from samoyeds_gen.moe.bench import rig as rigs
from samoyeds_gen.moe.bench.dense import GroupedExperts, combine, silu_mul
from samoyeds_gen.moe.bench.expected import LayerVerdict, expected_layer
from samoyeds_gen.moe.bench.memory import plain_batch
from samoyeds_gen.moe.bench.peers import hf_layers
from samoyeds_gen.moe.bench.rig import TorchLayerRig, layers_of, token_sets
from samoyeds_gen.moe.bench.routings import draw_batch, experts_hit
from samoyeds_gen.moe.bench.weights import LayerWeights
from samoyeds_gen.moe.bound import experts_with_bound
from samoyeds_gen.tune.contender import Failure
from samoyeds_gen.tune.layers import ROUTINGS, Case, LayerConfig
from samoyeds_gen.tune.layers.memory_rows import memory_rows
from samoyeds_gen.tune.machines import machine_named
from samoyeds_gen.tune.timing import Timed

pytestmark = pytest.mark.torch

TINY = LayerConfig("tiny", 64, 48, 5, 2)
FORMATS = (Format(1, 2, 32), Format(1, 1, 32), Format(4, 8, 32))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights():
    return LayerWeights(TINY, FORMATS, CPU)


def batch_of(case, seed=0):
    return draw_batch(case, torch.Generator().manual_seed(seed))


def expected_of(weights, form, batch, **options):
    return expected_layer(weights.dense(form), form, batch, experts=TINY.experts, **options)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(ROUTINGS), st.integers(1, 80), st.integers(2, 20), st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_a_token_meets_different_experts_with_weights_that_sum_to_one(routing, t, e, top, seed):
    config = LayerConfig("drawn", 8, 8, e, min(top, e))
    batch = batch_of(Case(config, t, routing), seed)
    assert batch.tokens.dtype == torch.bfloat16
    assert batch.chosen.shape == batch.weights.shape == (t, config.top)
    assert ((batch.chosen >= 0) & (batch.chosen < e)).all()
    assert all(len(set(row)) == config.top for row in batch.chosen.tolist())
    assert torch.allclose(batch.weights.sum(1), torch.ones(t))


def test_routings_are_as_skewed_as_they_say():
    counts = {}
    for routing in ROUTINGS:
        case = Case(LayerConfig("drawn", 8, 8, 16, 2), 4000, routing)
        batch = batch_of(case)
        found = torch.bincount(batch.chosen.flatten(), minlength=16).sort(descending=True).values
        counts[routing] = found.tolist()
        assert experts_hit(batch.chosen, 16) == 16
        other = batch_of(case, seed=1)
        assert not torch.equal(other.chosen, batch.chosen)
    assert counts["uniform"][0] < 600
    assert counts["uniform"][-1] > 400
    assert 1500 < counts["zipf"][0] < 2800
    assert counts["zipf"][0] > 4 * counts["zipf"][7]
    assert counts["one"][0] == 4000
    assert counts["one"][1] < 400


def test_which_expert_is_popular_is_drawn():
    case = Case(LayerConfig("drawn", 8, 8, 64, 2), 200, "one")
    popular = {
        batch_of(case, seed).chosen.flatten().bincount().argmax().item() for seed in range(9)
    }
    assert len(popular) > 4


def test_dense_weights_are_what_the_first_format_decodes_to(weights):
    for form in FORMATS:
        experts = weights.sparse[form]
        for expert in range(TINY.experts):
            for given_, wanted in zip(
                weights.dense(form)(expert), experts.dense(expert), strict=True
            ):
                assert torch.equal(given_, wanted)
    gate = weights.gate_up[0, : TINY.inner]
    assert 0.2 < (gate != 0).float().mean() < 0.26
    assert 0.5 < gate[gate != 0].std() * TINY.hidden**0.5 < 2.5


@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize("tokens", [1, 37])
def test_every_contender_is_within_its_bound(weights, tokens, routing):
    case = Case(TINY, tokens, routing)
    batch = batch_of(case)
    names = []
    for each in layers_of(weights, case, with_peers=True):
        assert not isinstance(each, Failure), each
        wanted = expected_of(weights, each.form, batch)
        verdict = wanted.compare(each.call(*batch), fused=each.ours)
        assert verdict.passed, f"{each.name}: {verdict}"
        assert 0.001 < verdict.relative < 0.01
        names.append(each.name)
    assert names == [
        "grouped_mm", "hf_grouped_mm", "hf_batched_mm", "hf_eager",
        "ours (1,2,32)", "ours (1,1,32)", "ours (4,8,32)",
    ]  # fmt: skip


def test_the_reference_is_that_of_the_modules(weights):
    batch = batch_of(Case(TINY, 33))
    for form in FORMATS:
        mine = expected_of(weights, form, batch, rows=8)
        theirs = experts_with_bound(weights.sparse[form], *batch)
        assert torch.allclose(mine.value, theirs.value, rtol=1e-12)
        assert (mine.fused >= theirs.bound * (1 - 1e-4)).all()
        assert (mine.fused <= theirs.bound * 1.1).all()
        assert (mine.stepwise > mine.fused).all()


def test_shared_experts_are_weighed():
    weights = LayerWeights(TINY, FORMATS[:1], CPU, shared=2)
    batch = batch_of(Case(TINY, 20))
    scale = torch.rand(20)
    experts = weights.sparse[FORMATS[0]]
    for given_ in (None, scale):
        wanted = expected_of(weights, FORMATS[0], batch, shared=2, shared_weight=given_)
        assert wanted.compare(experts(*batch, given_), fused=True).passed
    without = expected_of(weights, FORMATS[0], batch)
    assert not without.compare(experts(*batch, scale), fused=True).passed


def swapped_experts(batch, y, call):
    return call(batch.tokens, batch.chosen.flip(1), batch.weights)


def unwritten_row(batch, y, call):
    y[3] = float("nan")
    return y


def one_element(batch, y, call):
    y[5, 7] += 1.0
    return y


def lost_choice(batch, y, call):
    weights = batch.weights.clone()
    weights[11, 1] = 0
    return call(batch.tokens, batch.chosen, weights)


def all_slightly_off(batch, y, call):
    return y * 1.04


@pytest.mark.parametrize(
    "fault", [swapped_experts, unwritten_row, one_element, lost_choice, all_slightly_off]
)
def test_wrong_outputs_are_caught(weights, fault):
    form, batch = FORMATS[0], batch_of(Case(TINY, 40))
    wanted = expected_of(weights, form, batch)
    for call, fused in (
        (weights.sparse[form], True),
        (GroupedExperts(weights.gate_up, weights.down), False),
    ):
        y = call(*batch)
        assert wanted.compare(y, fused=fused).passed
        verdict = wanted.compare(fault(batch, y.clone(), call), fused=fused)
        assert not verdict.passed
        assert (verdict.unwritten > 0) == (fault is unwritten_row)
        assert str(verdict).startswith(f"{verdict.elements} elements, {verdict.unwritten} unwr")


def test_a_verdict_looks_at_every_number():
    right = LayerVerdict(worst=0.5, relative=0.004, wrong=0, unwritten=0, elements=8)
    assert right.passed
    for change in ({"wrong": 1}, {"unwritten": 1}, {"relative": 0.03}):
        assert not replace(right, **change).passed


def test_the_steps_of_the_dense_peer():
    random = torch.Generator().manual_seed(0)
    wide = torch.randn(7, 12, generator=random).to(torch.bfloat16)
    gate, up = wide.double().chunk(2, dim=1)
    close = {"rtol": 2.0**-8, "atol": 1e-6}
    assert torch.allclose(silu_mul(wide).double(), gate * gate.sigmoid() * up, **close)
    rows = torch.randn(8, 6, generator=random).to(torch.bfloat16)
    places, weights = torch.randperm(8, generator=random).view(4, 2), torch.rand(4, 2)
    wanted = (rows.double()[places] * weights.double()[..., None]).sum(1)
    assert torch.allclose(combine(rows, places, weights).double(), wanted, rtol=2.0**-8, atol=1e-2)


INTERPRETED = """
import torch
from samoyeds_gen.moe.bench import dense, triton_kernels
wide = torch.randn(5, 2 * 1100).to(torch.bfloat16)
rows, places, weights = wide[:4], torch.tensor([[3, 0], [1, 2]]), torch.rand(2, 2)
close = {"rtol": 2.0**-7, "atol": 1e-2}
assert torch.allclose(triton_kernels.silu_mul(wide), dense.silu_mul(wide), **close)
triton, torch_ = (each.combine(rows, places, weights) for each in (triton_kernels, dense))
assert torch.allclose(triton, torch_, **close)
"""


def test_triton_kernels_compute_the_same():
    pytest.importorskip("triton", reason="Triton is not installed")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", INTERPRETED]
    ran = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr.decode()


def test_batched_products_that_copy_too_much_are_left_out(weights):
    found = list(hf_layers(weights, Case(replace(TINY, inner=10**8), 128)))
    assert [each.name for each in found if isinstance(each, Failure)] == ["hf_batched_mm"]
    assert found[1].error.startswith("left out, since it would copy 98")


def test_without_transformers_there_is_one_line(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    (found,) = hf_layers(weights, Case(TINY, 16))
    assert found.name == "transformers"
    assert "\n" not in found.error


@given(st.integers(1, 10**10))
def test_rotated_inputs_exceed_every_cache(nbytes):
    count = token_sets(nbytes)
    assert 2 <= count <= 64
    assert count == 64 or count * nbytes >= 256 * 2**20


@pytest.fixture
def no_gpu(monkeypatch):
    """The rig's look at a GPU replaced by nothing, so that the rest of it runs on a CPU."""
    monkeypatch.setattr(rigs, "peak_bytes", lambda call: call().nbytes)
    monkeypatch.setattr(rigs, "poison", lambda nbytes: None)
    monkeypatch.setattr(rigs, "give_back", lambda: None)
    monkeypatch.setattr(rigs, "host_us", lambda run, us: float(run(1).shape[0]))
    monkeypatch.setattr(rigs, "device_sample", lambda run, settle, timed: 1.0)
    monkeypatch.setattr(rigs, "graphs_of", lambda run, sets: (Timed(run), "graph"))


def test_a_rig_checks_everybody(no_gpu):
    rig = TorchLayerRig(machine_named("H200"), FORMATS[:2], device="cpu")
    rig.prepare(TINY)
    found = {each.name: each for each in rig.contenders(Case(TINY, 24, "one"))}
    rig.release()
    assert next(iter(found)) == "grouped_mm"
    ours, dense = found["ours (1,2,32)"], found["grouped_mm"]
    assert (ours.ours, dense.ours, ours.format, dense.format) == (True, False, "1,2,32", "")
    assert dense.held_bytes == dense.weight_bytes == TINY.dense_bytes
    assert ours.held_bytes / dense.held_bytes < 0.5  # small blocks are padded
    assert (ours.peak_bytes, ours.host_us, ours.experts_hit) == (24 * 64 * 2, 24.0, 5)
    assert ours.rotated == "tokens; weights fit in L2"
    assert " + " in ours.schedules
    assert found["hf_eager"].graph is None
    assert found["hf_eager"].replay.startswith("host")


def test_a_contender_that_is_wrong_or_fails_is_no_row(no_gpu, monkeypatch):
    def broken(weights, case, *, with_peers):
        for each in layers_of(weights, case, with_peers=False):
            if each.ours:
                yield replace(each, call=lambda *batch, call=each.call: 2 * call(*batch))
            else:
                yield replace(each, call=lambda *batch: torch.ones(3) @ torch.ones(4))

    monkeypatch.setattr(rigs, "layers_of", broken)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    rig = TorchLayerRig(machine_named("H200"), FORMATS[:1], device="cpu")
    rig.prepare(TINY)
    dense, ours = rig.contenders(Case(TINY, 24))
    assert isinstance(dense, Failure)
    assert "\n" not in dense.error
    assert ours.error.startswith("wrong: 1536 elements, 0 unwritten, ")


def test_a_plain_batch_is_one_that_layers_take(weights):
    batch = plain_batch(TINY, 30, "cpu")
    assert batch.tokens.dtype == torch.bfloat16
    assert 0.8 < batch.tokens.float().std() < 1.2
    assert all(len(set(row)) == 2 for row in batch.chosen.tolist())
    wanted = expected_of(weights, FORMATS[0], batch)
    assert wanted.compare(weights.sparse[FORMATS[0]](*batch), fused=True).passed


def test_memory_is_tried_at_the_limit_and_beyond(monkeypatch):
    """On an invented GPU that has room for a thousand tokens."""
    asked, limits = [], []

    def did(layer, config, tokens, most):
        asked.append(tokens)
        limits.append(most)
        return memory.FITS if tokens <= 1000 else memory.NO

    monkeypatch.setattr(memory, "_did", did)
    monkeypatch.setattr(memory, "PEAK_TOKENS", (8, 24))
    monkeypatch.setattr(memory, "give_back", lambda: None)
    monkeypatch.setattr(memory, "peak_bytes", lambda call: call().nbytes)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: TINY.dense_bytes)
    machine = machine_named("H200")
    rows = [replace(row, dense_tokens=1000, tokens=2000)
            for row in memory_rows(TINY, FORMATS[0], machine, (24,))]  # fmt: skip
    (row,), peaks = memory.measure_memory(TINY, FORMATS[0], rows, machine, "cpu")
    assert row.dense_measured == "fits; 1.03 times as many: does not fit"
    assert row.measured == "does not fit; 1000 fits, 1032 does not fit"
    assert (row.dense_seen, row.seen, row.fits) == (1000, 1000, (1000, 1000))
    assert asked == [1000, 1030, 2000, 1000, 1500, 1250, 1125, 1063, 1032]
    assert limits[0] == 23 * 10**9 + memory.ROUNDING
    assert limits[2] < limits[0] + TINY.dense_bytes
    assert [(each.contender, each.tokens) for each in peaks] == [
        ("grouped_mm", 8), ("grouped_mm", 24), ("ours (1,2,32)", 8), ("ours (1,2,32)", 24),
    ]  # fmt: skip
    assert peaks[0].peak_bytes == 8 * 64 * 2
    assert memory.tried(None, TINY, 0, 24, 0) == (0, "weights do not fit")


@pytest.mark.parametrize(("us", "graphs", "each"), [(100.0, 1, 5), (1500.0, 2, 2), (9000.0, 5, 1)])
def test_every_graph_holds_other_inputs(monkeypatch, us, graphs, each):
    """Replays go through whole graphs of as many inputs as take some milliseconds."""
    from samoyeds_gen.moe.bench import gpu

    ran, made = [], []

    def replayed(run, sets, **_):
        made.append(sets)
        return Timed(lambda turn: [run(place) for place in range(sets)], sets), "graph"

    monkeypatch.setattr(gpu, "device_sample", lambda run, settle, timed: us)
    monkeypatch.setattr(gpu, "replayed", replayed)
    timed, how = gpu.graphs_of(ran.append, 5)
    assert (how, made, timed.launches) == ("graph", [each] * graphs, each)
    for turn in range(graphs):
        timed.run(turn)
    assert ran == list(range(each * graphs))
