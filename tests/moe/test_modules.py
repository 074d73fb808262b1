"""Sparse modules: values within their bound, and everything torch does with a module."""

# ruff: noqa: E402

import copy
import gc
import io
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed")

from safetensors.torch import load_file, save_file
from torch import library

import samoyeds_gen as sg
from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats import Format, gate_block
from samoyeds_gen.language import Routing
from samoyeds_gen.moe import (
    SparseExperts,
    SparseLinear,
    SparseMLP,
    SparseMoE,
    StoredWeight,
    on_kernels,
    use_backend,
)
from samoyeds_gen.moe import ops as operators
from samoyeds_gen.moe.bound import experts_with_bound, mlp_with_bound
from samoyeds_gen.moe.ops import spelled
from samoyeds_gen.moe.stored import weight_at
from samoyeds_gen.tune.machines import machine_named

pytestmark = pytest.mark.torch

FORMS = [Format(*nmv) for nmv in ((1, 2, 32), (1, 2, 16), (1, 1, 32), (2, 4, 64), (4, 8, 16))]
SEEDS = st.integers(0, 2**32 - 1)


def normal(random, *shape):
    return torch.randn(*shape, generator=random)


def encoded(random, rows, k, form, dtype="bfloat16"):
    dense = normal(random, rows, k) / k**0.5
    return sg.encode(dense, n=form.n, m=form.m, v=form.v, dtype=dtype)


def experts_of(random, form, count, shared=0, hidden=48, inner=32, gated=True, **options):
    def several(rows, k):
        return [encoded(random, rows, k, form) for _ in range(count + shared)]

    gates = several(inner, hidden) if gated else None
    ups, downs = several(inner, hidden), several(hidden, inner)
    return SparseExperts.of(gates, ups, downs, shared=shared, **options)


def lone_of(random, form, hidden=48, inner=64, gated=True, **options):
    """A shared expert of another width than the experts'."""
    rows = (inner, inner) if gated else (inner,)
    *gate, up = (encoded(random, each, hidden, form) for each in rows)
    down = encoded(random, hidden, inner, form)
    if gated:
        return SparseMLP.of(*gate, up, down, **options)
    return SparseMLP(up, down, gated=False, **options)


def routed(random, tokens, count, top):
    order = torch.rand(tokens, count, generator=random).argsort(1)[:, :top]
    return order, torch.rand(tokens, top, generator=random)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(FORMS),
    st.integers(0, 5),
    st.integers(1, 4),
    st.integers(0, 2),
    st.sampled_from(["silu", "gelu", "gelu_tanh", "relu"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([torch.bfloat16, torch.float32]),
    SEEDS,
)
def test_experts_are_within_their_bound(
    form, t, count, shared, activation, gated, lonely, dtype, seed
):
    random = torch.Generator().manual_seed(seed)
    experts = experts_of(random, form, count, shared, gated=gated, activation=activation)
    lone = lone_of(random, form, gated=gated, activation=activation) if lonely else None
    chosen, weights = routed(random, t, count, min(2, count))
    tokens = normal(random, t, 48).to(dtype)
    extra = None
    if (shared or lonely) and seed % 2:
        extra = torch.rand(t, *[1] * (seed // 2 % 2), generator=random).to(dtype)
    y = experts(tokens, chosen, weights, extra, lone=lone)
    assert y.dtype == dtype
    assert y.shape == tokens.shape
    wanted = experts_with_bound(experts, tokens, chosen, weights, extra, lone=lone)
    assert wanted.holds(y)
    if t and dtype == torch.bfloat16:
        assert not wanted.holds(y + 0.5)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(FORMS), st.integers(0, 4), SEEDS)
def test_linear_and_mlp(form, t, seed):
    random = torch.Generator().manual_seed(seed)
    gate, up = encoded(random, 32, 48, form), encoded(random, 32, 48, form)
    mlp = SparseMLP.of(gate, up, encoded(random, 48, 32, form))
    x = normal(random, 2, t, 48).bfloat16()
    assert mlp_with_bound(mlp, x.flatten(0, 1)).holds(mlp(x).flatten(0, 1))
    bias = normal(random, 32)
    linear = SparseLinear(gate, bias)
    wanted = x.double() @ gate.decode().double().T + bias
    assert torch.allclose(linear(x).double(), wanted, rtol=2**-7, atol=2**-7)
    assert torch.equal(SparseLinear(gate)(x), linear_without(linear)(x))


def linear_without(linear):
    other = copy.deepcopy(linear)
    other.bias = None
    return other


def test_dense_gives_the_weights_back():
    random = torch.Generator().manual_seed(0)
    form = FORMS[0]
    gates, ups, downs = (
        [encoded(random, rows, k, form) for _ in range(3)]
        for rows, k in ((32, 48), (32, 48), (48, 32))
    )
    experts = SparseExperts.of(gates, ups, downs, shared=1)
    for place, parts in enumerate(zip(gates, ups, downs, strict=True)):
        for found, given_ in zip(experts.dense(place), parts, strict=True):
            assert torch.equal(found, given_.decode())


def a_layer(seed=0, form=FORMS[0], shared=1, top=2):
    random = torch.Generator().manual_seed(seed)
    experts = experts_of(random, form, 4, shared)
    gate = torch.nn.Linear(48, 4, bias=False)
    gate.weight.data = normal(random, 4, 48)
    routing = Routing(4, top, "softmax_topk", True, shared=shared)
    layer = SparseMoE(gate, experts, routing=routing, returns_logits=True)
    return layer.requires_grad_(False), normal(random, 2, 3, 48)


def test_a_linear_router_follows_the_rule():
    layer, x = a_layer()
    y, logits = layer(x)
    tokens = x.flatten(0, 1)
    assert torch.equal(logits, layer.gate(tokens))
    best = logits.softmax(-1).topk(2)
    weights = best.values / best.values.sum(-1, keepdim=True)
    wanted = experts_with_bound(layer.experts, tokens, best.indices, weights)
    assert wanted.holds(y.flatten(0, 1))


@pytest.mark.parametrize("lonely", [False, True])
@pytest.mark.parametrize("gpu", ["H200", "A100"])
def test_the_kernels_compute_the_same_layer(gpu, lonely, monkeypatch):
    """In the simulator: both products, the gate, the scale, the gather and the combination."""
    monkeypatch.setattr(on_kernels, "_machine", lambda device: machine_named(gpu))
    form = Format(1, 2, 64)
    random = torch.Generator().manual_seed(1)
    shared = 0 if lonely else 1
    experts = experts_of(random, form, 3, shared, hidden=128, inner=64)
    lone = lone_of(random, form, 128, 192) if lonely else None
    tokens = normal(random, 5, 128).bfloat16()
    chosen, weights = routed(random, 5, 3, 2)
    extra = torch.rand(5, generator=random)
    with use_backend("kernels"):
        y = experts(tokens, chosen, weights, extra, lone=lone)
    assert experts_with_bound(experts, tokens, chosen, weights, extra, lone=lone).holds(y)
    logits = normal(random, 5, 3)
    gate = torch.nn.Linear(128, 3)
    gate.forward = lambda given: logits
    routing = Routing(3, 2, "softmax_topk", True, shared=shared)
    layer = SparseMoE(gate, experts, routing=routing, shared=lone).requires_grad_(False)
    plain = layer(tokens)
    with use_backend("kernels"):
        assert torch.allclose(layer(tokens).float(), plain.float(), rtol=2**-6, atol=2**-8)


@pytest.mark.parametrize("lonely", [False, True])
def test_operators_are_what_they_claim_to_be(lonely, monkeypatch):
    layer, _ = a_layer()
    experts = layer.experts
    lone = lone_of(torch.Generator().manual_seed(4), FORMS[0]) if lonely else None
    random = torch.Generator().manual_seed(2)
    tokens = normal(random, 3, 48).bfloat16()
    chosen, weights = routed(random, 3, 4, 2)
    ops = torch.ops.samoyeds_gen
    stored = experts.down_proj
    ends = experts._weights(lone)
    rule = spelled(layer.routing)
    # Checks hand copies to an operator, which knows a weight by the memory of its data.
    parts = (experts,) if lone is None else (experts, lone)
    of_shape = {
        tuple(each.numbers()): each for part in parts for each in (part.up_proj, part.down_proj)
    }
    monkeypatch.setattr(
        operators, "weight_at", lambda _, numbers: of_shape[tuple(numbers)].sparse()
    )
    calls = (
        (ops.experts, (tokens, chosen, weights, None, 4, 1, *ends)),
        (ops.routed_experts, (tokens, normal(random, 3, 4), None, None, rule, *ends)),
        (ops.linear, (tokens[:, :32].contiguous(), stored.data, stored.numbers(), None)),
    )
    for op, arguments in calls:
        library.opcheck(op.default, arguments)


def with_lone(layer, weighed=True, **options):
    """The same layer with a shared expert of its own beside the folded one."""
    random = torch.Generator().manual_seed(5)
    more = {"shared": lone_of(random, FORMS[0], **options), "routing": layer.routing}
    if weighed:
        more["shared_gate"] = torch.nn.Linear(48, 1, bias=False)
        more["shared_gate"].weight.data = normal(random, 1, 48)
    return SparseMoE(layer.gate, layer.experts, **more).requires_grad_(False)


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("how", ["hooked", "unlike"])
def test_a_shared_expert_is_called_where_it_cannot_join(how, weighed):
    """One that a hook has to see, and one of another activation than the experts."""
    layer, x = a_layer()
    activation = "gelu" if how == "unlike" else "silu"
    layer = with_lone(layer, weighed, activation=activation)
    seen = []
    if how == "hooked":
        joined = layer(x)
        layer.shared.register_forward_hook(lambda module, given, out: seen.append(out))
    y = layer(x)
    assert len(seen) == (how == "hooked")
    tokens = x.flatten(0, 1)
    folded, own = SparseMoE(layer.gate, layer.experts, routing=layer.routing), layer.shared(tokens)
    if weighed:
        folded.shared_gate = layer.shared_gate
        own = own * torch.sigmoid(layer.shared_gate(tokens))
    assert torch.allclose(y.flatten(0, 1), folded(tokens) + own, rtol=1e-5, atol=1e-6)
    if how == "hooked":
        assert torch.allclose(y, joined, rtol=2**-6, atol=2**-6)
        assert not torch.equal(y, joined)  # which is rounded once


@pytest.mark.parametrize("lonely", [False, True])
def test_compiled_layers_have_no_graph_breaks(lonely):
    layer, x = a_layer()
    if lonely:
        layer = with_lone(layer)
        layer.returns_logits = True
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for given_ in (x, x[:, :2], x.bfloat16().float()):
        for mine, theirs in zip(compiled(given_), layer(given_), strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what inductor imports
def test_compiled_by_inductor():
    layer, x = a_layer()
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True)
    assert torch.allclose(compiled(x)[0], layer(x)[0], rtol=1e-2, atol=1e-3)


def test_state_dict_round_trips(tmp_path):
    layer, x = a_layer(seed=0)
    other, _ = a_layer(seed=1)
    y = layer(x)[0]
    assert not torch.equal(other(x)[0], y)
    save_file(layer.state_dict(), tmp_path / "layer")
    for assign in (False, True):
        fresh = copy.deepcopy(other)
        fresh.load_state_dict(load_file(tmp_path / "layer"), assign=assign)
        assert torch.equal(fresh(x)[0], y)
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer))
    assert torch.equal(other(x)[0], y)


def test_a_layer_on_meta_is_loaded():
    layer, x = a_layer()
    stored = layer.experts
    form, count, shared = stored.up_proj.format, stored.count, stored.shared
    up, down = (
        StoredWeight.empty(form, "bfloat16", part.shape).sparse()
        for part in (stored.up_proj, stored.down_proj)
    )
    experts = SparseExperts(up, down, count=count, shared=shared)
    hollow = SparseMoE(copy.deepcopy(layer.gate), experts, routing=layer.routing)
    assert hollow.experts.up_proj.data.is_meta
    assert hollow.to("meta")(x.to("meta")).shape == x.shape
    hollow.load_state_dict(layer.state_dict(), assign=True)
    assert torch.equal(hollow(x), layer(x)[0])


@pytest.mark.parametrize("change", ["half", "float", "double", "bfloat16"])
def test_stored_types_stay_when_a_model_changes_its_type(change):
    layer, x = a_layer()
    before = {key: tensor.clone() for key, tensor in layer.experts.state_dict().items()}
    y = layer(x)[0]
    getattr(layer, change)()
    assert layer.gate.weight.dtype == getattr(torch, change if change != "half" else "float16")
    for key, tensor in layer.experts.state_dict().items():
        assert tensor.dtype == before[key].dtype
        assert torch.equal(tensor, before[key])
    assert torch.equal(layer.float()(x)[0], y) or change in ("half", "bfloat16")
    linear = SparseLinear(layer.experts.up_proj.sparse(), torch.ones(320)).half()
    assert linear.bias.dtype == torch.float32


def test_packings_live_as_long_as_the_buffer_and_follow_writes():
    layer, x = a_layer(seed=0)
    other, _ = a_layer(seed=1)
    weight = layer.experts.up_proj.sparse()
    assert layer.experts.up_proj.sparse() is weight
    assert layer.experts.up_proj.to("cpu").sparse() is weight
    stored = layer.experts.up_proj
    assert weight_at(stored.data, stored.numbers()) is weight
    assert weight_at(stored.data.detach(), stored.numbers()) is weight
    copied = copy.deepcopy(layer)
    assert copied.experts.up_proj.sparse() is not weight
    layer(x)
    layer.load_state_dict(other.state_dict())
    assert layer.experts.up_proj.sparse() is not weight
    assert torch.equal(layer(x)[0], other(x)[0])
    gone = weakref.ref(layer.experts.up_proj.sparse())
    del layer, stored, weight
    assert gone() is None or not gc.collect() or gone() is None


def test_another_format_is_refused_though_its_shapes_fit():
    random = torch.Generator().manual_seed(0)
    dense = normal(random, 32, 64)
    two, four = (sg.encode(dense, n=n, m=m, v=64) for n, m in ((1, 2), (2, 4)))
    saved = SparseLinear(two).state_dict()
    with pytest.raises(ModelError, match=r"weight\.header is \[1, 2, 64, 32, 64\], but \[2, 4, "):
        SparseLinear(four).load_state_dict(saved)


def test_inference_mode_and_grad_mode():
    layer, x = a_layer()
    y = layer(x)[0]
    with torch.inference_mode():
        assert torch.equal(layer(x)[0], y)
    needs = x.clone().requires_grad_()
    with pytest.raises(ModelError, match="the input requires a gradient, but Samoyeds layers have"):
        layer.experts(needs.flatten(0, 1), *routed(torch.Generator().manual_seed(0), 6, 4, 2))
    with torch.no_grad():
        assert torch.equal(layer(needs)[0], y)
    assert not y.requires_grad


def test_gate_rows_lie_where_the_kernels_want_them():
    random = torch.Generator().manual_seed(3)
    for form in FORMS:
        gate, up = encoded(random, 64, 32, form), encoded(random, 64, 32, form)
        rows = SparseMLP.of(gate, up, encoded(random, 32, 64, form)).up_proj.sparse().decode()
        block = gate_block(form)
        assert torch.equal(rows[:block], gate.decode()[:block])
        assert torch.equal(rows[block : 2 * block], up.decode()[:block])
