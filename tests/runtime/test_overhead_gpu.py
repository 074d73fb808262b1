"""What loading and launching cost the host; each test prints its numbers."""

import statistics
import time

import numpy as np
import pytest
from cuda_sources import BIG_SHARED, SAXPY
from gpu_kernels import kernel, torch_cuda

from samoyeds_gen.runtime import (
    Cache,
    allocate,
    compile_source,
    describe,
    device_target,
    forget_builds,
    load,
    stage,
    stream_for,
    synchronise,
)
from samoyeds_gen.runtime.memo import MEMO

pytestmark = [pytest.mark.gpu, pytest.mark.host_time]


def test_a_cached_source_is_a_loaded_kernel_in_20_ms(tmp_path, capsys):
    cache = Cache(tmp_path)
    compile_source(BIG_SHARED, name="k.cu", target=device_target(), cache=cache)
    synchronise()
    taken = []
    for _ in range(5):
        forget_builds()
        MEMO.kernels.clear()
        began = time.perf_counter()
        build = compile_source(BIG_SHARED, name="k.cu", target=device_target(), cache=cache)
        load(build, "reverse", shared_bytes=65536)
        taken.append(1e3 * (time.perf_counter() - began))
    with capsys.disabled():
        print(f"\ncached source to loaded kernel: {statistics.median(taken):.2f} ms")
    assert statistics.median(taken) < 20


def microseconds(call, repeats: int = 2000) -> float:
    """The median time of one call in microseconds, over batches that the launch queue can hold."""
    batches = []
    for _ in range(repeats // 100):
        synchronise()
        began = time.perf_counter()
        for _ in range(100):
            call()
        batches.append((time.perf_counter() - began) / 100)
    return 1e6 * statistics.median(batches)


def test_host_overhead_of_a_repeated_launch(capsys, slowness):
    loaded = kernel(SAXPY, "saxpy")
    y, x = stage(np.zeros(64, np.float32), 0), stage(np.zeros(64, np.float32), 0)
    arguments = (y.pointer, x.pointer, 1.5, 64)
    same = microseconds(lambda: loaded.launch(1, 64, arguments, 0))
    views = microseconds(lambda: loaded.launch(1, 64, (y, x, 1.5, 64), 0))
    grids = iter(range(1, 10**9))
    moving = microseconds(lambda: loaded.launch(1 + next(grids) % 7, 64, (y, x, 1.5, 64), 0))
    with capsys.disabled():
        print(
            f"\nlaunch: {same:.2f} us with the same arguments, {views:.2f} us with views, "
            f"{moving:.2f} us with another grid each time"
        )
    assert max(same, views, moving) < 10 * slowness


@pytest.mark.torch
def test_host_overhead_with_torch_tensors(capsys, slowness):
    torch = torch_cuda()
    loaded = kernel(SAXPY, "saxpy")
    y, x = torch.zeros(64, device="cuda"), torch.zeros(64, device="cuda")

    def described() -> None:
        to, of = describe(y), describe(x)
        loaded.launch(1, 64, (to, of, 1.5, to.shape[0]), stream_for(to))

    def with_output() -> None:
        of = describe(x)
        _, to = allocate((64,), "float32", like=of)
        loaded.launch(1, 64, (to, of, 1.5, 64), stream_for(of))

    plain, made = microseconds(described), microseconds(with_output)
    with capsys.disabled():
        print(f"\nlaunch on torch tensors: {plain:.2f} us, with a new output {made:.2f} us")
    assert plain < 10 * slowness
