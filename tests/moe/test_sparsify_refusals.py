"""Models, methods and formats that sparsify refuses before it changes anything."""

# ruff: noqa: E402

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from model_cases import FORM, build, transformers
from refused import refused

from samoyeds_gen.errors import FormatError, ModelError
from samoyeds_gen.moe import save, sparsify

pytestmark = pytest.mark.torch


def changed(model, **changes):
    for name, value in changes.items():
        setattr(model.config, name, value)
    return model


def with_biases(model):
    mlp = model.model.layers[1].mlp.shared_experts
    mlp.gate_proj = torch.nn.Linear(64, 32)
    return model


def llama():
    sizes = {"hidden_size": 32, "intermediate_size": 32, "vocab_size": 32}
    config = transformers.LlamaConfig(**sizes, num_hidden_layers=1, num_attention_heads=2)
    return transformers.AutoModelForCausalLM.from_config(config)


def sparsified():
    model = build("mixtral")
    sparsify(model, *FORM)
    return model


@pytest.mark.parametrize(
    ("make", "form", "options", "kind", "start"),
    [
        (llama, FORM, {}, ModelError, "models of type 'llama' are not supported, but mixtral, "),
        (dict, FORM, {}, ModelError, "the model is a dict, but a model of transformers is requir"),
        (sparsified, FORM, {}, ModelError, "the model has no dense Mixture-of-Experts block; "),
        (
            lambda: build("mixtral").to("meta"),
            FORM,
            {},
            ModelError,
            "the model is on meta and holds no values; load it first",
        ),
        (
            lambda: changed(build("mixtral"), hidden_act="tanh"),
            FORM,
            {},
            ModelError,
            "the model's activation 'tanh' is not one of silu, swish, gelu, ",
        ),
        (
            lambda: build("mixtral", intermediate_size=24),
            FORM,
            {},
            ModelError,
            "model.layers.0.mlp has 24 intermediate features, but a multiple of 16 is required by "
            "the format 1,2,32; ",
        ),
        (
            lambda: build("qwen2_moe", shared_expert_intermediate_size=40),
            FORM,
            {},
            ModelError,
            "model.layers.0.mlp has 40 shared intermediate features, but a multiple of 16 is ",
        ),
        (
            lambda: with_biases(build("deepseek_v3")),
            FORM,
            {},
            ModelError,
            "model.layers.1.mlp has biases, but experts without biases are required; ",
        ),
        (
            lambda: build("mixtral"),
            (8, 16, 32),
            {},
            FormatError,
            "gate and up rows of format 8,16,32 cannot be interleaved, since M = 16 does not ",
        ),
        (lambda: build("mixtral"), (3, 2, 32), {}, FormatError, "format 3,2,32 keeps 3 of 2 sub-"),
        (
            lambda: build("mixtral"),
            FORM,
            {"method": "best"},
            ModelError,
            "method 'best' is not one of magnitude, wanda, second_order; ",
        ),
        (
            lambda: build("mixtral"),
            FORM,
            {"method": "wanda"},
            ModelError,
            "method 'wanda' is asked for without calibration; pass calibration=",
        ),
        (
            lambda: build("mixtral"),
            FORM,
            {"method": "wanda", "calibration": []},
            ModelError,
            "the calibration holds no batch; pass at least one batch of token ids",
        ),
        (
            lambda: build("mixtral"),
            FORM,
            {"method": "wanda", "calibration": ["a text"]},
            ModelError,
            "a calibration batch is a str, but token ids [B, T] are required; ",
        ),
        (
            lambda: build("mixtral"),
            FORM,
            {"damping": -1.0},
            ModelError,
            "damping=-1.0 is not a finite number >= 0; ",
        ),
        (
            lambda: build("mixtral"),
            FORM,
            {"dtype": "int8"},
            FormatError,
            "dtype 'int8' is not one of float16, bfloat16; ",
        ),
        (
            lambda: build("mixtral"),
            FORM,
            {"device": "cuda:99"},
            ModelError,
            "device 'cuda:99' is asked for, but torch sees ",
        ),
        (
            lambda: build("mixtral"),
            FORM,
            {"device": "gpu"},
            ModelError,
            "device 'gpu' is not a device of torch; ",
        ),
    ],
)
def test_models(make, form, options, kind, start):
    model = make()
    before = None if isinstance(model, dict) else {key: id(m) for key, m in model.named_modules()}
    refused(lambda: sparsify(model, *form, **options), kind, start)
    if before is not None:
        assert {key: id(m) for key, m in model.named_modules()} == before


def test_dense_models_are_not_saved_as_sparse(tmp_path):
    refused(lambda: save(build("mixtral"), tmp_path / "out"), ModelError, "the model is dense; ")
