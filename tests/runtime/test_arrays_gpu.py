"""Arrays of numpy, torch, cupy and any DLPack library on a real GPU."""

import numpy as np
import pytest
from gpu_kernels import run_program, saxpy, torch_cuda

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.runtime import DeviceBuffer, allocate, describe, fetch, stage

pytestmark = pytest.mark.gpu


def test_numpy_arrays_are_staged_and_fetched():
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((2, 1000)).astype(np.float32)
    staged_y, staged_x = stage(y, 0), stage(x[::-1], 0)
    saxpy(staged_y, staged_x, 0.5)
    result = fetch(staged_y)
    assert isinstance(result, np.ndarray)
    np.testing.assert_allclose(result, y + np.float32(0.5) * x[::-1], rtol=1e-6)
    made, view = allocate((3, 4), "bfloat16", like=staged_y)
    assert (made, view.kind, view.shape, view.dtype) == (view, "device", (3, 4), "bfloat16")
    into = describe(np.empty(1000, np.float32))
    assert fetch(staged_y, into=into) is into.owner
    np.testing.assert_array_equal(into.owner, result)


def test_staged_memory_is_given_back():
    buffer = DeviceBuffer(1 << 20, 0)
    buffer.free()
    buffer.free()
    with pytest.raises(LaunchError, match=r"allocating \d+ bytes on .* failed with CUDA_ERROR_OUT"):
        DeviceBuffer(1 << 50, 0)
    for _ in range(64):  # 64 x 4 GiB only fit one after the other
        DeviceBuffer(4 << 30, 0)


@pytest.mark.torch
def test_torch_tensors_stay_on_the_gpu():
    torch = torch_cuda()
    x, y = torch.randn(1000, device="cuda"), torch.randn(1000, device="cuda")
    expected = y + 0.5 * x
    saxpy(y, x, 0.5)
    torch.testing.assert_close(y, expected)
    made, view = allocate((5, 7), "bfloat16", like=describe(x))
    assert (made.device, made.dtype) == (x.device, torch.bfloat16)
    assert (view.kind, view.device, view.pointer) == ("device", 0, made.data_ptr())
    strided = describe(torch.zeros(6, 8, dtype=torch.float16, device="cuda").T)
    assert strided.strides == (1, 8)


def test_cupy_arrays_stay_cupy():
    cupy = pytest.importorskip("cupy", reason="cupy is not installed")
    x, y = cupy.arange(1000, dtype=cupy.float32), cupy.ones(1000, dtype=cupy.float32)
    saxpy(y, x, 2.0)
    np.testing.assert_array_equal(cupy.asnumpy(y), 1 + 2.0 * np.arange(1000, dtype=np.float32))
    made, _ = allocate((3, 4), "float16", like=describe(x))
    assert isinstance(made, cupy.ndarray)
    assert describe(x).family == "cupy"


class Exported:
    """A device array of an unknown library: nothing but the DLPack protocol."""

    def __init__(self, array) -> None:
        self.array = array

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)


@pytest.mark.torch
def test_any_dlpack_array_is_taken():
    torch = torch_cuda()
    x = torch.arange(1000, dtype=torch.float32, device="cuda")
    y = torch.ones(1000, device="cuda")
    view = describe(Exported(y))
    assert (view.kind, view.device, view.family, view.pointer) == (
        "device",
        0,
        "dlpack",
        y.data_ptr(),
    )
    saxpy(Exported(y), Exported(x), 2.0)
    torch.testing.assert_close(y, 1 + 2 * torch.arange(1000, device="cuda", dtype=torch.float32))
    bfloat = describe(Exported(torch.zeros(4, 6, dtype=torch.bfloat16, device="cuda")[:, ::2]))
    assert (bfloat.dtype, bfloat.strides) == ("bfloat16", (6, 2))


def test_outputs_without_torch_export_dlpack():
    """In a process of its own, where nobody has loaded torch."""
    program = """
import numpy as np
from samoyeds_gen.runtime import ArrayView, allocate, describe, stage
like = stage(np.zeros(3, np.float32), 0)._replace(family="dlpack", owner=None)
for dtype in ("float32", "bfloat16"):
    array, view = allocate((3, 4), dtype, like=like)
    again = describe(array)
    assert again[:6] == view[:6], (again, view)
print("done")
"""
    assert run_program(program).stdout.strip() == "done"
