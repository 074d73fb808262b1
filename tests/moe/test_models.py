"""Converted models compute what the dense model with their decoded weights computes."""

# ruff: noqa: E402

import copy

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from model_cases import FORM, MODELS, build, sparse_layers, token_ids, twin_of

from samoyeds_gen.moe import Calibration, sparsify
from samoyeds_gen.moe.bound import experts_with_bound
from samoyeds_gen.moe.layer import call_router
from samoyeds_gen.reference.bound import EPS

pytestmark = pytest.mark.torch

NAMES = sorted(MODELS)


@pytest.fixture(scope="module", params=NAMES)
def case(request):
    """Name, dense model, sparse model and the dense twin of its decoded weights."""
    dense = build(request.param)
    sparse = copy.deepcopy(dense)
    sparsify(sparse, *FORM)
    return request.param, dense, sparse, twin_of(dense, sparse)


def layer_bound(layer, tokens):
    """Value and bound of a SparseMoE on tokens [T, hidden], routed by its own router."""
    _, weights, chosen = call_router(layer.gate, tokens)
    weight = None
    if layer.shared_gate is not None:
        weight = torch.sigmoid(layer.shared_gate(tokens))[:, 0].float()
    return experts_with_bound(layer.experts, tokens, chosen, weights, weight, lone=layer.shared)


def caught(model, ids):
    """Inputs [T, hidden] and outputs of every sparse layer in a run of the model."""
    seen, handles = {}, []
    for name, layer in sparse_layers(model).items():

        def hook(module, args, output, name=name):
            seen[name] = (args[0].flatten(0, -2), output.flatten(0, -2))

        handles.append(layer.register_forward_hook(hook))
    with torch.no_grad():
        model(ids)
    for handle in handles:
        handle.remove()
    return seen


def test_every_layer_is_within_its_bound(case):
    """In bfloat16, where the bound leaves room for two roundings of the intermediate and output."""
    _, _, sparse, _ = case
    model = copy.deepcopy(sparse).to(torch.bfloat16)
    found = caught(model, token_ids(1))
    assert len(found) == 2
    for name, layer in sparse_layers(model).items():
        inputs, outputs = found[name]
        assert inputs.dtype == outputs.dtype == torch.bfloat16
        wanted = layer_bound(layer, inputs)
        assert wanted.holds(outputs)
        # The bound is about what is computed: it notices tokens that trade places.
        assert not wanted.holds(outputs.roll(1, 0))
        assert wanted.bound.median() < 0.1 * wanted.value.abs().median()


def test_logits_are_those_of_the_decoded_weights(case):
    """Each layer's bound, carried to the logits by the twin's own derivatives, to first order."""
    _, dense, sparse, twin = case
    ids = token_ids(2, batch=1, length=5)
    with torch.no_grad():
        logits = sparse(ids).logits
        before = dense(ids).logits
    value, bound = logits_with_bound(twin, sparse, ids)
    assert ((logits.double() - value).abs() <= bound).all()
    assert ((before.double() - value).abs() > bound).any()


def logits_with_bound(twin, sparse, ids):
    """The twin's logits in float64, and how far the errors of the sparse layers may move them."""
    wide = copy.deepcopy(twin).double()
    wide.set_attn_implementation("eager")
    wide.set_experts_implementation("eager")
    wide.requires_grad_(False)
    layers, outputs, bounds = sparse_layers(sparse), [], []

    def hook(module, args, output, layer):
        tokens = args[0].detach().float().flatten(0, -2)
        bounds.append(layer_bound(layer, tokens).bound.reshape(output.shape))
        outputs.append(output.requires_grad_())
        return outputs[-1]

    for name, layer in layers.items():
        part = wide.get_submodule(name)
        part.register_forward_hook(lambda *given, layer=layer: hook(*given, layer))
    logits = wide(ids).logits
    flat = logits.flatten()
    slopes = torch.autograd.grad(
        flat, outputs, torch.eye(len(flat)).double(), is_grads_batched=True
    )
    moved = sum((s.abs() * b).flatten(1).sum(1) for s, b in zip(slopes, bounds, strict=True))
    # Float32 elsewhere in the model, and second order, which is small beside the first.
    rest = 2**10 * EPS * flat.detach().abs().max()
    return logits.detach(), (1.25 * moved + rest).detach().reshape(logits.shape)


def test_generate_gives_the_same_tokens(case):
    _, _, sparse, twin = case
    ids = token_ids(3, batch=1)
    options = {"max_new_tokens": 6, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    assert torch.equal(sparse.generate(ids, **options), twin.generate(ids, **options))


def test_the_block_compiles_without_graph_breaks(case):
    _, _, sparse, _ = case
    layer = next(iter(sparse_layers(sparse).values()))
    x = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(4))
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(x), layer(x))
        assert torch.equal(compiled(x[:, :3]), layer(x[:, :3]))


def test_router_logits_are_still_recorded(case):
    _, dense, sparse, _ = case
    ids = token_ids(5)
    with torch.no_grad():
        mine = sparse(ids, output_router_logits=True, use_cache=False)
        theirs = dense(ids, output_router_logits=True, use_cache=False)
    if "router_logits" not in theirs:
        assert "router_logits" not in mine
        return
    assert [each.shape for each in mine.router_logits] == [
        each.shape for each in theirs.router_logits
    ]
    # Nothing but the embedding and attention lies before the first router.
    assert torch.allclose(mine.router_logits[0], theirs.router_logits[0], atol=1e-5)


def test_only_experts_change(case):
    _, dense, sparse, _ = case
    before, after = dense.state_dict(), sparse.state_dict()
    kept = {key for key in before if "experts" not in key and "shared_expert." not in key}
    renamed = {key.replace("shared_expert_gate", "shared_gate"): key for key in kept}
    assert set(renamed) <= set(after)
    for mine, theirs in renamed.items():
        assert torch.equal(after[mine], before[theirs])
    rest = {key.rsplit(".", 1)[1] for key in set(after) - set(renamed)}
    assert rest == {"data", "metadata", "indices", "header"}


def test_plain_two_of_four_and_other_types():
    for form, dtype in (((1, 1, 32), "float16"), ((2, 4, 32), "bfloat16")):
        dense = build("qwen2_moe", dtype=torch.float16)
        sparse = copy.deepcopy(dense)
        report = sparsify(sparse, *form, dtype=dtype)
        assert report.dtype == dtype
        for name, layer in sparse_layers(sparse).items():
            inputs, outputs = caught(sparse, token_ids(6))[name]
            given = layer_bound(layer, inputs)
            # float16 logits of bfloat16 experts are rounded once more
            assert ((outputs.double() - given.value).abs() <= 1.01 * given.bound + 1e-6).all()


@pytest.mark.parametrize("method", ["magnitude", "wanda", "second_order"])
def test_each_method_reaches_the_pattern_and_says_what_it_left(method):
    dense = build("mixtral", seed=1)
    sparse = copy.deepcopy(dense)
    calibration = [token_ids(seed, batch=2, length=24) for seed in (7, 8)]
    report = sparsify(sparse, *FORM, method=method, calibration=calibration)
    assert [each.name for each in report.layers] == list(sparse_layers(sparse))
    twin = twin_of(dense, sparse)
    for each, (name, layer) in zip(report.layers, sparse_layers(sparse).items(), strict=True):
        lost = whole = 0.0
        for kind in ("gate_up_proj", "down_proj"):
            before = getattr(dense.get_submodule(name).experts, kind).detach().double()
            after = getattr(twin.get_submodule(name).experts, kind).detach().double()
            lost += (before - after).square().sum()
            whole += before.square().sum()
            blocks = after.unflatten(-1, (-1, 32)).unflatten(1, (-1, 2)).ne(0).any(-1)
            assert (blocks.sum(2) <= 1).all()
            assert (after.ne(0).unflatten(-1, (-1, 4)).sum(-1) <= 2).all()
        assert each.weight_error == pytest.approx(float((lost / whole).sqrt()), rel=1e-6)
        assert 0 < each.output_error < 1.5
        assert each.nbytes == layer.experts.up_proj.nbytes + layer.experts.down_proj.nbytes
    assert report.method == method
    assert str(report).splitlines()[0] == f"(1,2,32) bfloat16, {method}"


def test_layers_are_calibrated_by_what_reaches_them():
    """The error reported of a layer is that with the inputs the converted model gives it."""
    batches = [token_ids(seed, batch=2, length=24) for seed in (9, 10)]
    dense = build("olmoe")
    sparse = copy.deepcopy(dense)
    report = sparsify(sparse, *FORM, method="wanda", calibration=batches)
    runs = [caught(sparse, ids) for ids in batches]
    for each in report.layers:
        lost = whole = 0.0
        for run in runs:
            inputs, outputs = run[each.name]
            with torch.no_grad():
                before = dense.get_submodule(each.name)(inputs[None])[0].double()
            lost += (before - outputs).square().sum()
            whole += before.square().sum()
        assert each.output_error == pytest.approx(float((lost / whole).sqrt()), rel=1e-5)


def test_second_order_leaves_the_smallest_output_error():
    """On tokens of one small vocabulary, whose activations hang together."""
    dense = build("mixtral", seed=2, num_hidden_layers=1)
    calibration = [token_ids(seed, batch=4, length=32) for seed in range(4)]
    errors = []
    for method in ("magnitude", "second_order"):
        report = sparsify(copy.deepcopy(dense), *FORM, method=method, calibration=calibration)
        errors.append(report.output_error)
    assert errors[1] < 0.9 * errors[0]


def test_an_expert_without_tokens_takes_those_of_the_layer():
    dense = build("deepseek_v3", seed=3)
    for layer in dense.model.layers:
        bias = layer.mlp.gate.e_score_correction_bias
        bias.zero_()
        bias[-1] = -100.0  # never chosen
    report = sparsify(dense, *FORM, method="wanda", calibration=[token_ids(10)])
    assert all(each.unseen >= 1 for each in report.layers)


def test_calibration_takes_mappings_and_reports_progress():
    dense = build("qwen3_moe")
    calls = []
    ids = token_ids(11)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    sparsify(dense, *FORM, calibration=[batch], progress=lambda *given: calls.append(given))
    assert calls[0] == ("model.layers.0.mlp", 1, 6)
    assert calls[-1] == ("model.layers.1.mlp", 6, 6)
    assert not any(p.requires_grad for p in dense.parameters())
    assert dense.config.samoyeds["format"] == "1,2,32"
    assert Calibration(3).tokens == 0
