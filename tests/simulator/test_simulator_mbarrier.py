"""mbarrier: phases, hand-over, misuse, deadlocks; cp.async arriving at one."""

import numpy as np
import pytest
from hopper_toolchain import PRELUDE
from simulator_toolchain import ptx, written

from samoyeds_gen.simulator import Pointer, SimulationFault, parse, run

MORE = """
__device__ u64 arrive_state(u64* b, u32 count = 1) {
  u64 state;
  asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 %0, [%1], %2;"
               : "=l"(state) : "r"(shared_address(b)), "r"(count) : "memory");
  return state;
}
__device__ bool test_state(u64* b, u64 state) {
  u32 over;
  asm volatile("{.reg .pred p; mbarrier.test_wait.acquire.cta.shared::cta.b64 p, [%1], %2;"
               "selp.u32 %0, 1, 0, p;}"
               : "=r"(over) : "r"(shared_address(b)), "l"(state) : "memory");
  return over;
}
__device__ bool try_parity(u64* b, u32 parity) {
  u32 over;
  asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2, 1000;"
               "selp.u32 %0, 1, 0, p;}"
               : "=r"(over) : "r"(shared_address(b)), "r"(parity) : "memory");
  return over;
}
__device__ u32 pending(u64 state) {
  u32 count;
  asm volatile("mbarrier.pending_count.b64 %0, %1;" : "=r"(count) : "l"(state));
  return count;
}
__device__ void expect_only(u64* b, u32 bytes) {
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;"
               ::"r"(shared_address(b)), "r"(bytes) : "memory");
}
__device__ void complete(u64* b, u32 bytes) {
  asm volatile("mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%0], %1;"
               ::"r"(shared_address(b)), "r"(bytes) : "memory");
}
extern "C" __global__ void k(const int* in, int* out) {
  __shared__ u64 b, other;
  __shared__ __align__(16) volatile int tile[256];
  const int t = threadIdx.x, lane = t % 32, zero = (int)(u64)out & 1;
  if (t == 0) { barrier_init(&b, COUNT); barrier_init(&other, COUNT); }
  __syncthreads();
  BODY
}
"""


def launch(body, count=1, threads=64, data=None, **options):
    source = PRELUDE + MORE.replace("BODY", body).replace("COUNT", str(count))
    out = np.zeros(256, np.int32)
    data = np.arange(100, 356, dtype=np.int32) if data is None else data
    run(
        parse(ptx(source, "sm_90a")),
        "k",
        grid=(1, 1, 1),
        block=(threads, 1, 1),
        arguments=[Pointer(data, "in"), written(out)],
        **options,
    )
    return out[:threads]


def test_parities_alternate():
    out = launch(
        """if (t == 0) for (int i = 0; i < 5; ++i) {
          out[2 * i] = try_parity(&b, 0); out[2 * i + 1] = try_parity(&b, 1);
          barrier_arrive(&b); }"""
    )
    assert out[:10].tolist() == [0, 1, 1, 0, 0, 1, 1, 0, 0, 1]


def test_states_and_pending_counts():
    out = launch(
        """if (t == 0) {
          u64 first = arrive_state(&b), second = arrive_state(&b, 2);
          out[0] = pending(first); out[1] = pending(second); out[2] = test_state(&b, first);
          u64 third = arrive_state(&b, 3);
          out[3] = test_state(&b, first); out[4] = test_state(&b, third);
          out[5] = pending(arrive_state(&b)); }""",
        count=6,
    )
    assert out[:6].tolist() == [6, 5, 0, 1, 1, 6]


def test_transactions_hold_a_phase_open():
    out = launch(
        """if (t == 0) {
          expect_only(&b, 48); barrier_expect(&b, 16);
          out[0] = try_parity(&b, 0); complete(&b, 40); out[1] = try_parity(&b, 0);
          complete(&b, 24); out[2] = try_parity(&b, 0); }""",
        threads=32,
    )
    # The second question is asked again before it is given up.
    assert out[:3].tolist() == [0, 0, 1]


def test_bytes_may_come_before_they_are_expected():
    out = launch(
        """if (t == 0) { complete(&b, 16); barrier_arrive(&b); out[0] = try_parity(&b, 0);
          expect_only(&b, 16); out[1] = try_parity(&b, 0); }"""
    )
    assert out[:2].tolist() == [0, 1]


HAND_OVER = """
  if (t < 32) {{ tile[lane] = in[lane]; {ready} }}
  else {{ {wait} out[t] = tile[{other}]; }}"""
READY, WAIT = "barrier_arrive(&b);", "barrier_wait(&b, 0);"


@pytest.mark.parametrize(
    ("count", "ready", "other"),
    [
        (32, READY, "31 - lane"),
        (1, f"__syncwarp(); if (lane == 0) {READY}", "31 - lane"),
        (1, f"__syncwarp(); if (lane == 7) {READY}", "lane"),
        (2, "__syncwarp(); if (lane == 0) arrive_state(&b, 2);", "lane"),
        (32, READY.replace("arrive", "expect").replace(");", ", 0);"), "31 - lane"),
    ],
)
def test_arrivals_hand_over(count, ready, other):
    out = launch(HAND_OVER.format(ready=ready, wait=WAIT, other=other), count)
    expected = np.arange(100, 132)
    assert out[32:].tolist() == (expected[::-1] if "31" in other else expected).tolist()


LONE = """if (t < 32) {{ tile[lane] = in[lane]; if (lane == 7) {{ {hand} }} }}
if (t == 32) {{ barrier_wait(&b, 0); out[0] = tile[{read}]; }}"""


def test_a_lane_hands_over_its_own_writes():
    """Its warp's other lanes wrote meanwhile, and did not meet it."""
    assert launch(LONE.format(hand="barrier_arrive(&b);", read=7))[0] == 107


@pytest.mark.parametrize(
    ("hand", "read"),
    [
        ("barrier_arrive(&b);", "6"),
        ("barrier_arrive(&b); tile[7] = 1;", "7"),
    ],
)
def test_a_lane_hands_over_nothing_else(hand, read):
    with pytest.raises(SimulationFault, match="a read of bytes written by thread") as caught:
        launch(LONE.format(hand=hand, read=read))
    assert caught.value.kind == "race"


RELAXED = """asm volatile("mbarrier.arrive.relaxed.cta.shared::cta.b64 _, [%0];"
  :: "r"(shared_address(&b)));"""
BLIND = """asm volatile("{.reg .pred p;\\nL: mbarrier.try_wait.parity.relaxed.cta.shared::cta.b64"
  " p, [%0], 0;\\n@!p bra L;}" :: "r"(shared_address(&b)));"""


@pytest.mark.parametrize(
    ("count", "ready", "wait", "kind"),
    [
        (1, f"if (lane == 0) {READY}", WAIT, "race"),
        (32, READY, "", "race"),
        (32, READY, WAIT.replace("0", "1"), "deadlock"),
        (32, RELAXED, WAIT, "race"),
        (32, READY, BLIND, "race"),
        (32, f"{READY} tile[lane] = 1;", WAIT, "race"),
        (32, READY.replace("b)", "other)"), WAIT, "deadlock"),
        (33, READY, WAIT, "deadlock"),
        (32, READY, WAIT + WAIT.replace("0", "1"), "deadlock"),
    ],
)
def test_arrivals_that_hand_over_nothing(count, ready, wait, kind):
    body = HAND_OVER.format(ready=ready, wait=wait, other="lane")
    with pytest.raises(SimulationFault) as caught:
        launch(body, count)
    assert caught.value.kind == kind


def test_a_wait_without_a_loop_may_fail():
    # The hardware may give up early, and does here even though the arrival comes.
    out = launch("if (t < 32) out[t] = try_parity(&b, 0); else if (t == 32) barrier_arrive(&b);")
    assert out[:32].tolist() == [0] * 32


def test_polling_with_other_work_goes_on():
    out = launch(
        """if (t == 0) {
          int spins = 0;
          while (!try_parity(&b, 0)) if (++spins == 3) barrier_arrive(&b);
          out[0] = spins; }"""
    )
    assert out[0] == 3


MEET = "if (t == 32) barrier_wait(&b, 0); MEET; out[t] = tile[31 - lane];"


@pytest.mark.parametrize("meet", ["__syncwarp()", "__syncthreads()"])
def test_lanes_meet_again_behind_a_wait_of_one(meet):
    ready = "if (t < 32) { tile[lane] = in[lane]; barrier_arrive(&b); }"
    out = launch(f"{ready} {MEET.replace('MEET', meet)}", 32)
    assert out.tolist() == list(range(131, 99, -1)) * 2


def test_lanes_of_one_warp_may_wait_for_each_other():
    out = launch(
        "if (t == 0) barrier_wait(&b, 0); else if (t == 1) barrier_arrive(&b); out[t] = 1;"
    )
    assert (out == 1).all()


def test_a_lane_that_never_comes_is_a_deadlock():
    with pytest.raises(SimulationFault, match="warp 0: waits for mbarrier") as caught:
        launch("if (t == 0) barrier_wait(&b, 0); __syncwarp(); out[t] = 1;")
    assert caught.value.kind == "deadlock"


def test_deadlocks_name_barriers_and_warps():
    with pytest.raises(SimulationFault) as caught:
        launch(
            "if (t >= 32) barrier_wait(&b, 0); else if (t == 0) barrier_wait(&other, 0);", 3, 128
        )
    sentence = str(caught.value)
    assert caught.value.kind == "deadlock"
    assert "warps 1-3: waits for mbarrier 0x" in sentence
    assert "warp 0: waits for mbarrier 0x" in sentence
    assert "(phase 0: 3 of 3 arrivals and 0 bytes pending)" in sentence
    assert "mbarrier.try_wait.parity.shared::cta.b64" in sentence


def test_ends_while_a_barrier_waits():
    body = "if (t < 32) __syncthreads(); else barrier_wait(&b, 0);"
    with pytest.raises(SimulationFault, match="warp 1: waits for mbarrier") as caught:
        launch(body)
    assert caught.value.kind == "deadlock"


INVALID = (
    'asm volatile("mbarrier.inval.shared::cta.b64 [%0];" :: "r"(shared_address(&b)) : "memory");'
)


@pytest.mark.parametrize(
    ("body", "kind", "why"),
    [
        ("if (t < 2) barrier_expect(&b, 16);", "divergent barrier", "1 arrivals too many"),
        ("if (t == 0) arrive_state(&b, 2);", "divergent barrier", "arrivals too many"),
        ("if (t == 0) barrier_init(&b, 1);", "race", "mbarrier that thread 0 made"),
        ("if (t == 0) expect_only(&b, 1 << 20);", "divergent barrier", "more bytes than"),
        ("if (t == 0) barrier_arrive((u64*)&tile[0]);", "uninitialised read", "no mbarrier"),
        (f"if (t == 0) {{ {INVALID} {READY} }}", "uninitialised read", "no mbarrier"),
        ("if (t == 0) ((volatile int*)&b)[0] = 1;", "race", "mbarrier that thread 0 made"),
        ("if (t == 0) out[0] = ((volatile int*)&b)[1];", "race", "mbarrier that thread 0 made"),
        ("if (t == 0) barrier_arrive((u64*)((char*)&b + 4));", "misaligned", "multiple of 8"),
        ("if (t == 0) barrier_arrive((u64*)((char*)&b + 65536));", "out of bounds", "8 bytes"),
    ],
)
def test_misuse(body, kind, why):
    with pytest.raises(SimulationFault, match=why) as caught:
        launch(body)
    assert caught.value.kind == kind


@pytest.mark.parametrize("count", ["0", "1 << 20"])
def test_counts_out_of_range(count):
    with pytest.raises(SimulationFault, match="which must be 1 to 1048575"):
        launch("", count)


def test_an_mbarrier_made_without_a_barrier():
    source = PRELUDE + MORE.replace("  __syncthreads();\n", "").replace("COUNT", "1")
    text = ptx(source.replace("BODY", "if (t == 1) barrier_arrive(&b);"), "sm_90a")
    out = Pointer(np.zeros(4, np.int32), writable=True)
    with pytest.raises(SimulationFault, match="is made by thread 0, with no barrier between"):
        run(parse(text), "k", grid=(1, 1, 1), block=(32, 1, 1), arguments=[out, out])


def test_memory_returns_after_inval():
    out = launch(
        f"if (t == 0) {{ {INVALID} *(volatile int*)&b = 5; out[0] = *(volatile int*)&b; }}"
    )
    assert out[0] == 5


COPY = """
  const u32 place = shared_address((const int*)tile + t * 4);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
               :: "r"(place), "l"(in + t * 4) : "memory");
  ARRIVE
  AFTER
  out[t] = tile[OTHER];"""
NOINC = """asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];"
  :: "r"(shared_address(&b)) : "memory");"""


def copies(arrive, count, after="", other="255 - t", wait=WAIT):
    body = COPY.replace("ARRIVE", arrive).replace("OTHER", other).replace("AFTER", after + wait)
    return launch(body, count)


@pytest.mark.parametrize("other", ["t", "255 - t"])
def test_copies_arrive_at_an_mbarrier(other):
    expected = [100 + eval(other, {"t": t}) for t in range(64)]
    assert copies(NOINC, 64, other=other).tolist() == expected
    # The form that counts itself adds the arrivals that it makes.
    counted = NOINC.replace(".noinc", "")
    assert copies(counted, 64, "barrier_arrive(&b);", other).tolist() == expected


@pytest.mark.parametrize(
    ("arrive", "after", "other", "wait", "kind"),
    [
        (NOINC, "", "255 - t", "", "read before arrival"),
        ("barrier_arrive(&b);", "", "255 - t", WAIT, "read before arrival"),
        (NOINC, "tile[t * 4] = 1;", "255 - t", WAIT, "race"),
        (NOINC.replace("&b", "&other"), "barrier_arrive(&b);", "t", WAIT, "read before arrival"),
    ],
)
def test_copies_that_nobody_waits_for(arrive, after, other, wait, kind):
    with pytest.raises(SimulationFault) as caught:
        copies(arrive, 64, after, other, wait)
    assert caught.value.kind == kind
