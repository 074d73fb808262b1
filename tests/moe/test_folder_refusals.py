"""Folders that are not converted, not written to and not loaded: one sentence each."""

# ruff: noqa: E402

import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from model_cases import FORM, build, config_of, token_ids
from refused import refused
from safetensors.torch import load_file, save_file

from samoyeds_gen.errors import ModelError
from samoyeds_gen.moe import convert, load, read_samples
from samoyeds_gen.moe.folder import NOTE

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A dense model's folder, and that of its conversion."""
    path = tmp_path_factory.mktemp("folders")
    model = build("mixtral")
    path.joinpath("fused").mkdir()
    save_file(dict(model.state_dict()), path / "fused" / "model.safetensors")
    model.config.save_pretrained(path / "fused")
    model.save_pretrained(path / "dense")
    convert(path / "dense", path / "out", *FORM)
    return path


@pytest.fixture
def dense(folders, tmp_path):
    return shutil.copytree(folders / "dense", tmp_path / "dense")


@pytest.fixture
def out(folders, tmp_path):
    return shutil.copytree(folders / "out", tmp_path / "out")


def edit_json(path, **changes):
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, **changes}))


def edit_tensors(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def drop(key):
    return lambda tensors: tensors.pop(key)


def rename(before, after):
    return lambda tensors: tensors.update({after: tensors.pop(before)})


W1 = "model.layers.1.block_sparse_moe.experts.2.w1.weight"


@pytest.mark.parametrize(
    ("change", "start"),
    [
        (shutil.rmtree, "{dense} is not the folder of a model, since it has no config.json; "),
        (
            lambda dense: (dense / "config.json").unlink(),
            "{dense} is not the folder of a model, since it has no config.json; ",
        ),
        (
            lambda dense: (dense / "config.json").write_text("{"),
            "{dense}/config.json is not the configuration of a model; ",
        ),
        (
            lambda dense: edit_json(dense / "config.json", model_type="gpt2"),
            "models of type 'gpt2' are not supported, but mixtral, qwen2_moe, ",
        ),
        (
            lambda dense: edit_json(dense / "config.json", num_attention_heads="many"),
            "{dense}/config.json is refused by transformers (",
        ),
        (
            lambda dense: edit_json(dense / "config.json", num_hidden_layers=3),
            "{dense} lacks model.layers.2.input_layernorm.weight and 8 more tensors; ",
        ),
        (
            lambda dense: edit_json(dense / "config.json", vocab_size=33),
            "{dense} does not fit its configuration (model.embed_tokens.weight is [32, 64], but "
            "[33, 64] is required); ",
        ),
        (
            lambda dense: edit_json(
                dense / "config.json", quantization_config={"quant_method": "fp8"}
            ),
            "{dense} holds quantized weights; ",
        ),
        (
            lambda dense: edit_json(dense / "config.json", samoyeds={}),
            "{dense} holds a converted model; convert the dense model instead",
        ),
        (
            lambda dense: (dense / "model.safetensors").rename(dense / "pytorch_model.bin"),
            "{dense} has neither model.safetensors.index.json nor model.safetensors; save the ",
        ),
        (
            lambda dense: (dense / "model.safetensors").write_bytes(b"nothing"),
            "{dense}/model.safetensors cannot be read (",
        ),
        (
            lambda dense: (dense / "model.safetensors.index.json").write_text("[]"),
            "{dense}/model.safetensors.index.json is not an index of safetensors files; ",
        ),
        (
            lambda dense: edit_tensors(dense / "model.safetensors", drop(W1)),
            "{dense} lacks model.layers.1.mlp.experts.2.gate_proj.weight; ",
        ),
        (
            lambda dense: edit_tensors(dense / "model.safetensors", rename(W1, f"{W1}_scale_inv")),
            "{dense} holds quantized weights (model.layers.1.block_sparse_moe.experts.2.w1.weight_",
        ),
        (
            lambda dense: edit_tensors(
                dense / "model.safetensors",
                lambda tensors: tensors.update(
                    {key: t.to(torch.float8_e4m3fn) for key, t in tensors.items() if ".w" in key}
                ),
            ),
            "model.layers.0.mlp.experts.down_proj is stored as F8_E4M3; ",
        ),
        (
            lambda dense: edit_tensors(
                dense / "model.safetensors",
                lambda tensors: tensors[W1].fill_(float("inf")),
            ),
            "weight[0, 0] is inf, but finite values are required; ",
        ),
    ],
)
def test_folders_that_are_not_converted(dense, tmp_path, change, start):
    change(dense)
    refused(lambda: convert(dense, tmp_path / "new", *FORM), ModelError, start.format(dense=dense))
    if "inf" not in start:
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("change", "form", "start"),
    [
        (lambda out: None, (1, 2, 64), "{out} holds a conversion with format '1,2,32', but '1,2,"),
        (
            lambda out: (out / NOTE).unlink(),
            FORM,
            "{out} is not empty and holds no conversion to continue; choose a folder that is new ",
        ),
        (
            lambda out: (out / NOTE).write_text("{"),
            FORM,
            "{out}/samoyeds-conversion.json is not the note of a conversion; delete the folder ",
        ),
        (
            lambda out: edit_json(out / NOTE, version=2),
            FORM,
            "{out}/samoyeds-conversion.json was written by another version (2, this one writes 1)",
        ),
        (
            lambda out: (out / "model-00002-of-00003.safetensors").unlink(),
            FORM,
            "{out}/model-00002-of-00003.safetensors is missing, but ",
        ),
        (
            lambda out: (out / "model-00002-of-00003.safetensors").write_bytes(b"half"),
            FORM,
            "{out}/model-00002-of-00003.safetensors has 4 bytes, but ",
        ),
        (
            lambda out: (shutil.rmtree(out), out.write_text("")),
            FORM,
            "{out} is a file; choose a folder that is new or empty",
        ),
    ],
)
def test_folders_that_are_not_written(folders, out, change, form, start):
    change(out)
    refused(lambda: convert(folders / "dense", out, *form), ModelError, start.format(out=out))


def test_a_folder_is_not_converted_into_itself_nor_for_another_model(folders, dense, out):
    refused(lambda: convert(dense, dense, *FORM), ModelError, f"{dense} is the model's own folder")
    edit_json(dense / "config.json", rms_norm_eps=0.5)
    refused(
        lambda: convert(dense, out, *FORM), ModelError, f"{out} holds a conversion with source '"
    )
    refused(
        lambda: convert(folders / "dense", out, *FORM, calibration=[token_ids(0)]),
        ModelError,
        f"{out} holds a conversion with calibration None, but '",
    )


LAYER = "model-00001-of-00003.safetensors"
DATA = "model.layers.0.mlp.experts.down_proj.data"


@pytest.mark.parametrize(
    ("change", "start"),
    [
        (shutil.rmtree, "{out} is not the folder of a model, since it has no config.json; "),
        (
            lambda out: edit_json(out / NOTE, complete=False),
            "{out} is half converted; run the same samoyeds-gen convert again",
        ),
        (
            lambda out: edit_json(out / "config.json", samoyeds=None),
            "{out} holds a dense model; convert it with samoyeds-gen convert",
        ),
        (
            lambda out: edit_json(out / "config.json", samoyeds={"version": 1, "format": "1,2"}),
            "{out}/config.json has a broken samoyeds section; ",
        ),
        (
            lambda out: edit_json(
                out / "config.json",
                samoyeds={"version": 9, "format": "1,2,32", "dtype": "bfloat16"},
            ),
            "{out} was converted with version 9, but this package reads 1; ",
        ),
        (
            lambda out: edit_json(
                out / "config.json",
                samoyeds={"version": 1, "format": "1,2,16", "dtype": "bfloat16"},
            ),
            "model.layers.0.mlp.experts.up_proj.header is [1, 2, 32, 256, 64], but [1, 2, 16, 256",
        ),
        (
            lambda out: edit_json(out / "config.json", vocab_size=33),
            "{out}/model-00003-of-00003.safetensors does not fit its configuration (lm_head.weight",
        ),
        (lambda out: (out / LAYER).unlink(), "{out}/" + LAYER + " cannot be read ("),
        (
            lambda out: (out / LAYER).write_bytes(b"nothing"),
            "{out}/" + LAYER + " cannot be read (",
        ),
        (
            lambda out: edit_tensors(out / LAYER, drop(DATA)),
            "{out}/" + LAYER + " cannot be read (",
        ),
        (
            lambda out: edit_json(
                out / "model.safetensors.index.json",
                weight_map={
                    key: file
                    for key, file in json.loads((out / "model.safetensors.index.json").read_text())[
                        "weight_map"
                    ].items()
                    if key != DATA
                },
            ),
            "{out} lacks " + DATA + "; convert the model again",
        ),
    ],
)
def test_folders_that_are_not_loaded(out, change, start):
    change(out)
    refused(lambda: load(out), ModelError, start.format(out=out))


@pytest.mark.parametrize(
    ("write", "start"),
    [
        (lambda path: None, "{path} is not a .npy file; write it with numpy.save"),
        (
            lambda path: np.save(path, np.ones((2, 3))),
            "{path} holds float64 [2, 3], but integers [sequences, tokens] are required; ",
        ),
        (
            lambda path: np.save(path, np.ones(3, int)),
            "{path} holds int64 [3], but integers [sequences, tokens] are required; ",
        ),
    ],
)
def test_calibration_files(tmp_path, write, start):
    path = tmp_path / "ids.npy"
    write(path)
    refused(lambda: read_samples(path, tmp_path), ModelError, start.format(path=path))


def test_calibration_texts(tmp_path):
    path = tmp_path / "text.txt"
    refused(
        lambda: read_samples(path, tmp_path),
        ModelError,
        f"{path} cannot be read as text in UTF-8; ",
    )
    path.write_text("some words")
    refused(
        lambda: read_samples(path, tmp_path),
        ModelError,
        f"{tmp_path} has no tokenizer that can be loaded (",
    )
    refused(
        lambda: read_samples(path, tmp_path, length=0),
        ModelError,
        "128 sequences of 0 tokens are no calibration; ",
    )


def test_what_cannot_be_written_is_said(folders, tmp_path):
    (tmp_path / "file").write_text("")
    refused(
        lambda: convert(folders / "dense", tmp_path / "file" / "out", *FORM),
        ModelError,
        f"{tmp_path}/file/out cannot be written (Not a directory); ",
    )


def test_without_transformers(monkeypatch):
    import sys

    from samoyeds_gen.moe import skeleton

    config = config_of("mixtral")
    monkeypatch.setitem(sys.modules, "transformers", None)
    refused(
        lambda: skeleton.skeleton(config),
        ModelError,
        "models are built by transformers, which is not installed; pip install 'samoyeds-gen[hf]'",
    )
