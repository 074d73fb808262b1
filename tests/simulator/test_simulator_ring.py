"""The fixture kernel (cp.async ring, ldmatrix, mma.sp, staged epilogue) on every target.

Everything is small integers, so float32 sums are exact and results must be equal.
"""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator_toolchain import RING, TARGETS, ptx

from samoyeds_gen.simulator import Pointer, SimulationFault, parse, run

DTYPES = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}
PAIRS = np.array([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)])
TILE, STAGES, STAGE_BYTES = 64, 3, 12288


def problem(m, n, k, dtype, seed=0):
    """Stored weight, metadata in fragment order, tokens, and the exact product."""
    rng = np.random.default_rng(seed)
    rows, columns = -(-m // TILE) * TILE, -(-k // TILE) * TILE
    positions = PAIRS[rng.integers(0, 6, (rows, columns // 4))]
    values = rng.integers(-3, 4, (rows, columns // 4, 2)).astype(float)
    dense = np.zeros((rows, columns // 4, 4))
    np.put_along_axis(dense, positions, values, axis=2)
    nibbles = (positions[..., 0] | positions[..., 1] << 2).astype(np.uint32)
    shifts = np.arange(0, 16, 4, dtype=np.uint32)
    words = (nibbles.reshape(rows, -1, 4) << shifts).sum(axis=2, dtype=np.uint32)
    parts = words.reshape(rows // 16, 2, 8, columns // 64, 4)
    metadata = (parts[:, 0] | parts[:, 1] << 16).transpose(0, 2, 1, 3).reshape(-1, 32)
    tokens = rng.integers(-3, 4, (n, k)).astype(DTYPES[dtype])
    data = values.reshape(rows, columns // 2)[:m].astype(DTYPES[dtype])
    expected = tokens.astype(float) @ dense.reshape(rows, columns)[:m, :k].T
    return data, np.ascontiguousarray(metadata), tokens, expected


def simulate(m, n, k, dtype="f16", target="sm_80", source=RING, options=(), **flags):
    data, metadata, tokens, expected = problem(m, n, k, dtype)
    out = np.full((n, m), 0xFFFF, np.uint16)
    text = ptx(source.replace("TYPE", f'"{dtype}"'), target, *options)
    report = run(
        parse(text),
        "ring",
        grid=(-(-m // TILE), -(-n // TILE), 1),
        block=(128, 1, 1),
        shared_bytes=STAGES * STAGE_BYTES,
        arguments=[
            Pointer(data, "weight"),
            Pointer(metadata, "metadata"),
            Pointer(tokens, "tokens"),
            Pointer(out, "out", writable=True, initialised=False),
            np.int32(m),
            np.int32(n),
            np.int32(k),
        ],
        **flags,
    )
    got = out.view(DTYPES[dtype]).astype(float)
    return np.array_equal(got, expected.astype(DTYPES[dtype]).astype(float)), report


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", TARGETS)
def test_every_target_computes_the_exact_product(target, dtype):
    equal, report = simulate(72, 70, 200, dtype, target)
    assert equal
    assert report.counters.opcodes["mma.sp"] == 4 * 4 * 4 * 16


@settings(max_examples=20, deadline=None)
@given(
    m=st.integers(1, 20).map(lambda i: 8 * i),
    n=st.integers(1, 140),
    k=st.integers(1, 40).map(lambda i: 8 * i),
    dtype=st.sampled_from(sorted(DTYPES)),
    races=st.booleans(),
)
def test_any_size_is_exact(m, n, k, dtype, races):
    assert simulate(m, n, k, dtype, races=races, counters=races)[0]


def test_batches_of_ctas_and_progress(monkeypatch):
    seen = []
    monkeypatch.setattr("samoyeds_gen.simulator.launch.LANES_PER_BATCH", 256)
    equal, report = simulate(192, 130, 64, progress=lambda done, total: seen.append((done, total)))
    assert equal
    assert report.ctas == 9
    assert seen == [(2, 9), (4, 9), (6, 9), (8, 9), (9, 9)]


def edited(*edits):
    source = RING
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


MISSING = "wait<kStages - 2>();\n    __syncthreads();"
EPILOGUE = "= narrow(sum[i][j][e]);\n      }\n  __syncthreads();"
CODES = "codes[i] = metadata[(fragment * steps + step) * 32 + lane];"
PLACE_A = "place_a(warp_m + i * 16 + (lane & 15), half * 2 + (lane >> 4))"
SEEDED = {
    "missing wait": ("read before arrival", [(MISSING, "__syncthreads();")]),
    "wait one group short": (
        "read before arrival",
        [(MISSING, "wait<kStages - 1>();\n    __syncthreads();")],
    ),
    "missing barrier after the wait": ("race", [(MISSING, "wait<kStages - 2>();")]),
    "barrier before the wait": ("race", [(MISSING, "__syncthreads();\n    wait<kStages - 2>();")]),
    "missing barrier before the epilogue": (
        "race",
        [("wait<0>();\n  __syncthreads();", "wait<0>();")],
    ),
    "missing barrier inside the epilogue": (
        "race",
        [(EPILOGUE, EPILOGUE.removesuffix("\n  __syncthreads();"))],
    ),
    "ring one stage short": (
        "read before arrival",
        [
            ("base + step % kStages * kStage;\n    for", "base + step % 2 * kStage;\n    for"),
            ("base + step % kStages * kStage;\n    u32", "base + step % 2 * kStage;\n    u32"),
        ],
    ),
    "one token too many": (
        "out of bounds",
        [("n0 + row < n && step", "n0 + row <= n && step")],
    ),
    "one row too many written": (
        "out of bounds",
        [("if (n0 + token < n &&", "if (n0 + token <= n &&")],
    ),
    "shared memory overrun": (
        "out of bounds",
        [("kBytesA + place_b(warp_n", "kStage * 3 + place_b(warp_n")],
    ),
    "address off by eight bytes": ("misaligned", [(PLACE_A, PLACE_A + " + 8")]),
    "token rows off by two bytes": (
        "misaligned",
        [("+ column * 8) * 2 : 0)", "+ column * 8) * 2 + 2 : 0)")],
    ),
    "unordered metadata": (
        "invalid metadata",
        [(CODES, CODES + " if (lane == 5) codes[i] = 0x44444441;")],
    ),
    "equal positions": ("invalid metadata", [(CODES, CODES + " codes[i] = 0;")]),
    "divergent barrier": (
        "divergent barrier",
        [(EPILOGUE, EPILOGUE.replace("__sync", "if (thread < 80) __sync"))],
    ),
    "one warp waits for nobody": (
        "deadlock",
        [
            (
                "  const u32 base =",
                '  if (warp == 2) asm volatile("bar.sync 1, 64;");\n  const u32 base =',
            )
        ],
    ),
    "two threads write one token": (
        "race",
        [("((u64)(n0 + token) * m +", "((u64)(n0 + token - (token == 1)) * m +")],
    ),
}


@pytest.mark.parametrize("name", SEEDED)
def test_seeded_faults_are_named(name):
    kind, edits = SEEDED[name]
    with pytest.raises(SimulationFault) as caught:
        simulate(128, 100, 256, source=edited(*edits), options=("-lineinfo",))
    fault = caught.value
    assert fault.kind == kind
    assert str(fault).startswith(kind)
    assert fault.site is not None
    assert "kernel.cu:" in str(fault)
    assert fault.site.opcode in str(fault)
    if kind != "deadlock":
        assert f"thread {fault.thread}" in str(fault)
        assert "CTA (" in str(fault)


WRONG = {
    "swizzle of the copy only": [
        ("stage + kBytesA + place_b(row, column)", "stage + kBytesA + row * 128 + column * 16")
    ],
    "swapped selector": [("if (half == 0) multiply<0>", "if (half == 1) multiply<0>")],
    "metadata of the neighbouring row": [("* 32 + lane];", "* 32 + (lane ^ 4)];")],
    "token off by one": [("(u64)(n0 + row) * k", "(u64)(n0 + (row ^ 1)) * k")],
}


@pytest.mark.parametrize("name", WRONG)
def test_seeded_faults_that_only_change_values(name):
    assert not simulate(64, 64, 128, source=edited(*WRONG[name]))[0]


def test_counters_of_the_ring():
    _, report = simulate(64, 64, 256)
    counters = report.counters
    assert counters.instructions == sum(counters.opcodes.values())
    # Four k steps; two A and four B matrices of 32 rows per half step and warp.
    assert counters.opcodes["ldmatrix"] == 4 * 2 * 6 * 4
    assert counters.shared_wavefronts["ldmatrix"] == (192 * 4, 192 * 4)
    # A stage is 12 KiB: 32-byte sectors, all read once.
    assert counters.global_sectors["cp.async"] == 4 * STAGE_BYTES // 32
    assert counters.global_requests["cp.async"] == 4 * STAGE_BYTES // 16 // 32
    assert counters.global_sectors["st.global"] == 64 * 64 * 2 // 32
    # One barrier a step and two in the epilogue.
    assert counters.barriers == 4 + 2


def test_swizzle_is_what_keeps_the_banks_apart():
    flat = edited(("((column ^ (row & 7)) << 4)", "(column << 4)"))
    equal, report = simulate(64, 64, 64, source=flat)
    assert equal
    actual, ideal = report.counters.shared_wavefronts["ldmatrix"]
    # The B matrices are 32 of 48; each of their four 8 x 8 parts now takes eight passes.
    assert ideal == 48 * 4
    assert actual == 16 * 4 + 32 * 4 * 8


def test_counters_can_be_left_out():
    report = simulate(64, 64, 64, counters=False)[1]
    assert not report.counters.shared_wavefronts
    assert not report.counters.global_sectors
