"""Barriers, races and arrivals: what is ordered passes, what is not is named."""

import numpy as np
import pytest
from simulator_toolchain import HEADER, launch, launch_ptx, written

from samoyeds_gen.simulator import SimulationFault

EXCHANGE = """extern "C" __global__ void k(int* out) {
  __shared__ volatile int tile[128];
  const int t = threadIdx.x, zero = (int)(unsigned long long)out & 1;
  BEFORE
  tile[t] = t;
  MIDDLE
  out[t] = tile[OTHER];
  AFTER
}"""


def exchange(other, before="", middle="", after="", threads=128, **options):
    source = EXCHANGE.replace("OTHER", other).replace("BEFORE", before)
    source = source.replace("MIDDLE", middle).replace("AFTER", after)
    out = np.zeros(threads, np.int32)
    launch(source, "k", written(out), threads=threads, **options)
    return out


SYNC, WARP = "__syncthreads();", "__syncwarp();"
HALF = 'asm volatile("bar.sync %0, 64;" :: "r"(1 + t / 64) : "memory");'


@pytest.mark.parametrize(
    ("other", "middle", "after"),
    [
        ("t", "", ""),
        ("t", "", "tile[t] = 1;"),
        ("127 - t", SYNC, ""),
        ("t ^ 1", WARP, ""),
        ("t ^ 1", SYNC, f"{WARP} tile[t] = 1;"),
        ("t ^ 32", HALF, ""),
        ("t ^ 32", HALF, f"{HALF} tile[t] = 2;"),
        ("127 - t", SYNC, f"{SYNC} tile[t] = 2;"),
        ("127 - t", 'asm volatile("barrier.sync 3;" ::: "memory");', ""),
        ("127 - t", 'asm volatile("barrier.cta.sync.aligned 0, 128;" ::: "memory");', ""),
    ],
)
def test_ordered_exchanges_pass(other, middle, after):
    out = exchange(other, middle=middle, after=after)
    assert out.tolist() == [eval(other, {"t": t}) for t in range(128)]


@pytest.mark.parametrize(
    ("other", "middle", "after", "act"),
    [
        ("127 - t", "", "", "a read of bytes written"),
        ("t ^ 1", "", "", "a read of bytes written"),
        ("t ^ 32", WARP, "", "a read of bytes written"),
        ("127 - t", HALF, "", "a read of bytes written"),
        ("127 - t", SYNC, "tile[t] = 1;", "a write of bytes read"),
        ("t ^ 1", SYNC, "tile[t] = 1;", "a write of bytes read"),
        ("t", "", "tile[t ^ 64] = 1;", "a write of bytes"),
        ("t", "", "tile[t / 2] = 1;", "a write of bytes"),
    ],
)
def test_unordered_exchanges_are_races(other, middle, after, act):
    with pytest.raises(SimulationFault, match=act) as caught:
        exchange(other, middle=middle, after=after)
    assert caught.value.kind == "race"
    assert caught.value.other is not None
    assert caught.value.buffer == "shared memory"


COUNT = """extern "C" __global__ void k(int* out) {
  __shared__ int count[4];
  const int t = threadIdx.x;
  if (t < 4) count[t] = 0;
  __syncthreads();
  FIRST
  MIDDLE
  SECOND
}"""


@pytest.mark.parametrize(
    ("first", "middle", "second", "what"),
    [
        ("atomicAdd(count + t % 4, 1);", "", "atomicAdd(count + t % 4, 1);", None),
        ("atomicAdd(count + t % 4, 1);", SYNC, "out[t] = count[t % 4];", None),
        ("atomicAdd(count + t / 32, 1);", WARP, "out[t] = count[t / 32];", None),
        ("if (t < 4) atomicAdd(count + t, 1);", "", "if (t < 4) out[t] = count[t];", None),
        ("atomicAdd(count + t % 4, 1);", "", "out[t] = count[t % 4];", "a read of bytes changed"),
        ("atomicAdd(count + t % 4, 1);", WARP, "out[t] = count[t % 4];", "a read of bytes changed"),
        ("atomicAdd(count + t % 4, 1);", "", "if (t < 4) count[t] = 0;", "a write of bytes read"),
        ("out[t] = count[t % 4];", "", "atomicAdd(count + t % 4, 1);", None),
    ],
)
def test_plain_accesses_come_after_atomics(first, middle, second, what):
    source = COUNT.replace("FIRST", first).replace("MIDDLE", middle).replace("SECOND", second)
    out = np.zeros(128, np.int32)
    if what is None:
        launch(source, "k", written(out), threads=128)
        return
    with pytest.raises(SimulationFault, match=what) as caught:
        launch(source, "k", written(out), threads=128)
    assert caught.value.kind == "race"
    assert caught.value.other is not None


def test_without_the_detector_the_same_kernel_runs():
    assert exchange("127 - t", races=False).shape == (128,)


def test_bytes_of_one_word_are_apart():
    source = """extern "C" __global__ void k(int* out) {
      __shared__ __align__(16) unsigned char tile[32];
      tile[threadIdx.x] = threadIdx.x;
      __syncthreads();
      out[threadIdx.x] = tile[31 - threadIdx.x];
    }"""
    out = np.zeros(32, np.int32)
    launch(source, "k", written(out))
    assert (out == 31 - np.arange(32)).all()


def test_arrive_and_sync_hand_over():
    # Warps 0 and 1 write and arrive; warps 2 and 3 wait for them and read.
    source = """extern "C" __global__ void k(int* out) {
      __shared__ int tile[64];
      const int t = threadIdx.x;
      if (t < 64) {
        tile[t] = t;
        asm volatile("bar.arrive 2, 128;" ::: "memory");
        LATE
      } else {
        asm volatile("bar.sync 2, 128;" ::: "memory");
        out[t - 64] = tile[t - 64];
      }
    }"""
    out = np.zeros(64, np.int32)
    launch(source.replace("LATE", ""), "k", written(out), threads=128)
    assert (out == np.arange(64)).all()
    with pytest.raises(SimulationFault, match="race"):
        launch(source.replace("LATE", "tile[t] = 0;"), "k", written(out), threads=128)


@pytest.mark.parametrize(
    ("body", "pattern"),
    [
        ("if (t < 96) __syncthreads();", "3 of 4 warps arrived .*warp 0 at barrier 0"),
        ("if (t / 32 != 1) { __syncthreads(); } __syncthreads();", "3 of 4 warps arrived"),
        ('if (t < 32) asm volatile("bar.sync 5, 64;");', "1 of 2 warps arrived.*barrier 5"),
    ],
)
def test_deadlocks_name_warps_and_barriers(body, pattern):
    with pytest.raises(SimulationFault, match=pattern) as caught:
        exchange("t", before=body)
    assert caught.value.kind == "deadlock"
    assert "bar.sync" in str(caught.value)


@pytest.mark.parametrize(
    ("body", "pattern"),
    [
        ("if (t < 40) __syncthreads();", "only 8 of 32 lanes of warp 1"),
        ("if (t % 2) __syncthreads(); else out[t] = 1;", "only 16 of 32 lanes of warp 0"),
        ('asm volatile("bar.sync %0;" :: "r"(17 + zero));', "barrier 17"),
        ('asm volatile("bar.sync 1, %0;" :: "r"(48 + zero));', "barrier 1 of 48 threads"),
        (
            'asm volatile("bar.sync 1, %0;" :: "r"(64 + t / 96 * 32));',
            "begun for 64 threads and meets 96",
        ),
        ("if (t < 8) __syncwarp(0xffff);", "member mask 0x0000ffff"),
    ],
)
def test_divergent_barriers(body, pattern):
    with pytest.raises(SimulationFault, match=pattern) as caught:
        exchange("t", before=body)
    assert caught.value.kind == "divergent barrier"


def test_an_endless_loop_ends(monkeypatch):
    monkeypatch.setattr("samoyeds_gen.simulator.machine.MAX_BLOCKS", 1000)
    text = HEADER.format(target="sm_80") + ".visible .entry k() { L: bra L; }"
    with pytest.raises(SimulationFault, match="no end after 1000 blocks") as caught:
        launch_ptx(text, "k")
    assert caught.value.kind == "deadlock"


ASYNC = """
extern "C" __global__ void k(const int4* in, int4* out) {
  __shared__ __align__(16) int4 tile[64];
  const int t = threadIdx.x;
  unsigned place = (unsigned)__cvta_generic_to_shared(&tile[t]);
  BEFORE
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(place), "l"(in + t) : "memory");
  asm volatile("cp.async.commit_group;" ::: "memory");
  WAIT
  out[t] = tile[OTHER];
}"""
WAIT = 'asm volatile("cp.async.wait_group 0;" ::: "memory");'
WAIT_ONE = 'asm volatile("cp.async.wait_group 1;" ::: "memory");'


def asynchronous(other, wait, before=""):
    source = ASYNC.replace("OTHER", other).replace("WAIT", wait).replace("BEFORE", before)
    data = np.random.default_rng(0).integers(0, 2**31, (64, 4)).astype(np.int32)
    out = np.zeros_like(data)
    launch(source, "k", data, written(out), threads=64)
    return data, out


def test_waited_copies_arrive():
    data, out = asynchronous("t", WAIT)
    assert (out == data).all()
    data, out = asynchronous("63 - t", WAIT + SYNC)
    assert (out == data[::-1]).all()


@pytest.mark.parametrize(
    ("other", "wait", "before", "kind"),
    [
        ("t", "", "", "read before arrival"),
        ("t", WAIT_ONE, "", "read before arrival"),
        ("t", SYNC, "", "read before arrival"),
        ("63 - t", WAIT, "", "race"),
        ("63 - t", SYNC + WAIT, "", "race"),
        ("t ^ 1", WAIT, "", "race"),
        ("t", f"tile[t] = in[0]; {WAIT}", "", "race"),
        ("t", WAIT, "tile[t ^ 1] = in[t];", "race"),
        ("t", WAIT, f"tile[t] = in[t]; {SYNC} out[t] = tile[t ^ 1];", "race"),
    ],
)
def test_unwaited_and_unordered_copies(other, wait, before, kind):
    with pytest.raises(SimulationFault) as caught:
        asynchronous(other, wait, before)
    assert caught.value.kind == kind


def test_undelivered_copies_hold_poison_without_the_detector():
    source = ASYNC.replace("OTHER", "t").replace("WAIT", "").replace("BEFORE", "")
    out = np.zeros((64, 4), np.int32)
    launch(source, "k", np.ones((64, 4), np.int32), written(out), threads=64, races=False)
    assert (out == -1).all()


def test_groups_complete_in_order():
    text = (
        HEADER.format(target="sm_80")
        + """
    .shared .align 16 .b8 tile[16];
    .visible .entry k(.param .u64 k_0, .param .u64 k_1) {
    .reg .b32 %s, %r<4>; .reg .b64 %p<2>; mov.u32 %s, tile;
    ld.param.u64 %p0, [k_0]; ld.param.u64 %p1, [k_1];
    cp.async.ca.shared.global [%s], [%p0], 4; cp.async.commit_group;
    cp.async.ca.shared.global [%s+4], [%p0+4], 4; cp.async.commit_group;
    cp.async.ca.shared.global [%s+8], [%p0+8], 4;
    cp.async.wait_group 1; ld.shared.b32 %r0, [%s]; st.global.b32 [%p1], %r0;
    cp.async.wait_group 0; ld.shared.b32 %r0, [%s+4]; st.global.b32 [%p1+4], %r0;
    LAST
    ld.shared.b32 %r0, [%s+8]; st.global.b32 [%p1+8], %r0; ret; }"""
    )
    data, out = np.arange(1, 5, dtype=np.uint32), np.zeros(4, np.uint32)
    launch_ptx(text.replace("LAST", "cp.async.wait_all;"), "k", data, written(out), threads=1)
    assert out.tolist() == [1, 2, 3, 0]
    with pytest.raises(SimulationFault, match="read before arrival"):
        launch_ptx(
            text.replace("LAST", "cp.async.wait_group 0;"), "k", data, written(out), threads=1
        )


@pytest.mark.parametrize(
    ("body", "legal"),
    [
        ("out[i] = i;", True),
        ("out[t] = i;", False),
        ("out[i] = i; int v = out[i ^ 1]; out[i + 256] = v;", False),
        ("out[i] = i; __syncthreads(); int v = out[i ^ 1]; out[i + 256] = v;", True),
        ("int v = out[i ^ 64]; out[i] = v;", False),
        ("atomicAdd(out + t, 1);", True),
        ("atomicAdd(out + t, 1); out[t ^ 1] = 2;", False),
    ],
)
def test_global_races(body, legal):
    source = f"""extern "C" __global__ void k(int* out) {{
      const int t = threadIdx.x, i = blockIdx.x * blockDim.x + t; {body} }}"""
    out = np.zeros(512, np.int32)
    if legal:
        launch(source, "k", written(out), grid=4, threads=64)
        return
    with pytest.raises(SimulationFault, match="which nothing orders") as caught:
        launch(source, "k", written(out), grid=4, threads=64)
    assert caught.value.kind == "race"


LAST_BLOCK = """extern "C" __global__ void k(float* part, unsigned* count, float* out) {
  __shared__ unsigned ticket;
  part[blockIdx.x * 32 + threadIdx.x] = blockIdx.x + 1;
  FENCE
  __syncthreads();
  if (threadIdx.x == 0) ticket = atomicAdd(count, 1u);
  __syncthreads();
  if (ticket == gridDim.x - 1) {
    FENCE
    float sum = 0;
    for (int i = 0; i < gridDim.x; ++i) sum += part[i * 32 + threadIdx.x];
    out[threadIdx.x] = sum;
  }
}"""


@pytest.mark.parametrize("lanes", [32, 4096])
def test_fence_and_atomic_order_ctas(lanes, monkeypatch):
    monkeypatch.setattr("samoyeds_gen.simulator.launch.LANES_PER_BATCH", lanes)
    part, count, out = (
        np.zeros((5, 32), np.float32),
        np.zeros(1, np.uint32),
        np.zeros(32, np.float32),
    )
    arguments = [written(part, "part", initialised=False), written(count), written(out)]
    source = LAST_BLOCK.replace("FENCE", "__threadfence();")
    launch(source, "k", *arguments, grid=5)
    assert (out == 15).all()
    count[:] = 0
    with pytest.raises(SimulationFault, match="race"):
        launch(LAST_BLOCK.replace("FENCE", ""), "k", *arguments, grid=5)


@pytest.mark.parametrize("threads", [40, 64, 100])
def test_the_last_warp_need_not_be_full(threads):
    out = exchange(f"{threads - 1} - t", middle=SYNC, threads=threads)
    assert out.tolist() == list(range(threads))[::-1]


def test_voting_barriers():
    source = """extern "C" __global__ void k(const int* in, int* out) {
      const int t = threadIdx.x, v = in[t];
      out[t] = __syncthreads_count(v > 1) * 4 + __syncthreads_or(v > 2) * 2 + __syncthreads_and(v);
    }"""
    for values in ([1] * 96, [2] * 50 + [3] * 46, [0] * 30 + [3] * 66):
        data, out = np.array(values, np.int32), np.zeros(96, np.int32)
        launch(source, "k", data, written(out), threads=96)
        expected = (data > 1).sum() * 4 + (data > 2).any() * 2 + data.all()
        assert (out == expected).all()
