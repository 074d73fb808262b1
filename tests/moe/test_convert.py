"""Folders: converting both layouts, going on after an interruption, loading in a new process."""

# ruff: noqa: E402

import copy
import json
import shutil
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from model_cases import FORM, MODELS, build, config_of, sparse_layers, token_ids
from safetensors import safe_open
from safetensors.torch import save_file

from samoyeds_gen.errors import ModelError
from samoyeds_gen.moe import SparseMoE, convert, folder, load, save, sparsify
from samoyeds_gen.moe.checkpoint import Checkpoint
from samoyeds_gen.moe.families import family_of
from samoyeds_gen.moe.folder import NOTE

pytestmark = pytest.mark.torch

NAMES = sorted(MODELS)
CALIBRATION = [token_ids(seed, length=16) for seed in (20, 21)]


def save_fused(model, path):
    """What a state_dict says today, without the names that save_pretrained goes back to."""
    path.mkdir()
    tensors = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(path)


def shards(path):
    """Every tensor of a converted folder, by name."""
    found = {}
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, "pt") as handle:
            found |= {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    return found


def same(left, right):
    return left.keys() == right.keys() and all(
        left[key].dtype == right[key].dtype and torch.equal(left[key], right[key]) for key in left
    )


def logits(model, ids):
    with torch.no_grad():
        return model(ids).logits


@pytest.mark.parametrize("name", NAMES)
def test_both_layouts_give_what_sparsify_gives(name, tmp_path):
    """Experts one by one under their old names, experts fused, and the model in memory."""
    model = build(name)
    model.save_pretrained(tmp_path / "single")
    save_fused(model, tmp_path / "fused")
    with safe_open(tmp_path / "single" / "model.safetensors", "pt") as handle:
        assert any(".experts.0." in key for key in handle.keys())  # noqa: SIM118
    first = convert(tmp_path / "single", tmp_path / "a", *FORM)
    second = convert(tmp_path / "fused", tmp_path / "b", *FORM)
    third = sparsify(model, *FORM)
    assert first == second == third
    assert same(shards(tmp_path / "a"), shards(tmp_path / "b"))
    loaded, ids = load(tmp_path / "a"), token_ids(22)
    assert type(loaded) is type(model)
    assert torch.equal(logits(loaded, ids), logits(model, ids))
    save(model, tmp_path / "c")
    assert same(shards(tmp_path / "a"), shards(tmp_path / "c"))
    again = load(tmp_path / "c")
    assert torch.equal(logits(again, ids), logits(model, ids))
    save(again, tmp_path / "d")
    assert same(shards(tmp_path / "a"), shards(tmp_path / "d"))


@pytest.mark.parametrize(("name", "method"), [("qwen2_moe", "wanda"), ("mixtral", "second_order")])
def test_calibrated_conversion_is_that_of_the_model_in_memory(name, method, tmp_path):
    model = build(name)
    model.save_pretrained(tmp_path / "dense")
    options = {"method": method, "calibration": CALIBRATION}
    there = convert(tmp_path / "dense", tmp_path / "out", *FORM, **options)
    here = sparsify(model, *FORM, **options)
    assert there == here
    ids = token_ids(23)
    assert torch.equal(logits(load(tmp_path / "out"), ids), logits(model, ids))


def test_a_new_process_gives_equal_logits_and_tokens(tmp_path):
    """And importing the package imports neither torch nor transformers."""
    model = build("deepseek_v3")
    model.save_pretrained(tmp_path / "dense")
    convert(tmp_path / "dense", tmp_path / "out", *FORM)
    sparsify(model, *FORM)
    ids = token_ids(24, batch=1)
    options = {"max_new_tokens": 5, "do_sample": False}
    tokens = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
    program = (
        "import sys, samoyeds_gen as sg\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
        "sg.moe.SparseLinear\n"
        "assert 'torch' in sys.modules and 'transformers' not in sys.modules\n"
        "import torch\n"
        "torch.set_num_threads(1)\n"
        "folder, out = sys.argv[1:]\n"
        "model = sg.moe.load(folder)\n"
        f"ids = torch.tensor({ids.tolist()})\n"
        "with torch.no_grad():\n"
        "    logits = model(ids).logits\n"
        f"tokens = model.generate(ids, attention_mask=torch.ones_like(ids), **{options})\n"
        "torch.save({'logits': logits, 'tokens': tokens}, out)\n"
    )
    arguments = [sys.executable, "-c", program, tmp_path / "out", tmp_path / "found"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "found")
    assert torch.equal(found["logits"], logits(model, ids))
    assert torch.equal(found["tokens"], tokens)


class StoppedError(Exception):
    pass


def stopping_after(layers):
    """A progress that stops the work in the midst of the layer after `layers` layers."""
    done = [0]

    def progress(what, count, total):
        if what == "layers":
            done[0] = count
        elif done[0] == layers and count == 2:
            raise StoppedError

    return progress


@pytest.mark.parametrize("method", ["magnitude", "wanda"])
@pytest.mark.parametrize("layers", [0, 1])
def test_an_interrupted_conversion_goes_on(method, layers, tmp_path):
    dense, out = tmp_path / "dense", tmp_path / "out"
    build("olmoe", num_hidden_layers=3).save_pretrained(dense)
    options = {"method": method, "calibration": None if method == "magnitude" else CALIBRATION}
    whole = convert(dense, tmp_path / "whole", *FORM, **options)
    with pytest.raises(StoppedError):
        convert(dense, out, *FORM, **options, progress=stopping_after(layers))
    assert len(list(out.glob("*.safetensors"))) == layers
    with pytest.raises(ModelError, match="is half converted; run the same samoyeds-gen convert "):
        load(out)
    times = {path: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    assert convert(dense, out, *FORM, **options) == whole
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert same(shards(out), shards(tmp_path / "whole"))
    calls = []
    again = convert(dense, out, *FORM, **options, progress=lambda *given: calls.append(given))
    assert again == whole
    assert calls == []
    assert not list(out.glob("*.draft"))


@pytest.mark.parametrize("kind", ["bytes", "bits"])
def test_a_shard_that_reads_back_otherwise_is_noticed(kind, tmp_path, monkeypatch):
    build("mixtral").save_pretrained(tmp_path / "dense")

    def careless(tensors, path, metadata):
        changed = dict(tensors)
        key = next(each for each in changed if each.endswith("down_proj.data"))
        if kind == "bits":
            changed[key] = changed[key].clone()
            changed[key].view(torch.uint8)[0, 0] ^= 1
        else:
            changed[key] = changed[key].to(torch.float16)
        save_file(changed, path, metadata=metadata)

    monkeypatch.setattr(folder, "save_file", careless)
    with pytest.raises(ModelError, match=r"reads back other values of model\.layers\.0\.mlp\.exp"):
        convert(tmp_path / "dense", tmp_path / "out", *FORM)
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_a_weight_that_decodes_otherwise_is_noticed(tmp_path):
    model = build("mixtral")
    sparsify(model, *FORM)
    save(model, tmp_path / "out")
    layer, other = model.model.layers
    path = tmp_path / "out" / "model-00001-of-00003.safetensors"
    folder.check_decodes(layer, "model.layers.0", path)
    layer.mlp.experts, other.mlp.experts = other.mlp.experts, layer.mlp.experts
    with pytest.raises(ModelError, match="reads back other values of"):
        folder.check_decodes(layer, "model.layers.0", path)


def test_shards_of_a_large_checkpoint_are_read_one_tensor_at_a_time(tmp_path, monkeypatch):
    """No more than one decoder layer, and the embedding, is in memory at a time."""
    model = build("qwen3_moe", num_hidden_layers=4)
    model.save_pretrained(tmp_path / "dense", max_shard_size="40KB")
    assert len(list((tmp_path / "dense").glob("*.safetensors"))) > 4
    largest = max(sum(t.nbytes for t in layer.parameters()) for layer in model.model.layers)
    seen = []
    fill = Checkpoint.fill

    def watched(self, module, prefix, device):
        fill(self, module, prefix, device)
        seen.append((prefix, sum(t.nbytes for t in self_model[0].parameters() if not t.is_meta)))

    self_model = []
    from samoyeds_gen.moe import convert as function

    module = sys.modules[function.__module__]
    skeleton = module.skeleton
    monkeypatch.setattr(
        module, "skeleton", lambda config: self_model.append(skeleton(config)) or self_model[0]
    )
    monkeypatch.setattr(Checkpoint, "fill", watched)
    convert(tmp_path / "dense", tmp_path / "out", *FORM)
    assert [prefix for prefix, _ in seen] == [f"model.layers.{layer}" for layer in range(4)]
    assert all(held <= largest for _, held in seen)
    ids = token_ids(25)
    sparsify(model, *FORM)
    assert torch.equal(logits(load(tmp_path / "out"), ids), logits(model, ids))


def test_what_is_beside_the_weights_is_copied(tmp_path):
    build("mixtral").save_pretrained(tmp_path / "dense")
    beside = {"tokenizer.json": "{}", "LICENSE": "words", "merges.txt": "a b"}
    for name, text in beside.items():
        (tmp_path / "dense" / name).write_text(text)
    (tmp_path / "dense" / "pytorch_model.bin").write_bytes(b"weights")
    convert(tmp_path / "dense", tmp_path / "out", *FORM)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {*beside, "config.json", "generation_config.json", NOTE} <= names
    assert "pytorch_model.bin" not in names
    assert "model.safetensors" not in names
    before = json.loads((tmp_path / "dense" / "config.json").read_text())
    after = json.loads((tmp_path / "out" / "config.json").read_text())
    section = after.pop("samoyeds")
    assert after == before
    assert section == {
        "version": 1,
        "format": "1,2,32",
        "dtype": "bfloat16",
        "method": "magnitude",
    }
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "out", moved)
    assert load(moved).generation_config.pad_token_id == 0


def test_tied_embeddings_and_16_bits(tmp_path):
    model = build("qwen2_moe", dtype=torch.float16, tie_word_embeddings=True)
    model.save_pretrained(tmp_path / "dense")
    report = convert(tmp_path / "dense", tmp_path / "out", *FORM)
    assert report.dtype == "float16"
    loaded, ids = load(tmp_path / "out"), token_ids(26)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert loaded.dtype == torch.float16
    # Rotary frequencies stay float32 when transformers loads a model, but not in model.half().
    model = type(model).from_pretrained(tmp_path / "dense")
    sparsify(model, *FORM)
    assert torch.equal(logits(loaded, ids), logits(model, ids))
    save(model, tmp_path / "saved")
    assert "lm_head.weight" not in shards(tmp_path / "saved")
    assert torch.equal(logits(load(tmp_path / "saved"), ids), logits(model, ids))


def test_layers_that_only_training_uses_are_left_out(tmp_path):
    """DeepSeek-V3 checkpoints hold a layer behind the last, which predicts one more token."""
    model = build("deepseek_v3")
    save_fused(model, tmp_path / "dense")
    path = tmp_path / "dense" / "model.safetensors"
    tensors = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    save_file({**tensors, "model.layers.2.shared_head.norm.weight": torch.ones(3)}, path)
    convert(tmp_path / "dense", tmp_path / "out", *FORM)
    assert not any("layers.2" in key for key in shards(tmp_path / "out"))


class OldBlock(torch.nn.Module):
    """A block as transformers 4 had it: a linear router, a list of experts, two results."""

    def __init__(self, block, config, names):
        super().__init__()
        self.top_k = config.num_experts_per_tok
        self.gate = torch.nn.Linear(config.hidden_size, len(block.experts.gate_up_proj), bias=False)
        self.gate.weight = copy.deepcopy(block.gate.weight)
        self.experts = torch.nn.ModuleList()
        for first, second in zip(block.experts.gate_up_proj, block.experts.down_proj, strict=True):
            mlp = torch.nn.Module()
            for name, weight in zip(names, (*first.chunk(2), second), strict=True):
                linear = torch.nn.Linear(*reversed(weight.shape), bias=False)
                linear.weight = torch.nn.Parameter(weight.detach().clone())
                mlp.add_module(name, linear)
            self.experts.append(mlp)


@pytest.mark.parametrize("names", [("w1", "w3", "w2"), ("gate_proj", "up_proj", "down_proj")])
def test_lists_of_experts_in_memory(names):
    """Blocks as of transformers 4 become layers that route and return as those did."""
    today = build("mixtral")
    model = copy.deepcopy(today)
    for layer in model.model.layers:
        layer.mlp = OldBlock(layer.mlp, model.config, names)
    assert sparsify(model, *FORM) == sparsify(today, *FORM)
    x = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(0))
    for mine, theirs in zip(*map(sparse_layers, (model, today)), strict=True):
        old, new = model.get_submodule(mine), today.get_submodule(theirs)
        assert isinstance(old, SparseMoE)
        y, found = old(x)
        assert torch.equal(found, new.gate(x)[0])
        assert torch.allclose(y, new(x), rtol=1e-2, atol=1e-3)


def test_families_are_told_by_their_configuration():
    for name in NAMES:
        family_of(config_of(name))
