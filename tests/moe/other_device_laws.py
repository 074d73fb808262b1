"""Tests that run in a process of their own: torch keeps a device once it has been told of one.

test_places.py runs them.
"""

# ruff: noqa: E402

import copy
import gc
import weakref

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from other_device import other_device
from torch.utils._pytree import tree_flatten

import samoyeds_gen as sg
from samoyeds_gen.errors import FormatError, ModelError
from samoyeds_gen.formats import (
    Format,
    deinterleave_rows,
    interleave_rows,
    load,
    stack_weights,
    take_rows,
)
from samoyeds_gen.moe import SparseExperts, SparseLinear, SparseMLP, StoredWeight

pytestmark = pytest.mark.torch

FORMS = [Format(*nmv) for nmv in ((1, 2, 32), (1, 1, 32), (2, 4, 16))]
HOSTED = {"metadata", "indices", "header"}


@pytest.fixture
def gpu():
    with other_device() as device:
        yield device


def encoded(seed=0, form=FORMS[0], rows=32, k=64):
    dense = torch.randn(rows, k, generator=torch.Generator().manual_seed(seed))
    return sg.encode(dense, n=form.n, m=form.m, v=form.v)


def layer(seed=0):
    up, down = (stack_weights([encoded(seed + e, FORMS[0], *s) for e in range(3)]) for s in SHAPES)
    return SparseExperts(up, down, count=3)


SHAPES = ((64, 64), (64, 32))


def places(module):
    return {key: tensor.device.type for key, tensor in module.state_dict().items()}


def require_only_data_on(module, device):
    for key, place in places(module).items():
        hosted = key.rpartition(".")[2] in HOSTED
        assert place == ("cpu" if hosted else device.type), key


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_weight_with_metadata_on_the_host_is_the_same_weight(gpu, form, tmp_path):
    w = encoded(form=form)
    away = w.torch(gpu)
    assert away.place == str(gpu)
    split = away.with_host_metadata()
    assert split.place == f"{gpu} and cpu"
    assert split.data is away.data
    assert split.with_host_metadata() is split
    assert w.with_host_metadata() is w
    assert w.numpy().with_host_metadata().place == "numpy"
    assert {split.positions.device.type, split.metadata.device.type} == {"cpu"}
    assert split == w
    assert split.nbytes == w.nbytes
    split.validate()
    assert split.decode().device == gpu
    assert torch.equal(split.decode().cpu(), w.decode())
    assert split.torch(gpu).place == str(gpu)
    assert split.torch().place == "cpu"
    split.save(tmp_path / "w")
    assert load(tmp_path / "w") == w
    assert str(gpu) in repr(split)


def test_faults_of_a_split_weight_are_found(gpu):
    w = encoded(k=70)
    at = w.data.shape[1] - 1
    w.data[3, at] = 1  # behind column 70
    message = r"stored row 3 holds a value at column \d+, but k is 70"
    for each in (w, w.torch(gpu), w.torch(gpu).with_host_metadata()):
        with pytest.raises(FormatError, match=message):
            each.validate()


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_rows_of_split_weights(gpu, form):
    whole = [encoded(seed, form) for seed in (0, 1)]
    split = [w.torch(gpu).with_host_metadata() for w in whole]
    for make in (
        stack_weights,
        lambda pair: take_rows(stack_weights(pair), 16, 40),
        lambda pair: interleave_rows(*pair, 8),
        lambda pair: deinterleave_rows(interleave_rows(*pair, 8), 8)[1],
    ):
        assert make(split).place == split[0].place
        assert make(split) == make(whole)
    with pytest.raises(FormatError, match=f"has place {gpu} and cpu and .* has {gpu}, but one"):
        stack_weights([split[0], whole[1].torch(gpu)])


def test_other_mixtures_are_refused(gpu):
    w = encoded()
    away = w.torch(gpu)
    parts = {"cpu": w, "gpu": away, "numpy": w.numpy()}
    legal = {("cpu",) * 3, ("gpu",) * 3, ("numpy",) * 3, ("gpu", "cpu", "cpu")}
    for data in parts:
        for metadata in parts:
            for indices in parts:
                arrays = (parts[data].data, parts[metadata].metadata, parts[indices].indices)
                if (data, metadata, indices) in legal:
                    type(w)(w.format, w.dtype, w.shape, *arrays)
                    continue
                with pytest.raises(FormatError, match="lie in different libraries or on different"):
                    type(w)(w.format, w.dtype, w.shape, *arrays)


def test_only_data_follows_a_module(gpu):
    experts = layer()
    before = {key: tensor.clone() for key, tensor in experts.state_dict().items()}
    assert set(places(experts).values()) == {"cpu"}
    assert experts.to(gpu) is experts
    require_only_data_on(experts, gpu)
    resident = sum(t.nbytes for t in experts.state_dict().values() if t.device == gpu)
    dense = 2 * sum(part.shape[0] * part.shape[1] for part in experts.children())
    assert resident == dense / 4
    for _ in range(2):
        for name, part in experts.named_children():
            assert torch.equal(
                part.sparse().decode().cpu(), layer().get_submodule(name).sparse().decode()
            )
    experts.to(gpu).half()
    require_only_data_on(experts, gpu)
    experts.cpu()
    for key, tensor in experts.state_dict().items():
        assert tensor.device.type == "cpu"
        assert tensor.dtype == before[key].dtype
        assert torch.equal(tensor, before[key])


def test_what_was_moved_away_is_not_kept(gpu):
    experts = layer()
    gone = weakref.ref(experts.up_proj.sparse())
    assert experts.cpu().up_proj.sparse() is gone()  # which moved nothing
    experts.to(gpu)
    gc.collect()
    assert gone() is None


def test_linear_moves_its_bias(gpu):
    linear = SparseLinear(encoded(), torch.ones(32)).to(gpu)
    require_only_data_on(linear, gpu)


def test_modules_made_of_weights_on_a_gpu(gpu):
    stored = StoredWeight(encoded().torch(gpu))
    require_only_data_on(stored, gpu)
    assert stored.sparse() == encoded()
    require_only_data_on(StoredWeight(stored.sparse()), gpu)


def test_to_meta_and_back_empty(gpu):
    experts = layer().to(gpu).to("meta")
    assert set(places(experts).values()) == {"meta"}
    assert experts.up_proj.sparse().place == "meta"
    experts.to_empty(device=gpu)
    require_only_data_on(experts, gpu)
    experts.load_state_dict(layer().state_dict())
    assert experts.up_proj.sparse() == layer().up_proj.sparse()


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("start", ["gpu", "meta", "cpu"])
@pytest.mark.parametrize("whole", [False, True])
def test_state_dicts_of_a_gpu(gpu, assign, start, whole):
    """A file read straight to a GPU has everything there."""
    given = layer(seed=5).to(gpu).state_dict()
    if whole:
        given = {key: tensor.to(gpu) for key, tensor in given.items()}
    experts = layer().to(gpu if start == "gpu" else start)
    experts.up_proj.sparse()
    if start == "meta" and not assign:
        experts.to_empty(device=gpu)
    experts.load_state_dict(given, assign=assign)
    if assign or start != "cpu":
        require_only_data_on(experts, gpu)
    else:
        assert set(places(experts).values()) == {"cpu"}
    assert experts.up_proj.sparse() == layer(seed=5).up_proj.sparse()
    wrong = {**given, "up_proj.header": given["up_proj.header"] + 1}
    with pytest.raises(ModelError, match=r"up_proj\.header is "):
        experts.load_state_dict(wrong, assign=assign)


def test_copies_of_a_module_on_a_gpu(gpu):
    experts = layer().to(gpu)
    twin = copy.deepcopy(experts)
    require_only_data_on(twin, gpu)
    assert twin.up_proj.sparse() is not experts.up_proj.sparse()
    assert twin.up_proj.sparse() == experts.up_proj.sparse()


def test_compiled_graphs_take_tensors_of_the_tokens_device_alone(gpu):
    """An argument on the host keeps inductor from using CUDA graphs."""
    experts = layer().to(gpu)
    lone = SparseMLP(encoded(8, rows=96), encoded(9, rows=64, k=48)).to(gpu)
    tensors, _ = tree_flatten(experts._weights(lone))
    tensors = [each for each in tensors if isinstance(each, torch.Tensor)]
    assert len(tensors) == 4
    assert all(each.device == gpu for each in tensors)
