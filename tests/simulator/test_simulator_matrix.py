"""Matrix instructions against the ISA's lane tables, one element at a time."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator_toolchain import HEADER, launch_ptx, written

from samoyeds_gen.simulator import SimulationFault, parse

DTYPES = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}
PAIRS = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]


def kernel(opcode, counts, tail="", result="f32"):
    """PTX that loads register operands [count][32 lanes] per warp, multiplies, stores D."""
    registers = {"a": counts[0], "b": counts[1], "c": counts[2], "e": 1}
    lines = []
    for slot, (name, count) in enumerate(registers.items()):
        lines.append(f".reg .b32 %{name}<{count}>; ld.param.u64 %p, [k_{slot}];")
        lines.append(f"mad.lo.u32 %o, %w, {count}, 0; mul.lo.u32 %o, %o, 32; add.u32 %o, %o, %l;")
        lines.append("mad.wide.u32 %p, %o, 4, %p;")
        lines += [f"ld.global.b32 %{name}{i}, [%p+{128 * i}];" for i in range(count)]
    braces = {n: "{" + ", ".join(f"%{n}{i}" for i in range(k)) + "}" for n, k in registers.items()}
    lines.append(f"{opcode} {braces['c']}, {braces['a']}, {braces['b']}, {braces['c']}{tail};")
    lines.append("ld.param.u64 %p, [k_2];")
    lines.append(f"mul.lo.u32 %o, %w, {32 * counts[2]}; add.u32 %o, %o, %l;")
    lines.append("mad.wide.u32 %p, %o, 4, %p;")
    lines += [f"st.global.b32 [%p+{128 * i}], %c{i};" for i in range(counts[2])]
    params = ", ".join(f".param .u64 k_{slot}" for slot in range(4))
    return (
        HEADER.format(target="sm_80")
        + f".visible .entry k({params}) {{\n.reg .b32 %o, %w, %l, %t; .reg .b64 %p;\n"
        + "mov.u32 %t, %tid.x; shr.u32 %w, %t, 5; and.b32 %l, %t, 31;\n"
        + "\n".join(lines)
        + "\nret; }"
    )


def multiply(opcode, a, b, c, e, tail="", warps=1):
    c = c.copy()
    text = kernel(opcode, (a.shape[1], b.shape[1], c.shape[1]), tail)
    launch_ptx(text, "k", a, b, written(c, "c"), e, threads=32 * warps)
    return c


def halves(words, dtype):
    """[..., 2] numbers of 32-bit words."""
    return words.view(np.uint16).reshape(*words.shape, 2).view(DTYPES[dtype]).astype(np.float64)


def a_cell(lane, register, half):
    """Row and stored column of an element of A."""
    return lane // 4 + 8 * (register % 2), 2 * (lane % 4) + half + 8 * (register // 2)


def b_cell(lane, register, half):
    """Row (k) and column of an element of B."""
    return 2 * (lane % 4) + half + 8 * register, lane // 4


def c_cell(lane, register):
    return lane // 4 + 8 * (register // 2), 2 * (lane % 4) + register % 2


def matrix(words, dtype, cell, shape):
    values, out = halves(words, dtype), np.zeros(shape)
    for register in range(words.shape[0]):
        for lane in range(32):
            for half in range(2):
                out[cell(lane, register, half)] = values[register, lane, half]
    return out


def accumulators(words):
    out = np.zeros((16, 8))
    for register in range(4):
        for lane in range(32):
            out[c_cell(lane, register)] = words[register].view(np.float32)[lane]
    return out


def small(rng, shape, dtype):
    """Words of two small integers each."""
    numbers = rng.integers(-4, 5, (*shape, 2)).astype(DTYPES[dtype])
    return numbers.view(np.uint16).reshape(*shape, 2).view(np.uint32)[..., 0].copy()


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize("k", [8, 16])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_dense_mma(dtype, k, seed):
    rng = np.random.default_rng(seed)
    a, b = small(rng, (2, k // 4, 32), dtype), small(rng, (2, k // 8, 32), dtype)
    c = rng.integers(-50, 50, (2, 4, 32)).astype(np.float32).view(np.uint32)
    e = np.zeros((2, 1, 32), np.uint32)
    opcode = f"mma.sync.aligned.m16n8k{k}.row.col.f32.{dtype}.{dtype}.f32"
    out = multiply(opcode, a, b, c, e, warps=2)
    for warp in range(2):
        left = matrix(a[warp], dtype, a_cell, (16, k))
        right = matrix(b[warp], dtype, b_cell, (k, 8))
        assert (accumulators(out[warp]) == left @ right + accumulators(c[warp])).all()


def random_codes(rng, groups):
    """[32 lanes] metadata words of eight ordered nibbles and the positions behind them."""
    choice = rng.integers(0, 6, (32, groups))
    nibbles = np.array([lo | hi << 2 for lo, hi in PAIRS], np.uint32)[choice]
    return (nibbles << (4 * np.arange(groups, dtype=np.uint32))).sum(axis=1, dtype=np.uint32)


def position(e, k, selector, row, stored):
    """Dense column of a stored entry: the ISA's table, read bit by bit."""
    column = 2 * (stored // 2) * 2  # a group of four dense columns for two stored entries
    part = column // 16
    lane = 4 * (row % 8) + selector * (k // 16) + part
    word = int(e[lane]) >> (16 * (row // 8)) & 0xFFFF
    nibble = word >> 4 * (column % 16 // 4) & 15
    return column + (nibble >> 2 * (stored % 2) & 3)


def sparse_expected(a, b, c, e, k, selector, dtype):
    stored = matrix(a, dtype, a_cell, (16, k // 2))
    right, out = matrix(b, dtype, b_cell, (k, 8)), accumulators(c)
    for row in range(16):
        for column in range(k // 2):
            with np.errstate(invalid="ignore"):
                out[row] += stored[row, column] * right[position(e, k, selector, row, column)]
    return out


CASES = [(32, 0), (32, 1), (16, 0), (16, 1), (16, 2), (16, 3)]


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize("ordered", ["::ordered_metadata", ""])
@pytest.mark.parametrize(("k", "selector"), CASES)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_sparse_mma(dtype, ordered, k, selector, seed):
    rng = np.random.default_rng(seed)
    a, b = small(rng, (2, k // 8, 32), dtype), small(rng, (2, k // 8, 32), dtype)
    c = rng.integers(-50, 50, (2, 4, 32)).astype(np.float32).view(np.uint32)
    e = np.stack([random_codes(rng, 8), random_codes(rng, 8)])[:, None]
    opcode = f"mma.sp{ordered}.sync.aligned.m16n8k{k}.row.col.f32.{dtype}.{dtype}.f32"
    out = multiply(opcode, a, b, c, e, tail=f", %e0, {selector:#x}", warps=2)
    for warp in range(2):
        expected = sparse_expected(a[warp], b[warp], c[warp], e[warp, 0], k, selector, dtype)
        assert (accumulators(out[warp]) == expected).all()


def test_sparse_mma_multiplies_stored_entries_only():
    # Infinities and NaN in B reach the rows that store their column, and no other.
    rng = np.random.default_rng(5)
    a, b = small(rng, (1, 4, 32), "bf16"), small(rng, (1, 4, 32), "bf16")
    numbers = b.view(np.uint16)
    numbers[0, 1, 6] = 0x7F80
    numbers[0, 2, 40] = 0x7FC0
    c, e = np.zeros((1, 4, 32), np.uint32), random_codes(rng, 8)[None, None]
    opcode = "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.bf16.bf16.f32"
    out = accumulators(multiply(opcode, a, b, c, e, tail=", %e0, 0x0")[0])
    expected = sparse_expected(a[0], b[0], c[0], e[0, 0], 32, 0, "bf16")
    assert np.array_equal(out, expected, equal_nan=True)
    assert np.isfinite(out).any()
    assert not np.isfinite(out).all()


def test_accumulation_is_rounded_once_per_instruction():
    a = np.full((1, 4, 32), 0x3C003C00, np.uint32)
    b = np.zeros((1, 2, 32), np.uint32)
    b[0, 0] = 0x00000001  # 2^-24 in even rows of B: eight of them below an ulp of 2^20
    c = np.full((1, 4, 32), np.float32(2.0**20).view(np.uint32), np.uint32)
    opcode = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
    out = multiply(opcode, a, b, c, np.zeros((1, 1, 32), np.uint32))
    assert (out.view(np.float32) == np.float32(2.0**20 + 4 * 2.0**-24)).all()


def test_half_accumulators():
    rng = np.random.default_rng(3)
    a, b = small(rng, (1, 4, 32), "f16"), small(rng, (1, 2, 32), "f16")
    c = small(rng, (1, 2, 32), "f16")
    opcode = "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16"
    out = multiply(opcode, a, b, c, np.zeros((1, 1, 32), np.uint32))
    left = matrix(a[0], "f16", a_cell, (16, 16))
    right = matrix(b[0], "f16", b_cell, (16, 8))
    add, got = halves(c[0], "f16"), halves(out[0], "f16")
    for register in range(2):
        for lane in range(32):
            for half in range(2):
                row, column = lane // 4 + 8 * register, 2 * (lane % 4) + half
                expected = left[row] @ right[:, column] + add[register, lane, half]
                assert got[register, lane, half] == expected


SPARSE = "mma.sp{}.sync.aligned.m16n8k32.row.col.f32.bf16.bf16.f32"


@pytest.mark.parametrize(
    ("ordered", "nibble", "legal"),
    [
        ("::ordered_metadata", 0b0100, True),
        ("::ordered_metadata", 0b1110, True),
        ("::ordered_metadata", 0b0001, False),
        ("::ordered_metadata", 0b0000, False),
        ("::ordered_metadata", 0b1111, False),
        ("", 0b0001, True),
        ("", 0b0101, False),
        ("", 0b1010, False),
    ],
)
def test_metadata_codes(ordered, nibble, legal):
    words = np.full((1, 1, 32), 0x44444444, np.uint32)
    words[0, 0, 9] ^= (nibble ^ 4) << 20  # lane 9: rows 2 and 10, second half of k; row 10 here
    zeros = np.zeros((1, 4, 32), np.uint32)
    opcode = SPARSE.format(ordered)
    if legal:
        multiply(opcode, zeros, zeros, zeros, words, tail=", %e0, 0x0")
        return
    with pytest.raises(SimulationFault) as caught:
        multiply(opcode, zeros, zeros, zeros, words, tail=", %e0, 0x0")
    assert caught.value.kind == "invalid metadata"
    assert caught.value.thread == 9
    assert "in group 5 of row 10, selector 0" in str(caught.value)
    # The other selector does not look at lane 9.
    multiply(opcode, zeros, zeros, zeros, words, tail=", %e0, 0x1")


@pytest.mark.parametrize(("k", "selector"), [(32, 2), (32, 3), (16, 4)])
def test_selectors_beyond_the_shape_are_refused(k, selector):
    zeros = np.zeros((1, k // 8, 32), np.uint32)
    opcode = f"mma.sp::ordered_metadata.sync.aligned.m16n8k{k}.row.col.f32.f16.f16.f32"
    tail = f", %e0, {selector}"
    with pytest.raises(SimulationFault, match=f"selector {selector} for k{k}") as caught:
        multiply(opcode, zeros, zeros, np.zeros((1, 4, 32), np.uint32), zeros[:, :1], tail=tail)
    assert caught.value.kind == "invalid metadata"


def matrices_kernel(count, transposed, store):
    names = ", ".join(f"%r{i}" for i in range(count))
    suffix = f"m8n8.x{count}{'.trans' if transposed else ''}.shared.b16"
    through = f"ldmatrix.sync.aligned.{suffix} {{{names}}}, [%s];"
    if store:
        through = f"stmatrix.sync.aligned.{suffix} [%s], {{{names}}};"
    loads = [f"ld.global.b32 %r{i}, [%in+{128 * i}];" for i in range(count)]
    stores = [f"st.global.b32 [%out+{128 * i}], %r{i};" for i in range(count)]
    if store:
        middle = [*loads, through, "bar.warp.sync -1;"]
        middle += [f"ld.shared.b32 %r{i}, [%w+{128 * i}];" for i in range(count)]
    else:
        middle = [f"{a} st.shared.b32 [%w+{128 * i}], %r{i};" for i, a in enumerate(loads)]
        middle += ["bar.warp.sync -1;", through]
    return (
        HEADER.format(target="sm_90a")
        + ".shared .align 16 .b8 tile[512];\n"
        + ".visible .entry k(.param .u64 k_0, .param .u64 k_1) {\n"
        + ".reg .b32 %r<4>, %s, %w, %t; .reg .b64 %in, %out;\n"
        + "mov.u32 %t, %tid.x; mov.u32 %s, tile; mad.lo.u32 %w, %t, 4, %s; and.b32 %t, %t, "
        + f"{8 * count - 1}; mad.lo.u32 %s, %t, 16, %s; mov.u32 %t, %tid.x;\n"
        + "ld.param.u64 %in, [k_0]; mad.wide.u32 %in, %t, 4, %in;\n"
        + "ld.param.u64 %out, [k_1]; mad.wide.u32 %out, %t, 4, %out;\n"
        + "\n".join([*middle, *stores])
        + "\nret; }"
    )


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_ldmatrix(count, transposed, seed):
    tile = np.random.default_rng(seed).integers(0, 2**16, (count, 8, 8)).astype(np.uint16)
    out = np.zeros((count, 32), np.uint32)
    text = matrices_kernel(count, transposed, store=False)
    launch_ptx(text, "k", tile.view(np.uint32).copy(), written(out))
    got = out.view(np.uint16).reshape(count, 32, 2)
    for number in range(count):
        for lane in range(32):
            for half in range(2):
                row, column = lane // 4, 2 * (lane % 4) + half
                cell = (column, row) if transposed else (row, column)
                assert got[number, lane, half] == tile[number][cell]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_stmatrix_is_the_inverse_of_ldmatrix(count, transposed):
    words = np.random.default_rng(count).integers(0, 2**32, (count, 32)).astype(np.uint32)
    stored = np.zeros((count, 32), np.uint32)
    back = np.zeros((count, 32), np.uint32)
    launch_ptx(matrices_kernel(count, transposed, store=True), "k", words, written(stored))
    launch_ptx(matrices_kernel(count, transposed, store=False), "k", stored, written(back))
    assert (back == words).all()
    assert transposed or (stored == words).all()


def test_movmatrix_transposes():
    tile = np.arange(64, dtype=np.uint16).reshape(8, 8)
    out = np.zeros(32, np.uint32)
    text = HEADER.format(target="sm_80") + (
        ".visible .entry k(.param .u64 k_0, .param .u64 k_1) { .reg .b32 %t, %r; .reg .b64 %p<2>;\n"
        "mov.u32 %t, %tid.x; ld.param.u64 %p0, [k_0]; ld.param.u64 %p1, [k_1];\n"
        "mad.wide.u32 %p0, %t, 4, %p0; mad.wide.u32 %p1, %t, 4, %p1; ld.global.b32 %r, [%p0];\n"
        "movmatrix.sync.aligned.m8n8.trans.b16 %r, %r; st.global.b32 [%p1], %r; ret; }"
    )
    launch_ptx(text, "k", tile.view(np.uint32).copy(), written(out))
    assert (out.view(np.uint16).reshape(8, 8) == tile.T).all()


def test_a_divergent_warp_may_not_multiply():
    opcode = "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32"
    text = kernel(opcode, (2, 1, 4)).replace(
        opcode, f".reg .pred %q; setp.lt.u32 %q, %t, 20;\n@%q {opcode}"
    )
    parse(text)
    zeros = np.zeros((1, 4, 32), np.uint32)
    with pytest.raises(SimulationFault, match="only 20 of 32 lanes of warp 0") as caught:
        launch_ptx(text, "k", zeros, zeros, written(zeros.copy()), zeros)
    assert caught.value.kind == "divergent barrier"
