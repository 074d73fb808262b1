"""The warp-specialised fixture (TMA, mbarrier ring, wgmma.sp, prefix accumulation, bulk stores).

Everything is small integers, so float32 sums are exact and results must be equal.
"""

import numpy as np
import pytest
from hopper_toolchain import DTYPES, RING, problem, ring_source, run_ring
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator_toolchain import ptx

from samoyeds_gen.simulator import SimulationFault

VARIANTS = [("bf16", 128), ("f16", 128), ("bf16", 64), ("f16", 32)]


def simulate(rows, n, k, dtype="bf16", vector=128, source=RING, grid=1, options=(), **flags):
    given_ = problem(rows, n, k, dtype, vector)
    text = ptx(ring_source(dtype, vector, source), "sm_90a", *options)
    out, report = run_ring(given_, text, grid, **flags)
    got = out.view(DTYPES[dtype]).astype(float)
    return np.array_equal(got, given_.expected.astype(DTYPES[dtype]).astype(float)), report


@pytest.mark.parametrize(("dtype", "vector"), VARIANTS)
def test_every_variant_computes_the_exact_product(dtype, vector):
    equal, report = simulate(136, 72, 272, dtype, vector)
    assert equal
    # Four tiles, three steps of four instructions, two warpgroups of four warps.
    assert report.counters.opcodes["wgmma.sp"] == 4 * 3 * 4 * 8


@settings(max_examples=12, deadline=None)
@given(
    rows=st.integers(1, 18).map(lambda i: 8 * i),
    n=st.integers(1, 130),
    k=st.integers(1, 40).map(lambda i: 16 * i),
    variant=st.sampled_from(VARIANTS),
    grid=st.integers(1, 3),
    races=st.booleans(),
)
def test_any_size_is_exact(rows, n, k, variant, grid, races):
    assert simulate(rows, n, k, *variant, grid=grid, races=races, counters=races)[0]


def edited(*edits):
    source = RING
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


EMPTY = "          barrier_wait(&empty[stage], parity);\n"
FULL = "        barrier_wait(&full[stage], parity);\n"
EXPECT = "barrier_expect(&full[stage], kStage)"
WAIT = "          matrix_wait<0>();\n"
EARLY = "          if (first + kVector / 32 == 4 && t == 0) barrier_arrive(&empty[stage]);\n"
RELEASE = "        if (t == 0) barrier_arrive(&empty[stage]);\n"
SLICE = "        if (t == 0) bulk_wait_read<0>();\n"
LAST = "    if (t == 0) bulk_wait_read<0>();\n  }"
FENCED = "        proxy_fence();\n        group_barrier<128>(1 + group);\n"
TURN = "if (++stage == kStages) { stage = 0; parity ^= 1; }\n"
SEEDED = {
    "producer begins with the wrong parity": ("deadlock", [("u32 parity = 1;", "u32 parity = 0;")]),
    "consumer begins with the wrong parity": (
        "read before arrival",
        [("int stage = 0;\n    u32 parity = 0;", "int stage = 0;\n    u32 parity = 1;")],
    ),
    "consumer's parity stands still": (
        "read before arrival",
        [(f"{TURN}      }}\n      for", "if (++stage == kStages) stage = 0;\n      }\n      for")],
    ),
    "missing expect_tx": ("read before arrival", [(EXPECT, "barrier_arrive(&full[stage])")]),
    "expect_tx too small": (
        "read before arrival",
        [(EXPECT, "barrier_expect(&full[stage], kStage - kBytesM)")],
    ),
    "expect_tx too large": ("deadlock", [(EXPECT, "barrier_expect(&full[stage], kStage + 16)")]),
    "missing wait for the stage": ("read before arrival", [(FULL, "")]),
    "missing wait for the ring": ("divergent barrier", [(EMPTY, "")]),
    "stage never released": ("deadlock", [(RELEASE, "")]),
    "stage released early": (
        "race",
        [
            (WAIT, EARLY + WAIT),
            (RELEASE, ""),
        ],
    ),
    "released before the metadata are read": (
        "race",
        [(FULL, f"{FULL}{RELEASE}"), (f"        }}\n{RELEASE}", "        }\n")],
    ),
    "missing wgmma wait": ("read before arrival", [(WAIT, "")]),
    "wgmma wait one group short": ("read before arrival", [(WAIT, WAIT.replace("<0>", "<1>"))]),
    "missing wgmma commit": ("read before arrival", [("          matrix_commit();\n", "")]),
    "missing wgmma fence": ("race", [("          matrix_fence();\n", "")]),
    "missing mbarrier fence": ("race", [("    barrier_fence();\n", "")]),
    "missing barrier after the mbarriers": ("race", [("  __syncthreads();\n", "")]),
    "missing proxy fence": (
        "read before arrival",
        [(FENCED, "        group_barrier<128>(1 + group);\n")],
    ),
    "missing barrier before the store": ("race", [(FENCED, "        proxy_fence();\n")]),
    "the previous store still reads the slice": ("race", [(SLICE, "")]),
    "wait for all stores but one": ("race", [(SLICE, SLICE.replace("<0>", "<1>"))]),
    "store not committed": ("race", [("          bulk_commit();\n", "")]),
    "ends while a store reads": ("race", [(LAST, "  }")]),
    "slices overlap the ring": (
        "race",
        [("shared + kStages * kStage;", "shared + (kStages - 1) * kStage;")],
    ),
    "descriptor stride past the end": (
        "out of bounds",
        [("descriptor(at + kBytesA)", "descriptor(at + kBytesA, 131072)")],
    ),
    "misaligned destination": (
        "misaligned",
        [("stage * kStage;\n          barrier", "stage * kStage + 64;\n          barrier")],
    ),
    "one stage too many": ("out of bounds", [("kStages = 3", "kStages = 4")]),
    "metadata unordered": (
        "invalid metadata",
        [
            ("const uint2 codes", "uint2 codes"),
            (
                "        const u64 a =",
                "        if (t == 37) codes.x = 0x44444441;\n        const u64 a =",
            ),
        ],
    ),
    "too many registers": ("deadlock", [("u32 240", "u32 248")]),
    "a named barrier of both warpgroups": (
        "deadlock",
        [(FENCED, "        proxy_fence();\n        group_barrier<256>(1 + group);\n")],
    ),
}


@pytest.mark.parametrize("name", SEEDED)
def test_seeded_faults_are_named(name):
    kind, edits = SEEDED[name]
    with pytest.raises(SimulationFault) as caught:
        simulate(128, 192, 512, source=edited(*edits), options=("-lineinfo",))
    fault = caught.value
    assert fault.kind == kind
    assert str(fault).startswith(kind)
    assert fault.site is not None
    assert "kernel.cu:" in str(fault)
    assert fault.site.opcode in str(fault)
    assert f"thread {fault.thread}" in str(fault)


WRONG = {
    "descriptor stride": [("descriptor(at + kBytesA)", "descriptor(at + kBytesA, 512)")],
    "descriptor advance": [("(i % 2) * 4;", "(i % 2) * 2;")],
    "metadata of the wrong step": [("i / 2 ? codes.y : codes.x", "codes.x")],
    "swapped selector": [("if (i % 2) multiply1", "if (i % 2 == 0) multiply1")],
    "prefix weight of the wrong block": [
        ("block + 1 >> 5", "block >> 5"),
        ("block + 1 & 31", "block + 2 & 31"),
    ],
    "coordinate of the wrong half": [("step * kStep + 64", "step * kStep + 32")],
    "accumulators not cleared": [("d[i] = 0; y", "if (tile == 0) d[i] = 0; y")],
}
WRONG["prefix weight of the wrong block"] = [
    (" - (float)(after[0] >> (block + 1 & 31) & 1)", " - (float)(after[0] >> (block + 2 & 31) & 1)")
]


@pytest.mark.parametrize("name", WRONG)
def test_seeded_faults_that_only_change_values(name):
    assert not simulate(128, 128, 512, source=edited(*WRONG[name]))[0]


def test_a_half_of_n_skipped_stays_unwritten():
    given_ = problem(128, 64, 128)
    text = ptx(ring_source(body=edited(("half < 2; ++half", "half < 1; ++half"))), "sm_90a")
    out, _ = run_ring(given_, text)
    assert (out[32:] == 0xFFFF).all()
    assert (out[:32] != 0xFFFF).any()


def test_counters_of_the_ring():
    _, report = simulate(128, 64, 256)
    counters = report.counters
    assert counters.instructions == sum(counters.opcodes.values())
    # Two steps: A, two halves of B; two slices of two warpgroups.
    assert counters.opcodes["cp.async.bulk.tensor"] == 2 * 3 + 4
    assert counters.opcodes["cp.async.bulk"] == 2
    assert counters.opcodes["wgmma.commit_group"] == 2 * 8
    # 128 rows of 128 bytes and 64 of 256 a step, and 64 rows of 512 bytes stored.
    assert counters.global_sectors["cp.async.bulk.tensor"] == 2 * (512 + 512) + 64 * 16
    # A warpgroup reads 64 rows of 32 bytes of A and 64 of 64 bytes of B an instruction.
    assert counters.shared_wavefronts["wgmma"] == (8 * 2 * 48, 8 * 2 * 48)
    actual, ideal = counters.shared_wavefronts["st.shared"]
    # The slice is not swizzled: two pairs of token rows share their banks.
    assert actual == 4 * ideal
