"""Where arrays may lie: weights of any strides and places, outputs that kernels can store to."""

import numpy as np
import pytest
from tiny import compiled, exactly, integers, weight

import samoyeds_gen as sg
from samoyeds_gen.formats import SparseWeight
from samoyeds_gen.kernel import launched, packing
from samoyeds_gen.runtime import ArrayView
from samoyeds_gen.runtime.arrays import row_major

W, X = weight(21, 70), integers((5, 70), 2)


def on_gpu(shape, strides, pointer, dtype="bfloat16"):
    return ArrayView("device", pointer, shape, strides, dtype, 0, "torch", None)


def test_a_weight_whose_arrays_are_strided():
    wide = np.zeros((W.data.shape[0], 2 * W.data.shape[1]), W.data.dtype)
    wide[:, ::2] = W.data
    strided = SparseWeight(
        W.format,
        W.dtype,
        W.shape,
        wide[:, ::2],
        np.asfortranarray(W.metadata),
        np.asfortranarray(W.indices),
    )
    assert strided == W
    got = compiled()(strided, X, device="cpu")
    assert exactly(got, sg.reference.ssmm(W, X))


@pytest.mark.parametrize(
    ("strides", "pointer", "device", "copied"),
    [
        ((48, 1), 4096, 0, False),
        ((48, 1), 4096, 1, True),
        ((96, 2), 4096, 0, True),
        ((1, 11), 4096, 0, True),
        ((48, 1), 4096 + 2, 0, True),
        ((48, 1), 4096 + 8, 0, True),
    ],
)
def test_weight_data_on_the_gpu_is_used_in_place_or_copied(
    monkeypatch, strides, pointer, device, copied
):
    data = on_gpu((11, 48), strides, pointer)
    staged = []

    def stage(array, where):
        staged.append(array)
        return on_gpu(array.shape, row_major(array.shape), 1 << 20)

    monkeypatch.setattr(packing, "describe", lambda array: data)
    monkeypatch.setattr(packing, "stage", stage)
    plan = compiled().variant().plan
    views = packing.on_device(weight(21, 70), plan, plan.packing_key, device)
    assert (views["weight.data"] is data) != copied
    assert len(staged) == len(views) - 1 + copied


@pytest.mark.torch
def test_vectors_on_the_gpu_are_used_in_place_or_packed():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    owner = torch.arange(10)[::2]
    whole = ArrayView("device", 4096, (5,), (1,), "int64", 0, "torch", owner)
    assert launched._packed(whole) is whole
    packed = launched._packed(whole._replace(strides=(2,)))
    assert packed.owner.tolist() == [0, 2, 4, 6, 8]
    assert packed.contiguous
    with pytest.raises(sg.LaunchError, match="on the GPU has stride 2; pass a contiguous copy"):
        launched._packed(whole._replace(strides=(2,), family="cupy"))


def test_vectors_of_another_gpu_are_refused():
    launcher = object.__new__(launched.Launcher)
    launcher.device = 0
    here = ArrayView("device", 4096, (5,), (1,), "float32", 0, "torch", None)
    assert launcher._vector("bias", here, None) is here
    with pytest.raises(sg.LaunchError) as caught:
        launcher._vector("bias", here._replace(device=1), None)
    assert str(caught.value) == (
        "bias is on device 1, the kernel runs on device 0; move bias to the device of the tokens"
    )


def test_out_must_fit_and_start_where_stores_can():
    tokens = on_gpu((5, 72), (72, 1), 4096)
    fits = on_gpu((5, 21), (21, 1), 8192)
    assert launched._given_out(fits, (5, 21), "bfloat16", tokens) is fits
    refused = {
        "shape": on_gpu((21, 5), (5, 1), 8192),
        "dtype": on_gpu((5, 21), (21, 1), 8192, "float16"),
        "strides": on_gpu((5, 21), (1, 5), 8192),
        "device": fits._replace(device=1),
        "host": fits._replace(kind="host", device=-1),
    }
    for view in refused.values():
        with pytest.raises(sg.LaunchError, match="the result is a C-ordered bfloat16"):
            launched._given_out(view, (5, 21), "bfloat16", tokens)
    crooked = fits._replace(pointer=8192 + 2)
    with pytest.raises(sg.LaunchError) as caught:
        launched._given_out(crooked, (5, 21), "bfloat16", tokens)
    assert str(caught.value) == (
        "out starts at address 0x2002, results are stored 16 bytes at a time; "
        "let it start at a multiple of 16 bytes, or leave it out"
    )
