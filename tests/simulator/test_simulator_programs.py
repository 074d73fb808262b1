"""Whole small programs that NVRTC compiles, against numpy, on every target."""

import math
import time

import numpy as np
import pytest
from simulator_toolchain import HEADER, TARGETS, launch, launch_ptx, written
from test_simulator_ring import simulate

from samoyeds_gen.simulator import SimulationFault

MATH = """extern "C" __global__ void k(const float* in, float* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float x = in[i];
  out[0 * n + i] = sinf(x * 1000);
  out[1 * n + i] = expf(x);
  out[2 * n + i] = erff(x);
  out[3 * n + i] = tanhf(x);
  out[4 * n + i] = x / 3.7f;
  out[5 * n + i] = logf(x);
  out[6 * n + i] = powf(x, 2.5f);
  out[7 * n + i] = x / (1.0f + __expf(-x));
  out[8 * n + i] = 0.5f * x * (1.0f + erff(x * 0.70710678f));
  out[9 * n + i] = (float)exp((double)x * 2);
  out[10 * n + i] = (float)((long long)(n - i) * n / (i + 1)) + n % (i + 3) + __ffs(i * 4);
}"""


def expected_math(x, n):
    i = np.arange(n)
    erf = np.vectorize(math.erf)
    lowest = np.array([(v * 4 & -(v * 4)).bit_length() for v in range(n)])
    return [
        np.sin((x.astype(np.float32) * np.float32(1000)).astype(float)),
        np.exp(x),
        erf(x),
        np.tanh(x),
        x / 3.7,
        np.log(x),
        x**2.5,
        x / (1 + np.exp(-x)),
        0.5 * x * (1 + erf(x * math.sqrt(0.5))),
        np.exp(2 * x),
        (n - i) * n // (i + 1) + n % (i + 3) + lowest,
    ]


@pytest.mark.parametrize("target", TARGETS)
def test_the_math_library(target):
    n = 200
    x = np.random.default_rng(0).uniform(0.1, 6, n).astype(np.float32)
    out = np.zeros((11, n), np.float32)
    launch(MATH, "k", x, written(out), np.int32(n), target=target, grid=2, threads=128)
    for row, expected in zip(out, expected_math(x.astype(float), n), strict=True):
        assert np.abs(row - expected).max() <= 2e-6 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("target", ["sm_80", "sm_100a"])
def test_loops_that_end_at_different_times(target):
    source = """extern "C" __global__ void k(const int* in, int* out) {
      const int i = blockIdx.x * blockDim.x + threadIdx.x;
      int steps = 0;
      for (unsigned v = in[i]; v != 1; ++steps) {
        if (v & 1) { v = 3 * v + 1; if (v == 40) steps += 1000; } else v /= 2;
      }
      switch (in[i] % 5) {
        case 0: steps += 1; break;
        case 1: steps *= 2; break;
        case 2: steps -= 3;
        case 3: steps += 7; break;
        default: return;
      }
      out[i] = steps;
    }"""

    def collatz(value):
        v, steps = value, 0
        while v != 1:
            if v & 1:
                v = 3 * v + 1
                steps += 1000 * (v == 40)
            else:
                v //= 2
            steps += 1
        return [steps + 1, steps * 2, steps + 4, steps + 7, -1][value % 5]

    values = np.arange(1, 129, dtype=np.int32)
    out = np.full(128, -1, np.int32)
    launch(source, "k", values, written(out), target=target, grid=2, threads=64)
    assert out.tolist() == [collatz(int(v)) for v in values]


def test_special_registers():
    names = ["tid.x", "ctaid.x", "ctaid.y", "ctaid.z", "ntid.x", "nctaid.y", "laneid", "warpid"]
    names += ["nwarpid", "lanemask_ge", "dynamic_smem_size", "total_smem_size"]
    body = "".join(
        f"mov.u32 %v, %{name}; st.global.u32 [%p+{4 * i}], %v;\n" for i, name in enumerate(names)
    )
    text = HEADER.format(target="sm_80") + (
        ".visible .entry k(.param .u64 k_0) { .reg .b32 %v, %c, %t, %n; .reg .b64 %p;\n"
        ".shared .align 4 .b8 own[64];\n"
        "mov.u32 %t, %tid.x; mov.u32 %c, %ctaid.z; mad.lo.u32 %c, %c, 3, 0; mov.u32 %n, %ctaid.y;\n"
        "add.u32 %c, %c, %n; mad.lo.u32 %c, %c, 2, 0; mov.u32 %n, %ctaid.x; add.u32 %c, %c, %n;\n"
        f"mad.lo.u32 %t, %c, 40, %t; ld.param.u64 %p, [k_0]; mad.wide.u32 %p, %t, "
        f"{4 * len(names)}, %p;\n{body} ret; }}"
    )
    out = np.zeros((2, 3, 2, 40, len(names)), np.uint32)
    launch_ptx(text, "k", written(out), grid=(2, 3, 2), threads=40, shared_bytes=100)
    for z, y, x, t in np.ndindex(2, 3, 2, 40):
        mask = 0xFFFFFFFF << (t & 31) & 0xFFFFFFFF
        assert out[z, y, x, t].tolist() == [t, x, y, z, 40, 3, t & 31, t // 32, 2, mask, 100, 164]


@pytest.mark.parametrize("target", TARGETS)
def test_structures_as_parameters(target):
    source = """struct P { int a[8]; long long b; };
    __device__ __noinline__ int by_pointer(const P* p, int i) { return p->a[i]; }
    __device__ __noinline__ int by_value(P p, int i) { return p.a[i] + (int)p.b; }
    extern "C" __global__ void k(const __grid_constant__ P p, int* out, P q) {
      const int t = threadIdx.x, i = t & 7, j = (t + 1) & 7;
      out[t] = p.a[i] + by_pointer(&p, j) * 100 + by_value(q, i) * 10000;
    }"""
    value = np.zeros((), np.dtype([("a", "i4", 8), ("b", "i8")]))
    value["a"], value["b"] = np.arange(1, 9), 5
    out, i = np.zeros(32, np.int32), np.arange(32)
    launch(source, "k", value[()], written(out), value[()], target=target)
    assert (out == (i & 7) + 1 + (((i + 1) & 7) + 1) * 100 + ((i & 7) + 6) * 10000).all()


def test_wide_vectors_of_newer_targets():
    text = HEADER.format(target="sm_100a") + (
        ".visible .entry k(.param .u64 k_0, .param .u64 k_1) { .reg .b32 %r<8>, %t;\n"
        ".reg .b64 %p<2>, %v<4>; mov.u32 %t, %tid.x; ld.param.u64 %p0, [k_0];\n"
        "ld.param.u64 %p1, [k_1]; mad.wide.u32 %p0, %t, 64, %p0; mad.wide.u32 %p1, %t, 64, %p1;\n"
        "ld.global.v8.b32 {%r0,%r1,%r2,%r3,%r4,%r5,%r6,%r7}, [%p0];\n"
        "st.global.v8.b32 [%p1], {%r7,%r6,%r5,%r4,%r3,%r2,%r1,%r0};\n"
        "ld.global.nc.L2::256B.v4.b64 {%v0,%v1,%v2,%v3}, [%p0+32];\n"
        "st.global.v4.b64 [%p1+32], {%v1,%v0,%v3,%v2}; ret; }"
    )
    data, out = np.arange(16 * 5, dtype=np.uint32).reshape(5, 16), np.zeros((5, 16), np.uint32)
    launch_ptx(text, "k", data, written(out), threads=5)
    assert (out[:, :8] == data[:, 7::-1]).all()
    assert (out[:, 8:] == data[:, [10, 11, 8, 9, 14, 15, 12, 13]]).all()


def test_hints_change_nothing():
    text = HEADER.format(target="sm_90a") + (
        ".extern .shared .align 16 .b8 tile[];\n"
        ".visible .entry k(.param .u64 k_0, .param .u64 k_1) { .reg .b32 %r<4>, %s, %t;\n"
        ".reg .b64 %p<2>, %h; mov.u32 %t, %tid.x;\n"
        "ld.param.u64 %p0, [k_0]; ld.param.u64 %p1, [k_1];\n"
        "mad.wide.u32 %p0, %t, 16, %p0; mad.wide.u32 %p1, %t, 16, %p1;\n"
        "mov.u32 %s, tile; mad.lo.u32 %s, %t, 16, %s; prefetch.global.L2 [%p0];\n"
        "createpolicy.fractional.L2::evict_last.b64 %h, 0f3F800000;\n"
        "cp.async.cg.shared.global.L2::cache_hint [%s], [%p0], 16, 16, %h;\n"
        "cp.async.wait_all; membar.gl; fence.acq_rel.cta;\n"
        "ld.shared.v4.b32 {%r0,%r1,%r2,%r3}, [%s];\n"
        "st.global.L1::no_allocate.v4.b32 [%p1], {%r0,%r1,%r2,%r3}; ret; }"
    )
    data, out = np.arange(128, dtype=np.uint32), np.zeros(128, np.uint32)
    launch_ptx(text, "k", data, written(out), shared_bytes=512)
    assert (out == data).all()


def test_a_trap_is_a_fault():
    source = (
        """extern "C" __global__ void k(int* out) { if (threadIdx.x == 9) __trap(); *out = 1; }"""
    )
    with pytest.raises(SimulationFault, match="the kernel trapped") as caught:
        launch(source, "k", written(np.zeros(1, np.int32)))
    assert caught.value.thread == 9


def test_a_256_cubed_problem_takes_well_under_a_second():
    simulate(64, 64, 64)
    start = time.process_time()
    assert simulate(256, 256, 256)[0]
    assert time.process_time() - start < 1.0
