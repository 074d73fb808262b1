"""`samoyeds-gen convert`: the table, the numbers, going on, and what it refuses."""

import json

import numpy as np
import pytest

from samoyeds_gen.cli.converting import layered

pytestmark = pytest.mark.torch


@pytest.fixture
def dense(tmp_path):
    """The folder of a tiny dense model."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.OlmoeConfig(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_experts=4,
        num_experts_per_tok=2,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "dense")
    return tmp_path / "dense"


def test_a_table_of_layers(cli, dense):
    done = cli("convert", dense, "out", "--format", "1,2,32")
    assert done.code == 0, done.err
    assert "(1,2,32) bfloat16, magnitude" in done.out
    for name in ("model.layers.0.mlp", "model.layers.1.mlp", "weight error", "28.9%"):
        assert name in done.out
    again = cli("convert", dense, "out", "--format", "1,2,32")
    assert (again.code, again.out) == (0, done.out)


def test_numbers_of_a_calibrated_conversion(cli, dense, tmp_path):
    random = np.random.default_rng(0)
    np.save(tmp_path / "ids.npy", random.integers(0, 32, (4, 24)))
    options = ("--format", "1,2,32", "--dtype", "fp16", "--calibration", "ids.npy", "--json")
    done = cli("convert", dense, "out", "--method", "second_order", *options)
    assert done.code == 0, done.err
    values = json.loads(done.out)
    assert (values["format"], values["dtype"], values["method"]) == (
        "1,2,32",
        "float16",
        "second_order",
    )
    assert [each["name"] for each in values["layers"]] == [f"model.layers.{i}.mlp" for i in (0, 1)]
    assert all(0 < each["output_error"] < 1 for each in values["layers"])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nowhere", "out"), 1, "nowhere is not the folder of a model, since it has no config"),
        (("dense", "out", "--format", "1,2"), 1, "format '1,2' is not three integers n,m,v; "),
        (("dense", "out", "--method", "wanda"), 1, "method 'wanda' is asked for without calibra"),
        (("dense", "out", "--method", "best"), 2, "--method"),
        (("dense", "out", "--device", "gpu"), 1, "device 'gpu' is not a device of torch; "),
        (("dense", "dense", "-f", "1,2,32"), 1, "dense is the model's own folder; choose a fol"),
        (("dense", "out", "--calibration", "x.npy"), 1, "x.npy is not a .npy file; write it with"),
        (("dense",), 2, "OUT_DIR"),
    ],
)
def test_refusals(cli, dense, arguments, code, words):
    done = cli("convert", *arguments)
    assert done.code == code
    assert words in done.err
    assert "Traceback" not in done.err


def test_progress_counts_layers_and_their_parts():
    calls = []
    report = layered(lambda done, total: calls.append((done, total)))
    report("layers", 0, 4)
    report("model.layers.0.mlp", 3, 8)
    report("layers", 1, 4)
    report("model.layers.1.mlp", 8, 8)
    assert calls == [(0, 4), (0.38, 4), (1, 4), (2, 4)]
