"""Bank conflicts and sectors against counts made by hand, lane by lane."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator_toolchain import launch, written

SHARED = """extern "C" __global__ void k(const int* where, int* out) {
  extern __shared__ __align__(16) char tile[];
  const int t = threadIdx.x;
  for (int i = t; i < 4096; i += 32) ((int*)tile)[i] = i;
  __syncthreads();
  VECTOR v = *(VECTOR*)(tile + where[t]);
  *(VECTOR*)((char*)out + t * sizeof(VECTOR)) = v;
}"""
VECTORS = {4: "int", 8: "int2", 16: "int4"}


def passes(offsets, size):
    """Wavefronts of one warp: lanes in groups that move 128 bytes, most words on one bank each."""
    lanes, total = 128 // size, 0
    for start in range(0, 32, lanes):
        banks = {}
        for offset in offsets[start : start + lanes]:
            for word in range(offset // 4, (offset + size) // 4):
                banks.setdefault(word % 32, set()).add(word)
        total += max(len(words) for words in banks.values())
    return total


def shared_wavefronts(offsets, size):
    where, out = np.array(offsets, np.int32), np.zeros(32 * size // 4, np.int32)
    report = launch(
        SHARED.replace("VECTOR", VECTORS[size]), "k", where, written(out), shared_bytes=16384
    )
    starts = where // 4
    assert (out.reshape(32, -1) == starts[:, None] + np.arange(size // 4)).all()
    return report.counters.shared_wavefronts["ld.shared"]


@pytest.mark.parametrize(
    ("stride", "size", "expected"),
    [
        *[(4, 4, 1), (8, 4, 2), (128, 4, 32), (0, 4, 1), (132, 4, 1), (8, 8, 2), (16, 16, 4)],
        *[(64, 16, 16), (128, 16, 32), (144, 16, 4)],
    ],
)
def test_strides(stride, size, expected):
    offsets = [lane * stride for lane in range(32)]
    assert shared_wavefronts(offsets, size) == (expected, 32 * size // 128)
    assert passes(offsets, size) == expected


@pytest.mark.parametrize("size", [4, 8, 16])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_pattern(size, data):
    places = st.integers(0, 16384 // size - 1)
    offsets = [size * p for p in data.draw(st.lists(places, min_size=32, max_size=32))]
    assert shared_wavefronts(offsets, size)[0] == passes(offsets, size)


@settings(max_examples=20, deadline=None)
@given(where=st.lists(st.integers(0, 4095), min_size=64, max_size=64))
def test_sectors_are_counted_per_warp(where):
    source = """extern "C" __global__ void k(const int* where, const int* in, int* out) {
      out[threadIdx.x] = in[where[threadIdx.x]];
    }"""
    data, out = np.arange(4096, dtype=np.int32), np.zeros(64, np.int32)
    counters = launch(
        source, "k", np.array(where, np.int32), data, written(out), threads=64
    ).counters
    gathered = sum(len({4 * p // 32 for p in where[w : w + 32]}) for w in (0, 32))
    assert out.tolist() == where
    assert counters.global_sectors["ld.global"] == gathered + 8
    assert counters.global_requests["ld.global"] == 4
    assert counters.global_sectors["st.global"] == 8


def test_instructions_are_counted_per_warp_that_runs_them():
    source = """extern "C" __global__ void k(float* out, int n) {
      float s = 0;
      #pragma unroll 1
      for (int i = 0; i < n; ++i) s = __fsqrt_rn(s + 1);
      if (threadIdx.x < 32) s = __frcp_rn(s);
      out[threadIdx.x] = s;
    }"""
    counters = launch(
        source, "k", written(np.zeros(96, np.float32)), np.int32(7), threads=96
    ).counters
    assert counters.opcodes["sqrt"] == 7 * 3
    assert counters.opcodes["rcp"] == 1
    assert counters.opcodes["st.global"] == 3
