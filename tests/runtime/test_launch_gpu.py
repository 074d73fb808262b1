"""Launches on a real GPU: argument packing, shared memory, streams, graphs, threads, errors.

Run with `pytest -m gpu tests/runtime`; every test skips with the reason where there is no GPU.
"""

import struct
import threading
import time

import numpy as np
import pytest
from cuda_sources import ALL_KINDS, BIG_SHARED, CLUSTER_RANK, SAXPY, SLOW_FILL
from gpu_kernels import kernel, run_program, saxpy, torch_cuda

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.runtime import (
    Cache,
    compile_source,
    current_stream,
    describe,
    device_info,
    device_target,
    fetch,
    forget_builds,
    load,
    stage,
    stream_for,
    synchronise,
)
from samoyeds_gen.runtime.memo import MEMO

pytestmark = pytest.mark.gpu


# --- arguments


def test_every_kind_of_argument_arrives():
    out = stage(np.zeros(26, np.int64), 0)
    words = [2**63 + 5 * word for word in range(16)]
    arguments = (
        out,
        struct.pack("<16Q", *words),
        -7,
        -(2**40),
        1.25,
        -3,
        -2.125,
        -300,
        2**32 - 2,
        struct.pack("<hb1x", 5, 6),
        2**63 + 9,
        True,
    )
    kernel(ALL_KINDS, "all_kinds").launch(1, 32, arguments)
    got = [int(value) for value in fetch(out)]
    assert got[:16] == [word - 2**64 for word in words]
    assert got[16:] == [
        -7,
        -(2**40),
        5,
        -3,
        -17,
        -300,
        2**32 - 2,
        5 * 256 + 6,
        9 - 2**63,
        1,
    ]


def test_a_tensor_map_argument_arrives():
    from cuda.bindings import driver

    tensor_map = driver.CUtensorMap()
    tensor_map.opaque = [driver.cuuint64_t(word) for word in range(100, 116)]
    out = stage(np.zeros(26, np.int64), 0)
    arguments = (out, tensor_map, 0, 0, 0.0, 0, 0.0, 0, 0, bytes(4), 0, 0)
    kernel(ALL_KINDS, "all_kinds").launch(1, 32, arguments)
    assert fetch(out)[:16].tolist() == list(range(100, 116))


# --- launches


def test_more_than_48_kb_of_shared_memory():
    device = device_info(0)
    n = device.shared_per_block // 4
    data = np.arange(2 * n, dtype=np.int32).reshape(2, n)
    given, out = stage(data, 0), stage(np.zeros_like(data), 0)
    reverse = kernel(BIG_SHARED, "reverse", shared_bytes=4 * n)
    assert reverse.shared_bytes > 48 * 1024
    reverse.launch(2, 256, (out, given, n))
    np.testing.assert_array_equal(fetch(out), data[:, ::-1])
    with pytest.raises(LaunchError) as caught:
        kernel(BIG_SHARED, "reverse", shared_bytes=4 * n + 4)
    assert str(caught.value) == (
        f"kernel reverse needs {4 * n + 4} bytes of shared memory per block, {device} has "
        f"{4 * n}; use a smaller tile or fewer stages"
    )


def test_a_kernel_is_loaded_once(tmp_path):
    MEMO.kernels.clear()
    cache = Cache(tmp_path)
    first = load(compile_source(SAXPY, name="k.cu", target=device_target(), cache=cache), "saxpy")
    forget_builds()
    again = compile_source(SAXPY, name="k.cu", target=device_target(), cache=cache)
    assert again.cached
    assert load(again, "saxpy") is first
    assert load(again, "saxpy", shared_bytes=1024) is not first
    assert first.max_threads == 1024
    assert first.blocks_per_multiprocessor(128) >= 8


@pytest.mark.torch
def test_launches_follow_the_order_of_their_stream():
    torch = torch_cuda()
    side = torch.cuda.Stream()
    fill, add = kernel(SLOW_FILL, "slow_fill"), kernel(SLOW_FILL, "add_one")
    p, q = torch.zeros(2, 1, dtype=torch.int32, device="cuda")
    torch.cuda.synchronize()
    began = time.perf_counter()
    fill.launch(1, 1, (describe(p), 41, 200_000_000), side)
    add.launch(1, 1, (describe(q), describe(p)), side.cuda_stream)
    launched = time.perf_counter() - began
    synchronise(side)
    waited = time.perf_counter() - began
    assert q.item() == 42
    assert launched < waited / 2, "launching waited for the kernel"
    with torch.cuda.stream(side):
        assert current_stream(0) == side.cuda_stream == stream_for(describe(p))


@pytest.mark.torch
def test_a_launch_can_be_captured_in_a_graph():
    torch = torch_cuda()
    x, y = torch.ones(1000, device="cuda"), torch.zeros(1000, device="cuda")
    saxpy(y, x, 1.0)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        saxpy(y, x, 1.0)
    for _ in range(3):
        graph.replay()
    torch.cuda.synchronize()
    assert y.tolist() == [4.0] * 1000


def test_threads_launch_together():
    """Each thread packs its own arguments; a shared buffer would mix them up."""
    results = {}
    loaded = kernel(SAXPY, "saxpy")

    def work(number: int) -> None:
        y, x = stage(np.zeros(64, np.float32), 0), stage(np.ones(64, np.float32), 0)
        for _ in range(500):
            loaded.launch(1, 64, (y, x, float(number), 64))
        results[number] = fetch(y)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(8):
        assert results[number].tolist() == [500.0 * number] * 64


def test_clusters():
    if device_info(0).capability < (9, 0):
        pytest.skip("clusters need compute capability 9.0")
    for size in (2, 4, 8):
        out = stage(np.full(16, -1, np.int32), 0)
        kernel(CLUSTER_RANK, "cluster_rank", cluster=(size, 1, 1)).launch(16, 32, (out,))
        assert fetch(out).tolist() == [block % size for block in range(16)]
    pair = kernel(CLUSTER_RANK, "cluster_rank", cluster=(2, 1, 1))
    with pytest.raises(LaunchError) as caught:
        pair.launch(3, 32, (out,))
    assert str(caught.value) == (
        "grid (3, 1, 1) of kernel cluster_rank is not whole clusters of (2, 1, 1); round the grid "
        "up to whole clusters"
    )


# --- errors


@pytest.mark.parametrize(
    ("grid", "threads", "sentence"),
    [
        (
            0,
            64,
            "grid (0, 1, 1) of kernel reverse has 0 blocks along x, a grid has 1 to 2147483647; "
            "skip empty problems, and put the longest axis on x",
        ),
        (
            (1, 65536),
            64,
            "grid (1, 65536, 1) of kernel reverse has 65536 blocks along y, a grid has 1 to "
            "65535; skip empty problems, and put the longest axis on x",
        ),
        (
            1,
            257,
            "kernel reverse runs 1 to 256 threads per block, 257 x 1 x 1 are given; launch the "
            "thread count that its plan names",
        ),
        (
            (1, 1, 1, 1),
            64,
            "a grid or block has 1 to 3 axes, 4 are given; pass x, (x, y) or (x, y, z)",
        ),
    ],
)
def test_bad_extents(grid, threads, sentence):
    with pytest.raises(LaunchError) as caught:
        kernel(BIG_SHARED, "reverse").launch(grid, threads, (0, 0, 0))
    assert str(caught.value) == sentence


def test_what_the_driver_refuses_has_its_name():
    if device_info(0).capability < (9, 0):
        pytest.skip("clusters need compute capability 9.0")
    huge = kernel(CLUSTER_RANK, "cluster_rank", cluster=(64, 1, 1))
    with pytest.raises(
        LaunchError,
        match=r"launching kernel cluster_rank with grid \(64, 1, 1\), "
        r"threads \(32, 1, 1\) and 0 bytes .* failed with CUDA_ERROR_\w+: ",
    ):
        huge.launch(64, 32, (0,))
    out = stage(np.zeros(2, np.int32), 0)
    kernel(CLUSTER_RANK, "cluster_rank", cluster=(2, 1, 1)).launch(2, 32, (out,))
    assert fetch(out).tolist() == [0, 1], "a refused launch must not break the context"


def test_a_cubin_for_another_architecture():
    other = "sm_80" if device_info(0).capability[0] != 8 else "sm_90a"
    build = compile_source(SAXPY, name="k.cu", target=other, cache=None)
    with pytest.raises(LaunchError) as caught:
        load(build, "saxpy")
    device = device_info(0)
    assert str(caught.value) == (
        f"kernel saxpy is compiled for {other}, device 0 is a {device}; compile it with "
        f"target={device.target!r}"
    )


def test_an_absent_kernel_and_an_absent_device():
    with pytest.raises(LaunchError, match="has no kernel 'absent', it has saxpy"):
        kernel(SAXPY, "absent")
    with pytest.raises(LaunchError, match="device 99 does not exist, "):
        device_info(99)


def test_a_kernel_that_fails_is_reported_when_waiting():
    program = """
from cuda_sources import WILD_WRITE
from samoyeds_gen.errors import LaunchError
from samoyeds_gen.runtime import compile_source, device_target, load, synchronise
build = compile_source(WILD_WRITE, name="k.cu", target=device_target(), cache=None)
load(build, "wild_write").launch(1, 1, (64,))
try:
    synchronise()
except LaunchError as error:
    print(error)
"""
    printed = run_program(program).stdout
    assert printed.startswith("waiting for the stream failed with CUDA_ERROR_ILLEGAL_ADDRESS: a ")
