"""Loads, stores, atomics and copies: data, bounds, alignment, initialisation, state spaces."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator_toolchain import HEADER, TARGETS, launch, launch_ptx, ptx, written

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.simulator import Pointer, SimulationFault, parse, run

COPY = """
typedef unsigned long long u64;
extern "C" __global__ void k(const char* in, char* out, int first, int step) {
  const int i = first + (int)threadIdx.x * step;
  VECTOR v = *(const VECTOR*)(in + i);
  *(VECTOR*)(out + i) = v;
}
"""


@pytest.mark.parametrize(
    ("vector", "size"),
    [("signed char", 1), ("short", 2), ("int", 4), ("float2", 8), ("int4", 16), ("double2", 16)],
)
@pytest.mark.parametrize("target", ["sm_80", "sm_100a"])
def test_vectors_move_whole(vector, size, target):
    source = np.random.default_rng(size).integers(0, 256, 40 * size).astype(np.uint8)
    out = np.zeros_like(source)
    launch(
        COPY.replace("VECTOR", vector),
        "k",
        source,
        written(out),
        np.int32(0),
        np.int32(size),
        target=target,
        threads=40,
    )
    assert (out == source).all()


@settings(max_examples=25, deadline=None)
@given(first=st.integers(-40, 80), step=st.sampled_from([4, 8, 12]), threads=st.integers(1, 8))
def test_bounds_and_alignment_are_exact(first, step, threads):
    source, out = np.arange(64, dtype=np.uint8), np.zeros(96, np.uint8)
    places = [first + i * step for i in range(threads)]
    outside = [p for p in places if p < 0 or p + 4 > 64]
    crooked = [p for p in places if p % 4]

    def go():
        launch(
            COPY.replace("VECTOR", "int"),
            "k",
            source,
            written(out),
            np.int32(first),
            np.int32(step),
            threads=threads,
        )

    if not outside and not crooked:
        go()
        assert all((out[p : p + 4] == source[p : p + 4]).all() for p in places)
        return
    with pytest.raises(SimulationFault) as caught:
        go()
    fault = caught.value
    assert fault.kind == ("out of bounds" if outside else "misaligned")
    assert fault.thread == places.index((outside or crooked)[0])
    assert fault.buffer == "input"
    assert fault.address == (outside or crooked)[0]
    assert "ld.global" in str(fault)


def test_a_neighbouring_buffer_is_never_reached():
    # One buffer's overrun must not land in the next one, however far it goes.
    a, b = np.zeros(16, np.int32), np.zeros(16, np.int32)
    for first in (64, 4096, 1 << 20, 1 << 30):
        with pytest.raises(SimulationFault, match="out of bounds"):
            launch(COPY.replace("VECTOR", "int"), "k", a, written(b), np.int32(first), np.int32(0))


def test_pointer_offset_moves_the_start_and_not_the_bounds():
    data, out = np.arange(8, dtype=np.int32), np.zeros(8, np.int32)
    arguments = [Pointer(data, "data", offset=16), written(out), np.int32(-16), np.int32(4)]
    with pytest.raises(SimulationFault, match="buffer 'out'"):
        launch(COPY.replace("VECTOR", "int"), "k", *arguments, threads=8)
    arguments[1] = written(out, offset=16)
    launch(COPY.replace("VECTOR", "int"), "k", *arguments, threads=8)
    assert (out == data).all()


def test_read_only_arguments_may_not_be_written():
    with pytest.raises(SimulationFault, match="read-only") as caught:
        launch(
            COPY.replace("VECTOR", "int"),
            "k",
            np.zeros(4, np.int32),
            Pointer(np.zeros(4, np.int32), "weight"),
            np.int32(0),
            np.int32(4),
            threads=4,
        )
    assert caught.value.kind == "out of bounds"
    assert caught.value.buffer == "weight"


def test_uninitialised_global_bytes():
    source = """extern "C" __global__ void k(int* data, int n) {
      if (threadIdx.x < n) data[threadIdx.x] = 1;
      __syncthreads();
      data[32 + threadIdx.x] = data[31 - threadIdx.x] + 1;
    }"""
    data = np.zeros(64, np.int32)
    launch(source, "k", written(data, initialised=False), np.int32(32))
    assert (data[:32] == 1).all()
    assert (data[32:] == 2).all()
    with pytest.raises(SimulationFault, match="at offset 124") as caught:
        launch(source, "k", written(data, initialised=False), np.int32(31))
    assert caught.value.kind == "uninitialised read"


def test_uninitialised_shared_bytes():
    source = """extern "C" __global__ void k(int* out) {
      __shared__ int tile[32];
      if (threadIdx.x != 7) tile[threadIdx.x] = threadIdx.x;
      __syncthreads();
      out[threadIdx.x] = tile[31 - threadIdx.x];
    }"""
    with pytest.raises(SimulationFault) as caught:
        launch(source, "k", written(np.zeros(32, np.int32)))
    assert (caught.value.kind, caught.value.thread) == ("uninitialised read", 24)


@pytest.mark.parametrize("target", TARGETS)
def test_state_spaces_and_generic_addresses(target):
    source = """
    __constant__ int table[4] = {10, 20, 30, 40};
    __device__ __noinline__ int pick(const int* p, int i) { return p[i]; }
    extern "C" __global__ void k(const int* in, int* out, int which) {
      __shared__ int tile[32];
      extern __shared__ int rest[];
      int own[8];
      const int t = threadIdx.x;
      for (int i = 0; i < 8; ++i) own[i] = in[t] * i;
      tile[t] = in[t] + 1;
      rest[t] = in[t] + 2;
      __syncthreads();
      const int* p = which == 0 ? in : which == 1 ? tile : which == 2 ? rest : own;
      out[t] = pick(p, which == 3 ? t & 7 : 31 - t) + table[t & 3];
    }"""
    data = np.arange(100, 132, dtype=np.int32)
    table, lane = np.array([10, 20, 30, 40])[np.arange(32) & 3], np.arange(32)
    expected = [data[::-1], data[::-1] + 1, data[::-1] + 2, data * (lane & 7)]
    for which in range(4):
        out = np.zeros(32, np.int32)
        launch(source, "k", data, written(out), np.int32(which), target=target, shared_bytes=128)
        assert (out == expected[which] + table).all()


def test_shared_memory_ends_where_the_launch_says():
    source = """extern "C" __global__ void k(int* out, int at) {
      extern __shared__ int tile[];
      tile[threadIdx.x + at] = 1;
      out[threadIdx.x] = tile[threadIdx.x + at];
    }"""
    out = np.zeros(32, np.int32)
    launch(source, "k", written(out), np.int32(32), shared_bytes=256)
    for at in (33, -1, 1 << 20, -(1 << 12)):
        with pytest.raises(SimulationFault, match="of 256 bytes") as caught:
            launch(source, "k", written(out), np.int32(at), shared_bytes=256)
        assert caught.value.kind == "out of bounds"


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_atomics_serialise_lanes_that_meet(seed):
    source = """extern "C" __global__ void k(const int* where, const float* value, float* sums,
                                             unsigned* counts, int* largest, unsigned* ring) {
      __shared__ unsigned total;
      const int i = blockIdx.x * blockDim.x + threadIdx.x;
      if (threadIdx.x == 0) total = 0;
      __syncthreads();
      atomicAdd(&sums[where[i]], value[i]);
      atomicAdd(&counts[where[i]], 1u);
      atomicMax(largest, where[i]);
      atomicInc(ring, 4u);
      atomicAdd(&total, 1u);
      __syncthreads();
      if (threadIdx.x == 0) atomicExch(&counts[8 + blockIdx.x], total);
    }"""
    rng = np.random.default_rng(seed)
    where = rng.integers(0, 8, 192).astype(np.int32)
    value = rng.integers(-9, 9, 192).astype(np.float32)
    sums, counts = np.zeros(8, np.float32), np.zeros(11, np.uint32)
    largest, ring = np.full(1, -1, np.int32), np.zeros(1, np.uint32)
    launch(
        source,
        "k",
        where,
        value,
        written(sums),
        written(counts),
        written(largest),
        written(ring),
        grid=3,
        threads=64,
    )
    assert (sums == np.bincount(where, value, 8)).all()
    assert counts.tolist() == [*np.bincount(where, minlength=8), 64, 64, 64]
    assert (largest[0], ring[0]) == (where.max(), 192 % 5)


COPIES = (
    HEADER.format(target="sm_80")
    + """
.extern .shared .align 16 .b8 tile[];
.visible .entry k(.param .u64 k_0, .param .u64 k_1, .param .u64 k_2) {
.reg .b32 %t, %s, %n, %v, %o; .reg .b64 %p<3>; .reg .pred %q;
mov.u32 %t, %tid.x; mov.u32 %s, tile; mad.lo.u32 %s, %t, SIZE, %s;
ld.param.u64 %p0, [k_0]; ld.param.u64 %p1, [k_1]; ld.param.u64 %p2, [k_2];
mad.wide.u32 %p0, %t, SIZE, %p0; mad.wide.u32 %p1, %t, 4, %p1; mad.wide.u32 %p2, %t, SIZE, %p2;
ld.global.u32 %n, [%p1]; setp.eq.u32 %q, %n, 0;
COPY
cp.async.wait_all;
STORES
ret; }
"""
)


@pytest.mark.parametrize(
    ("opcode", "size"),
    [
        ("cp.async.ca.shared.global", 4),
        ("cp.async.ca.shared.global", 8),
        ("cp.async.ca.shared::cta.global.L2::64B", 16),
        ("cp.async.cg.shared.global.L2::128B", 16),
        ("cp.async.cg.shared.global.L2::256B", 16),
    ],
)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_async_copies_zero_what_they_do_not_read(opcode, size, seed):
    rng = np.random.default_rng(seed)
    data = rng.integers(1, 256, (32, size)).astype(np.uint8)
    count = rng.integers(0, size + 1, 32).astype(np.uint32)
    stores = "".join(
        f"ld.shared.b32 %v, [%s+{i}]; st.global.b32 [%p2+{i}], %v;\n" for i in range(0, size, 4)
    )
    for last, keep in (
        ("%n", count),
        ("%q", np.where(count == 0, 0, size)),
        (None, count * 0 + size),
    ):
        operands = f"[%s], [%p0], {size}" + (f", {last}" if last else "")
        text = COPIES.replace("COPY", f"{opcode} {operands};").replace("STORES", stores)
        # The ignore-src predicate is true where nothing is to be read.
        text = text.replace("SIZE", str(size))
        out = np.full((32, size), 7, np.uint8)
        launch_ptx(text, "k", data, count, written(out), shared_bytes=32 * size)
        assert (out == np.where(np.arange(size) < keep[:, None], data, 0)).all()


def test_async_copies_of_no_bytes_may_point_anywhere_and_others_may_not():
    text = COPIES.replace("COPY", "cp.async.cg.shared.global [%s], [%p0], 16, %n;")
    text = text.replace("STORES", "ld.shared.b32 %v, [%s]; st.global.b32 [%p2], %v;")
    text = text.replace("SIZE", "16")
    data, count, out = np.ones(16, np.uint8), np.zeros(32, np.uint32), np.full((32, 4), 7, np.int32)
    count[0] = 16
    launch_ptx(text, "k", data, count, written(out), shared_bytes=512)
    assert out[0, 0] == 0x01010101
    assert (out[1:, 0] == 0).all()
    count[1] = 1
    with pytest.raises(SimulationFault, match="offset 16, of 16 bytes") as caught:
        launch_ptx(text, "k", data, count, written(out), shared_bytes=512)
    assert caught.value.thread == 1
    count[1] = 17
    with pytest.raises(SimulationFault, match="source size of 17"):
        launch_ptx(text, "k", np.ones(512, np.uint8), count, written(out), shared_bytes=512)


def test_calls_and_local_arrays():
    source = """
    __device__ __noinline__ float horner(float x, int n) {
      float s = x; for (int i = 0; i < n; ++i) s = s * 2.0f + x; return s;
    }
    extern "C" __global__ void k(const float* in, float* out) {
      const int t = threadIdx.x;
      out[t] = horner(in[t], t & 3) + horner(in[t] + 1, t & 1);
    }"""
    x, out = np.arange(32, dtype=np.float32), np.zeros(32, np.float32)

    def horner(value, count):
        total = value
        for _ in range(count):
            total = total * 2 + value
        return total

    for target in ("sm_80", "sm_100a"):
        assert "call" in ptx(source, target)
        launch(source, "k", x, written(out), target=target)
        assert out.tolist() == [horner(v, i & 3) + horner(v + 1, i & 1) for i, v in enumerate(x)]


def test_launch_refusals():
    text = ptx(COPY.replace("VECTOR", "int"))
    a = np.zeros(4, np.int32)
    good = [Pointer(a), written(a), np.int32(0), np.int32(4)]
    where = {"grid": (1, 1, 1), "block": (4, 1, 1)}
    table = [
        ({"entry": "nothing"}, "no kernel 'nothing'"),
        ({"block": (4, 2, 1)}, r"block \(4, 2, 1\)"),
        ({"block": (2000, 1, 1)}, r"block \(2000, 1, 1\)"),
        ({"arguments": good[:3]}, "takes 4 arguments, 3 were given"),
        ({"arguments": [*good[:3], np.int64(4)]}, "argument 3 of k has 8 bytes, the parameter 4"),
        ({"arguments": [Pointer(np.zeros((4, 4))[:, 1]), *good[1:]]}, "not a contiguous"),
        ({"arguments": [good[0], written(np.frombuffer(bytes(16))), *good[2:]]}, "read-only"),
    ]
    for change, message in table:
        options = {"entry": "k", "arguments": good, **where, **change}
        entry = options.pop("entry")
        with pytest.raises(LaunchError, match=message):
            run(parse(text), entry, **options)
