"""Arrays of other libraries as views: laws on numpy and torch, refusals, host memory."""

import ctypes

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.runtime import (
    ArrayView,
    allocate,
    common_place,
    describe,
    driver_present,
    host_array,
    require_axes,
    require_dtype,
    require_rows,
    stage,
)
from samoyeds_gen.runtime.arrays import DTYPES, numpy_dtype, row_major

without_driver = pytest.mark.skipif(driver_present(), reason="there is a GPU")


@st.composite
def strided(draw) -> np.ndarray:
    """A numpy array of 1 to 3 axes with any order, step and direction."""
    dtype = numpy_dtype(draw(st.sampled_from(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    values = np.arange(np.prod(shape)).astype(np.uint8).astype(dtype).reshape(shape)
    values = values.transpose(draw(st.permutations(range(len(shape)))))
    steps = [draw(st.sampled_from([None, 1, 2, -1, -2])) for _ in shape]
    return values[tuple(slice(None, None, step) for step in steps)]


def element(view: ArrayView, index: tuple[int, ...]) -> bytes:
    """The bytes of one element, found through nothing but the view."""
    offset = sum(place * stride for place, stride in zip(index, view.strides, strict=True))
    return ctypes.string_at(view.pointer + offset * view.itemsize, view.itemsize)


def check_elements(view: ArrayView, expected: np.ndarray) -> None:
    assert view.shape == expected.shape
    assert numpy_dtype(view.dtype) == expected.dtype
    for index in np.ndindex(expected.shape):
        assert element(view, index) == expected[index].tobytes()


class Exported:
    """An array of an unknown library: nothing but the DLPack protocol, and as strict as it says."""

    def __init__(self, array) -> None:
        self.array = array

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        assert stream is None, "DLPack wants no stream for host memory"
        return self.array.__dlpack__()


@given(strided())
def test_a_numpy_view_addresses_the_elements(array):
    view = describe(array)
    assert (view.kind, view.device, view.family) == ("host", -1, "numpy")
    assert view.contiguous == array.flags.c_contiguous
    assert view.size == array.size
    check_elements(view, array)
    assert host_array(view) is array


@given(strided().filter(lambda array: array.dtype != ml_dtypes.bfloat16))
def test_a_dlpack_view_addresses_the_elements(array):
    view = describe(Exported(array))
    assert (view.kind, view.device, view.family) == ("host", -1, "dlpack")
    check_elements(view, array)
    again = host_array(view)
    assert np.shares_memory(again, array) or array.size == 0
    np.testing.assert_array_equal(again, array)


def test_an_empty_array_has_a_view():
    view = describe(np.zeros((0, 4), np.float16))
    assert (view.shape, view.size, view.contiguous) == ((0, 4), 0, True)
    require_rows(view, "tokens")


def test_a_view_describes_itself():
    view = describe(np.zeros((2, 3), np.float32))
    assert describe(view) is view
    assert str(view) == "numpy float32 [2, 3] on the host"


def test_views_are_frozen():
    view = describe(np.zeros(3, np.float32))
    with pytest.raises(AttributeError):
        view.pointer = 0


@given(st.lists(st.integers(0, 5), max_size=4).map(tuple))
def test_row_major_strides_are_numpys(shape):
    expected = np.zeros(tuple(max(extent, 1) for extent in shape), np.int8).strides
    if 0 not in shape:
        assert row_major(shape) == expected


@given(strided(), st.sampled_from(DTYPES))
def test_outputs_on_the_host_are_of_the_same_family(array, dtype):
    made, view = allocate((2, 3), dtype, like=describe(array))
    assert isinstance(made, np.ndarray)
    assert made.dtype == numpy_dtype(dtype)
    assert describe(made).pointer == view.pointer
    assert view.contiguous
    made, _ = allocate((2, 3), dtype, like=describe(Exported(np.zeros(1))))
    assert isinstance(made, np.ndarray)


# --- torch on the CPU


@pytest.mark.torch
def test_torch_views_address_the_elements():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for name in DTYPES:
        base = torch.arange(24).to(getattr(torch, name)).reshape(4, 6)
        for tensor in (base, base.T, base[1:, ::2], base[:, 3], base[:1].expand(3, 6)):
            view = describe(tensor)
            assert (view.kind, view.device, view.family) == ("host", -1, "torch")
            assert view.dtype == name
            assert view.shape == tuple(tensor.shape)
            assert view.strides == tensor.stride()
            assert view.contiguous == tensor.is_contiguous()
            back = torch.from_numpy(host_array(view).copy().view(f"u{view.itemsize}"))
            assert torch.equal(back.view(tensor.dtype), tensor)


@pytest.mark.torch
def test_torch_outputs_are_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for name in DTYPES:
        made, view = allocate((2, 5), name, like=describe(torch.zeros(1)))
        assert made.dtype == getattr(torch, name)
        assert made.device.type == "cpu"
        assert (view.pointer, view.shape) == (made.data_ptr(), (2, 5))


@pytest.mark.torch
def test_bfloat16_comes_through_dlpack():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensor = torch.arange(12, dtype=torch.bfloat16).reshape(3, 4)[:, ::2]
    view = describe(Exported(tensor))
    assert (view.dtype, view.strides, view.family) == ("bfloat16", (4, 2), "dlpack")
    assert host_array(view).dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(host_array(view).astype(np.float32), tensor.float().numpy())


@pytest.mark.torch
def test_refused_torch_tensors():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for tensor, sentence in [
        (
            torch.zeros(3, 3).to_sparse(),
            "a torch tensor has layout torch.sparse_coo on cpu, allowed is torch.strided on cpu "
            "or cuda; convert the tensor, for example with .to_dense() or .cuda()",
        ),
        (
            torch.zeros(3, device="meta"),
            "a torch tensor has layout torch.strided on meta, allowed is torch.strided on cpu or "
            "cuda; convert the tensor, for example with .to_dense() or .cuda()",
        ),
        (
            torch.zeros(3, dtype=torch.complex64),
            "an array has dtype complex64, which no kernel takes; convert it to one of "
            + ", ".join(DTYPES),
        ),
    ]:
        with pytest.raises(LaunchError) as caught:
            describe(tensor)
        assert str(caught.value) == sentence


# --- refusals


class Elsewhere:
    """An array on a device that CUDA does not know (DLPack type 8: Metal)."""

    def __dlpack_device__(self):
        return (8, 0)

    def __dlpack__(self, **_):
        raise AssertionError("must not be asked")


class OnGpu(Elsewhere):
    def __dlpack_device__(self):
        return (2, 0)


REFUSED = [
    (
        [1.0, 2.0],
        "a value of type list is not an array; pass a numpy array, a torch tensor or an object "
        "with __dlpack__",
    ),
    (
        np.zeros(3, np.complex64),
        "an array has dtype complex64, which no kernel takes; convert it to one of "
        + ", ".join(DTYPES),
    ),
    (
        np.zeros(3, ">f4"),
        "an array has dtype >f4, which no kernel takes; convert it to one of " + ", ".join(DTYPES),
    ),
    (
        np.zeros(3, ml_dtypes.float8_e4m3fn),
        "an array has dtype float8_e4m3fn, which no kernel takes; convert it to one of "
        + ", ".join(DTYPES),
    ),
    (
        np.zeros(3, [("a", "u1"), ("b", "<f4")])["b"],
        "an array has strides (5,) bytes, which are not whole elements; pass a contiguous copy",
    ),
    (
        Elsewhere(),
        "an array is on DLPack device type 8, allowed is the host or a CUDA GPU; copy it to one "
        "of these",
    ),
]


@pytest.mark.parametrize(("array", "sentence"), REFUSED)
def test_refused_arrays(array, sentence):
    with pytest.raises(LaunchError) as caught:
        describe(array)
    assert str(caught.value) == sentence


@without_driver
def test_device_arrays_are_refused_without_a_driver():
    for use in (lambda: describe(OnGpu()), lambda: stage(np.zeros(3, np.float32), 0)):
        with pytest.raises(LaunchError, match="there is no GPU to run on: "):
            use()


def test_refused_by_checks():
    view = describe(np.zeros((4, 6), np.float32)[:, ::2])
    on_gpu = view._replace(kind="device", device=1)
    for check, sentence in [
        (
            lambda: require_dtype(view, ("float16", "bfloat16"), "tokens"),
            "tokens has dtype float32, allowed is float16 or bfloat16; convert tokens before the "
            "call",
        ),
        (
            lambda: require_axes(view, 1, "selection"),
            "selection has 2 axes, [4, 3], it must have 1; reshape it before the call",
        ),
        (
            lambda: require_rows(view, "tokens"),
            "the last axis of tokens is not contiguous, its stride is 2 elements; pass a "
            "contiguous copy",
        ),
        (
            lambda: common_place({"tokens": view, "weight": on_gpu}),
            "tokens is on the host and weight is on device 1; move all arrays of a call to one "
            "place",
        ),
        (
            lambda: common_place({"weight": on_gpu, "bias": on_gpu._replace(device=0)}),
            "weight is on device 1 and bias is on device 0; move all arrays of a call to one place",
        ),
        (
            lambda: host_array(on_gpu),
            "numpy float32 [4, 3] on device 1 is not on the host; use fetch",
        ),
    ]:
        with pytest.raises(LaunchError) as caught:
            check()
        assert str(caught.value) == sentence


def test_accepted_by_checks():
    view = describe(np.zeros((4, 6), np.float32)[::-2])
    require_dtype(view, ("float32",), "tokens")
    require_axes(view, 2, "tokens")
    require_rows(view, "tokens")
    require_rows(describe(np.zeros((6, 4)).T[:, :1]), "tokens")
    assert common_place({"tokens": view, "weight": view}) == ("host", -1)
