"""What the suite model computes, on a CPU: attention by its definition, both kinds of experts."""

# ruff: noqa: E402

import json
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from samoyeds_gen.errors import TuneError
from samoyeds_gen.formats import Format
from samoyeds_gen.language import Routing
from samoyeds_gen.moe.bench import model_rig, rig
from samoyeds_gen.moe.bench.decoder import (
    Attention,
    DecoderLayer,
    GroupedMoe,
    SparseBlock,
    normal,
    rotary,
    turned,
)
from samoyeds_gen.moe.bench.model_rig import TorchModelRig
from samoyeds_gen.moe.bench.weights import LayerWeights
from samoyeds_gen.tune.contender import Failure
from samoyeds_gen.tune.layers import LayerConfig
from samoyeds_gen.tune.layers.model_rows import ModelRow, model_means, model_rows, models_json
from samoyeds_gen.tune.layers.models import (
    MODELS,
    ModelCase,
    ModelLayer,
    model_cases,
    model_named,
)
from samoyeds_gen.tune.layers.run import run_layers
from samoyeds_gen.tune.timing import Effort, Timed

pytestmark = pytest.mark.torch

FORMAT = Format(1, 2, 32)
EXPERTS = LayerConfig("tiny", 64, 48, 6, 2)
PLAIN = ModelLayer(EXPERTS, Routing(6, 2, "softmax_topk", True), 4, 4, 16, bias=True)
GROUPED = ModelLayer(EXPERTS, Routing(6, 2, "softmax_topk", True), 4, 2, 16, normed=True)
SHARED = ModelLayer(
    EXPERTS, Routing(6, 2, "softmax_topk", False, shared=2), 4, 1, 16, shared=2, bias=True
)
MODES = (PLAIN, GROUPED, SHARED)


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def definition(attention, x, q_rows):
    """Attention in float64 over the cache as it is, for the last `q_rows` positions."""
    case, config = attention.case, attention.case.config
    bias = 0 if attention.bias is None else attention.bias.double()
    parts = (x.double() @ attention.qkv.double().T + bias).view(
        case.batch, q_rows, -1, config.head_dim
    )
    q = parts[:, :, : config.heads]
    if config.normed:
        q = q / (q.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        q = q * attention.norms[: config.heads, 0].double()
    positions = torch.arange(case.cache - q_rows, case.cache)
    half = config.head_dim // 2
    steps = 1e6 ** -(torch.arange(half, dtype=torch.float64) * 2 / config.head_dim)
    angles = positions[:, None, None] * steps
    low, high = q[..., :half], q[..., half:]
    cos, sin = angles.cos(), angles.sin()
    q = torch.cat([low * cos - high * sin, high * cos + low * sin], -1)
    keys, values = (each.double() for each in attention.cache)
    out = torch.zeros(case.batch, q_rows, config.heads, config.head_dim, dtype=torch.float64)
    for head in range(config.heads):
        group = head // (config.heads // config.kv_heads)
        scores = torch.einsum("bqd,bkd->bqk", q[:, :, head], keys[:, group]) / half**0.5 / 2**0.5
        seen = torch.arange(case.cache)[None, :] <= positions[:, None]
        scores = scores.masked_fill(~seen, float("-inf")).softmax(-1)
        out[:, :, head] = scores @ values[:, group]
    return out.reshape(case.tokens, -1) @ attention.out.double().T


@pytest.mark.parametrize("config", MODES, ids=("plain", "grouped", "shared"))
@pytest.mark.parametrize(("group", "batch", "new"), [("prefill", 1, 24), ("decode", 3, 1)])
def test_attention_is_its_definition(config, group, batch, new):
    case = ModelCase(config, group, batch, new, 24)
    attention = Attention(case, random())
    before = attention.cache.clone()
    x = torch.randn(case.tokens, 64, generator=random(1)).to(torch.bfloat16)
    y = attention(x)
    wanted = definition(attention, x, new)
    error = (y.double() - wanted).norm() / wanted.norm()
    assert error < 0.02
    changed = (attention.cache != before).any(-1).any(2).any(1).any(0)
    assert changed.tolist() == [False] * (24 - new) + [True] * new


def test_decode_continues_a_prefill():
    prefill = Attention(ModelCase(GROUPED, "prefill", 1, 24, 24), random())
    decode = Attention(ModelCase(GROUPED, "decode", 1, 1, 24), random())
    assert torch.equal(prefill.qkv, decode.qkv)
    x = torch.randn(24, 64, generator=random(1)).to(torch.bfloat16)
    whole = prefill(x)
    decode.cache[:] = prefill.cache
    decode.cache[:, :, :, -1] = 0
    last = decode(x[-1:])
    assert torch.allclose(last.float(), whole[-1:].float(), rtol=0.05, atol=0.02)


def test_turning_keeps_norms_and_nothing_at_the_first_position():
    cosine, sine = rotary(torch.arange(9), 16)
    x = torch.randn(1, 2, 9, 16, generator=random())
    y = turned(x, (cosine.float(), sine.float()))
    assert torch.equal(y[:, :, 0], x[:, :, 0])
    assert torch.allclose(y.norm(dim=-1), x.norm(dim=-1), rtol=0.02)
    assert not torch.allclose(y[:, :, 5], x[:, :, 5], atol=0.1)


@pytest.mark.parametrize("config", MODES, ids=("plain", "grouped", "shared"))
def test_both_kinds_of_experts_choose_and_compute_alike(config):
    weights = LayerWeights(EXPERTS, [FORMAT], torch.device("cpu"), config.shared)
    gate = normal(random(), 6, 64)
    shared_gate = normal(random(1), 1, 64) if config.shared else None
    dense = GroupedMoe(config, weights, gate, shared_gate)
    ours = SparseBlock(config, weights, FORMAT, gate, shared_gate)
    x = torch.randn(40, 64, generator=random(2)).to(torch.bfloat16)
    for mine, theirs in zip(ours.route(x), dense.route(x), strict=True):
        assert torch.allclose(mine.float(), theirs.float(), rtol=1e-5)
    look = model_rig.Look(ModelCase(config, "decode", 40, 1, 8), weights, FORMAT, shared_gate)
    for experts, fused in ((dense, False), (ours, True)):
        wanted = look.expected(experts.route(x), x)
        assert wanted.compare(experts(x), fused=fused).passed
        assert not wanted.compare(1.05 * experts(x), fused=fused).passed
    assert look.held_bytes(ours=False) == config.dense_bytes
    assert look.held_bytes(ours=True) < config.dense_bytes


def test_a_layer_adds_its_halves_to_what_it_is_given():
    weights = LayerWeights(EXPERTS, [FORMAT], torch.device("cpu"))
    attention = Attention(ModelCase(PLAIN, "prefill", 1, 12, 12), random())
    experts = GroupedMoe(PLAIN, weights, normal(random(), 6, 64), None)
    x = torch.randn(12, 64, generator=random(2)).to(torch.bfloat16)
    layer = DecoderLayer(attention, experts)
    middle = layer.middle(x)
    norm = middle.double() / (middle.double().square().mean(-1, keepdim=True) + 1e-6).sqrt()
    wanted = middle.double() + experts(norm.to(torch.bfloat16)).double()
    assert torch.allclose(layer(x).double(), wanted, rtol=0.02, atol=0.02)
    assert not torch.equal(middle, x)


def test_models_are_those_of_the_papers():
    by_name = {each.name: each for each in MODELS}
    assert list(by_name) == ["mixtral-8x7b", "qwen1.5-moe", "qwen3-30b-a3b"]
    mixtral = by_name["mixtral-8x7b"]
    # 46.7 billion parameters in 32 layers, less the embeddings
    assert 32 * mixtral.dense_bytes / 2 == pytest.approx(46.7e9 - 2 * 32000 * 4096, rel=0.01)
    assert 48 * by_name["qwen3-30b-a3b"].dense_bytes / 2 == pytest.approx(30.5e9 - 0.62e9, rel=0.01)
    assert by_name["qwen1.5-moe"].shared * 1408 == 5632
    cases = model_cases()
    assert len(cases) == 9
    assert [(each.call, each.batch, each.new) for each in cases[:3]] == [
        ("prefill 4096", 1, 4096), ("decode 16", 16, 1), ("decode 64", 64, 1),
    ]  # fmt: skip
    assert {each.cache for each in cases} == {4096}
    with pytest.raises(TuneError, match=r"decoder layer 'x' is not one of mixtral-8x7b, qwen1\.5"):
        model_named("x")


EFFORT = Effort(rounds=3, sample_ms=1.0, settle_ms=1.0, warmup_s=0.01)


@pytest.fixture
def no_gpu(monkeypatch):
    """The looks at a GPU replaced by nothing, so that the rest runs on a CPU."""
    monkeypatch.setattr(model_rig, "peak_bytes", lambda call: call().nbytes)
    monkeypatch.setattr(model_rig, "poison", lambda nbytes: None)
    monkeypatch.setattr(model_rig, "give_back", lambda: None)
    monkeypatch.setattr(rig, "host_us", lambda run, us: 7.0)
    monkeypatch.setattr(rig, "device_sample", lambda run, settle, timed: 1.0)
    monkeypatch.setattr(rig, "graphs_of", lambda run, sets: (Timed(run), "graph"))
    monkeypatch.setattr(model_rig, "token_sets", lambda nbytes: 2)
    monkeypatch.setattr(TorchModelRig, "sample", lambda self, run, settle, timed: 50.0)


def test_a_rig_checks_both_layers_and_rows_count_tokens(no_gpu):
    cases = [
        replace(case, cache=16, new=16 if case.group == "prefill" else 1)
        for case in model_cases([SHARED])
    ]
    results = run_layers(cases, TorchModelRig([FORMAT], device="cpu"), EFFORT, model_rows)
    assert results.failed == []
    assert [(row.call, row.contender) for row in results.rows] == [
        (call, name)
        for call in ("prefill 16", "decode 16", "decode 64")
        for name in ("grouped_mm", "ours (1,2,32)")
    ]
    prefill, ours = results.rows[:2]
    assert prefill.tokens_per_s == pytest.approx(16 / 50e-6)
    assert (ours.ratio, ours.kind) == (1.0, "ours")
    assert ours.peak_bytes == 16 * 64 * 2
    assert ours.held_bytes < prefill.held_bytes == SHARED.dense_bytes
    assert str(ours).startswith("tiny prefill 16 ours (1,2,32): 50.0 us, 320000 tokens/s, 1.00x")
    means = {(each.group, each.contender): each for each in model_means(results.rows)}
    assert means["decode", "ours (1,2,32)"].cases == 2
    data = json.loads(models_json(results.rows, results.failed, {"gpu": "H200"}))
    assert [ModelRow(**row) for row in data["rows"]] == results.rows
    assert len(data["means"]) == 4


def test_experts_that_are_wrong_are_no_row(no_gpu, monkeypatch):
    monkeypatch.setattr(GroupedMoe, "__call__", lambda self, x: 0 * x)
    rig_ = TorchModelRig([FORMAT], device="cpu")
    rig_.prepare(PLAIN)
    dense, ours = rig_.contenders(ModelCase(PLAIN, "decode", 16, 1, 8))
    assert isinstance(dense, Failure)
    assert dense.error.startswith("wrong: ")
    assert ours.name == "ours (1,2,32)"
