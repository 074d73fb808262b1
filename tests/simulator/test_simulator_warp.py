"""Shuffles, votes and masks against the ISA's pseudocode."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator_toolchain import HEADER, evaluate, launch, launch_ptx, written

from samoyeds_gen.simulator import SimulationFault

LANES = 64
lanes = st.lists(st.integers(0, 2**32 - 1), min_size=LANES, max_size=LANES)


def shuffle(mode, values, shift, clamp, lane):
    """shfl.sync of one lane of one warp: value and predicate (PTX ISA, "shfl.sync")."""
    by, limit, segment = shift & 31, clamp & 31, clamp >> 8 & 31
    last, least = (lane & segment) | (limit & ~segment), lane & segment
    source = {
        "up": lane - by,
        "down": lane + by,
        "bfly": lane ^ by,
        "idx": least | (by & ~segment),
    }[mode]
    valid = source >= last if mode == "up" else source <= last
    return (values[source] if valid else values[lane]), valid


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@settings(max_examples=20, deadline=None)
@given(values=lanes, shift=st.integers(0, 31), width=st.sampled_from([2, 4, 8, 16, 32]))
def test_shuffle(mode, values, shift, width):
    clamp = (32 - width) << 8 | (0 if mode == "up" else 31)
    a = np.array(values, np.uint32)
    line = f".reg .pred %q; shfl.sync.{mode}.b32 %d|%q, %a, {shift}, {clamp}, -1;"
    got = evaluate(line, "u32 u32", a)
    valid = evaluate(
        f".reg .b32 %x; shfl.sync.{mode}.b32 %x|%d, %a, {shift}, {clamp}, -1;", "pred u32", a
    )
    for lane in range(LANES):
        warp = values[lane & 32 : (lane & 32) + 32]
        assert (got[lane], valid[lane]) == shuffle(mode, warp, shift, clamp, lane & 31)


@settings(max_examples=10, deadline=None)
@given(values=lanes)
def test_shuffle_by_a_lane_dependent_index(values):
    a = np.array(values, np.uint32)
    got = evaluate("shfl.sync.idx.b32 %d, %i, %a, 31, -1;", "u32 u32", a)
    assert got.tolist() == [(i & 32) + (v & 31) for i, v in enumerate(values)]


@settings(max_examples=10, deadline=None)
@given(values=st.lists(st.integers(0, 1), min_size=LANES, max_size=LANES))
def test_votes(values):
    a = np.array(values, np.uint8)
    for warp in (slice(0, 32), slice(32, 64)):
        bits = values[warp]
        word = sum(bit << lane for lane, bit in enumerate(bits))
        assert set(evaluate("vote.sync.ballot.b32 %d, %a, -1;", "u32 pred", a)[warp]) == {word}
        for mode, expected in (
            ("all", all(bits)),
            ("any", any(bits)),
            ("uni", len(set(bits)) == 1),
        ):
            got = evaluate(f"vote.sync.{mode}.pred %d, %a, -1;", "pred pred", a)
            assert set(got[warp].tolist()) == {int(expected)}


@pytest.mark.parametrize(
    ("opcode", "fold"),
    [
        ("add.s32", sum),
        ("min.u32", min),
        ("max.u32", max),
        ("or.b32", lambda v: int(np.bitwise_or.reduce(v))),
        ("xor.b32", lambda v: int(np.bitwise_xor.reduce(v))),
    ],
)
def test_reductions(opcode, fold):
    values = np.random.default_rng(1).integers(0, 2**20, LANES).astype(np.uint32)
    got = evaluate(f"redux.sync.{opcode} %d, %a, -1;", "u32 u32", values)
    assert got[:32].tolist() == [fold(values[:32].tolist())] * 32
    assert got[32:].tolist() == [fold(values[32:].tolist())] * 32


def test_masks_of_a_diverged_warp():
    text = HEADER.format(target="sm_80") + (
        ".visible .entry k(.param .u64 k_0) { .reg .b32 %r<4>; .reg .b64 %p; .reg .pred %q;\n"
        "mov.u32 %r0, %tid.x; ld.param.u64 %p, [k_0]; mad.wide.u32 %p, %r0, 4, %p;\n"
        "setp.lt.u32 %q, %r0, 12; @%q bra LOW; activemask.b32 %r1; bra DONE;\n"
        "LOW: activemask.b32 %r1;\nDONE: mov.u32 %r2, %lanemask_lt; and.b32 %r1, %r1, %r2;\n"
        "st.global.u32 [%p], %r1; ret; }"
    )
    out = np.zeros(32, np.uint32)
    launch_ptx(text, "k", written(out))
    below = [(1 << lane) - 1 for lane in range(32)]
    expected = [(0xFFF if lane < 12 else 0xFFFFF000) & below[lane] for lane in range(32)]
    assert out.tolist() == expected


def test_elect_and_match():
    out = np.zeros((2, 32), np.uint32)
    source = """extern "C" __global__ void k(unsigned* out) {
      unsigned leader; int chosen;
      asm volatile("{ .reg .pred p; elect.sync %0|p, 0xffffff00; selp.s32 %1, 1, 0, p; }"
                   : "=r"(leader), "=r"(chosen));
      out[threadIdx.x] = leader * 2 + chosen;
      out[32 + threadIdx.x] = __match_any_sync(~0u, threadIdx.x % 3);
    }"""
    launch(source, "k", written(out), target="sm_90a")
    assert out[0, 8:].tolist() == [17] + [16] * 23
    groups = [sum(1 << lane for lane in range(i % 3, 32, 3)) for i in range(32)]
    assert out[1].tolist() == groups


def test_a_member_that_does_not_come_is_reported():
    source = """extern "C" __global__ void k(int* out) {
      if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(~0u, (int)threadIdx.x, 1);
    }"""
    with pytest.raises(SimulationFault, match="member mask 0xffffffff") as caught:
        launch(source, "k", written(np.zeros(32, np.int32)))
    assert caught.value.kind == "divergent barrier"
