"""wgmma against operands placed element by element, its faults, and the asynchrony around it."""

import dataclasses

import numpy as np
import pytest
from hopper_layouts import IMAGE, Case, Operand, matrix_of
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator_toolchain import ptx

from samoyeds_gen.simulator import Pointer, SimulationFault, parse, run

ROWS_A = {0: Operand(0, 128, 256, 0), 32: Operand(32, 16, 256, 0)}
ROWS_A |= {span: Operand(span, 16, 8 * span, 0) for span in (64, 128)}


def launch(case, arrays, numbers, source=None, **options):
    image, left, codes, sums = arrays
    text = case.text() if source is None else ptx(source, "sm_90a")
    report = run(
        parse(text),
        "multiply",
        grid=(1, 1, 1),
        block=(128, 1, 1),
        shared_bytes=options.pop("shared_bytes", IMAGE),
        arguments=[
            Pointer(image, "image"),
            np.int32(len(image) // 16),
            *numbers,
            Pointer(left, "left"),
            Pointer(codes, "codes"),
            Pointer(sums, "sums", writable=True),
        ],
        **options,
    )
    return matrix_of(sums), report


def multiply(case, seed=0, **options):
    """The simulated and the exact result."""
    arrays, numbers, expected = case.operands(seed)
    return launch(case, arrays, numbers, **options)[0], expected


FORMS = [
    Case(8),
    Case(64, "f16"),
    Case(256, left="registers"),
    Case(24, sparse=True),
    Case(64, "f16", sparse=True, selector=1),
    Case(96, sparse=True, selector=1, left="registers"),
    Case(16, "f16", left="registers", signs=(-1, 1)),
    Case(16, signs=(-1, -1)),
    Case(16, sparse=True, signs=(1, -1)),
    Case(16, scale="0"),
    Case(16, sparse=True, scale="0", left="registers"),
]


@pytest.mark.parametrize("case", FORMS, ids=lambda c: f"{c.n}-{c.dtype}-{c.left}-{c.sparse}")
def test_every_form_is_exact(case):
    got, expected = multiply(case)
    assert np.array_equal(got, expected)


@st.composite
def operands(draw, rows, chunks):
    """An operand of `rows` rows and `chunks` chunks, and the bytes it may use after its offset."""
    span = draw(st.sampled_from([span for span in (0, 32, 64, 128) if not 0 < span < 16 * chunks]))
    groups = rows // 8
    if span:
        first = draw(st.integers(0, (span // 16 - chunks) // 2)) * 2
        stride = 8 * span * draw(st.integers(1, 3))
        return Operand(span, 16, stride, 0, first), groups * stride
    if draw(st.booleans()):
        leading = 128 * draw(st.integers(1, 2))
        stride = leading * chunks
        return Operand(0, leading, stride, 0), groups * stride
    stride = 128 * draw(st.integers(1, 2))
    leading = groups * stride
    return Operand(0, leading, stride, 0), chunks * leading


@settings(max_examples=40, deadline=None)
@given(st.data(), st.booleans(), st.integers(0, 99))
def test_every_layout_is_exact(data, sparse, seed):
    a, used = data.draw(operands(64, 2))
    b, _ = data.draw(operands(24, 4 if sparse else 2))
    start = -(-used // 1024) * 1024
    case = Case(24, sparse=sparse, a=a, b=dataclasses.replace(b, offset=start))
    got, expected = multiply(case, seed)
    assert np.array_equal(got, expected)


def test_a_pattern_that_begins_off_its_boundary():
    case = Case(16, b=Operand(128, 16, 1024, 8192 + 384, base=3))
    got, expected = multiply(case)
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_zeros_that_are_not_stored_multiply_nothing(value):
    case = Case(8, sparse=True, scale="0")
    arrays, numbers, _ = case.operands()
    # Column 3 of every group of B; no stored entry of A points there.
    arrays[2][:] = 0x44444444
    words = arrays[0].view(np.uint16)
    bits = {np.inf: 0x7F80}.get(value, 0x7FC0)
    for row in range(8):
        for column in range(3, 32, 4):
            words[case.b.place(row, column) // 2] = bits
    got, _ = launch(case, arrays, numbers)
    assert np.isfinite(got).all()


def edited(case, *edits):
    source = case.source()
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


WAIT, FENCE, COMMIT = "  matrix_wait<0>();\n", "  matrix_fence();\n", "  matrix_commit();\n"
CALL = "  call(d, a_descriptor, b_descriptor);\n"
LEFT = "  call(d, a, b_descriptor);\n"
DESCRIPTORS = [
    ("no wait", "read before arrival", [(WAIT, "")]),
    ("one group left", "read before arrival", [(WAIT, "  matrix_wait<1>();\n")]),
    ("no commit", "read before arrival", [(COMMIT, "")]),
    ("no fence", "race", [(FENCE, "")]),
    ("fence before the accesses", "race", [(FENCE, ""), ("  float d[", FENCE + "  float d[")]),
    ("no proxy fence", "read before arrival", [("  proxy_fence();\n", "")]),
    ("no barrier", "race", [("  __syncthreads();\n", "")]),
    ("half a warpgroup", "divergent barrier", [(CALL, f"  if (t < 64) {{ {CALL} }}\n")]),
    ("half a warp", "divergent barrier", [(CALL, f"  if (t % 2) {{ {CALL} }}\n")]),
    (
        "two descriptors",
        "divergent barrier",
        [("+ b_offset >> 4)", "+ b_offset + (t / 32) * 1024 >> 4)")],
    ),
    (
        "operand overwritten",
        "race",
        [(WAIT, "  ((u32*)shared)[t] = t;\n" + WAIT)],
    ),
    (
        "reserved bits",
        "misaligned",
        [("(u64)(shared_address(shared) + b", "1ull << 52 | (u64)(shared_address(shared) + b")],
    ),
    ("operand outside", "out of bounds", [("+ b_offset >> 4)", "+ 98304 - 512 >> 4)")]),
]


@pytest.mark.parametrize(
    ("kind", "edits"), [row[1:] for row in DESCRIPTORS], ids=[row[0] for row in DESCRIPTORS]
)
def test_faults_around_a_wgmma(kind, edits):
    case = Case(16)
    arrays, numbers, _ = case.operands()
    with pytest.raises(SimulationFault) as caught:
        launch(case, arrays, numbers, edited(case, *edits))
    assert caught.value.kind == kind
    assert caught.value.site is not None


REGISTERS = [
    (
        "A written in flight",
        "race",
        [
            (WAIT, f'  asm volatile("mov.u32 %0, 7;" : "+r"(a[1]));\n{WAIT}'),
            ("  pin(d);\n  for", "  pin(d);\n  if (a[1] == 3) d[0] = 1;\n  for"),
        ],
    ),
    (
        "A written after the fence",
        "race",
        [(LEFT, f'  asm volatile("add.u32 %0, %0, 1;" : "+r"(a[1]));\n{LEFT}')],
    ),
]


@pytest.mark.parametrize(
    ("kind", "edits"), [row[1:] for row in REGISTERS], ids=[row[0] for row in REGISTERS]
)
def test_registers_of_a_are_the_units_too(kind, edits):
    case = Case(16, left="registers")
    arrays, numbers, _ = case.operands()
    with pytest.raises(SimulationFault) as caught:
        launch(case, arrays, numbers, edited(case, *edits))
    assert caught.value.kind == kind
    assert "register" in str(caught.value)


@pytest.mark.parametrize(
    ("word", "why"),
    [(0x44444441, "increase"), (0x44444440, "differ"), (0x444444A4, "differ")],
)
def test_metadata_that_is_not_allowed(word, why):
    case = Case(8, sparse=True)
    arrays, numbers, _ = case.operands()
    arrays[2][69] = word
    with pytest.raises(SimulationFault, match=why) as caught:
        launch(case, arrays, numbers)
    assert caught.value.kind == "invalid metadata"
    assert caught.value.thread == 69


def test_groups_finish_in_order():
    """Two tuples of accumulators, one group each: wait_group 1 gives back the first only."""
    case = Case(8)
    second = "  float e[4];\n  for (int i = 0; i < 4; ++i) e[i] = 0;\n  pin(e);\n"
    second += "  matrix_fence();\n"
    add = "  for (int i = 0; i < 4; ++i) d[i] += e[i];\n"
    store = "  pin(d);\n  for (int i = 0; i < 4; ++i) sums"
    pipeline = [
        (FENCE, second),
        (
            COMMIT,
            COMMIT
            + CALL.replace("d,", "e,")
            + COMMIT
            + "  matrix_wait<1>();\n  pin(d);\n  MIDDLE\n",
        ),
        (store, "  pin(e);\n" + add + store),
    ]
    arrays, numbers, expected = case.operands()
    product = expected - matrix_of(arrays[3])
    source = edited(case, *pipeline)
    legal = source.replace("MIDDLE", "d[0] += 0.0f;")
    assert np.array_equal(launch(case, arrays, numbers, legal)[0], expected + product)
    arrays, numbers, _ = case.operands()
    with pytest.raises(SimulationFault, match=r"before the wgmma\.wait_group"):
        launch(case, arrays, numbers, source.replace("MIDDLE", "d[0] += e[0];"))


def test_a_shape_that_changes_needs_a_fence():
    case = Case(8, sparse=True)
    dense = Case(8)
    wrapper = dense.source()[dense.source().index("__device__ __forceinline__ void call") :]
    wrapper = wrapper[: wrapper.index("}\n") + 2].replace("void call", "void other")
    call = "  call(d, a_descriptor, b_descriptor, code);\n"
    more = "  other(d, a_descriptor, b_descriptor);\n"
    head = "// One wgmma" if "// One wgmma" in case.source() else 'extern "C" __global__'
    source = edited(case, (call, call + "  FENCE\n" + more)).replace(head, wrapper + head, 1)
    arrays, numbers, _ = case.operands()
    with pytest.raises(SimulationFault, match=r"of shape m64n8k32 need a wgmma\.fence"):
        launch(case, arrays, numbers, source.replace("FENCE", ""))
    arrays, numbers, expected = case.operands()
    got, _ = launch(case, arrays, numbers, source.replace("FENCE", "matrix_fence();"))
    assert got.shape == expected.shape


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("1, 1, 0, 0;", "1, 1, 0, 1;", "transposes"),
        ("1, 1, 0, 0;", "1, 2, 0, 0;", "neither 1 nor -1"),
        ("wait_group.sync.aligned 0", "wait_group.sync.aligned %r1", "immediate"),
    ],
)
def test_forms_that_are_refused(old, new, why):
    case = Case(8)
    text = case.text()
    assert old in text
    arrays, numbers, _ = case.operands()
    with pytest.raises(SimulationFault, match=why) as caught:
        launch_text(text.replace(old, new), arrays, numbers)
    assert caught.value.kind == "unknown opcode"


def launch_text(text, arrays, numbers):
    pointers = [Pointer(a, "operand") for a in arrays]
    arguments = [pointers[0], np.int32(1), *numbers, *pointers[1:]]
    run(parse(text), "multiply", grid=(1, 1, 1), block=(128, 1, 1), arguments=arguments)


def test_counters_of_a_wgmma():
    case = Case(64, sparse=True)
    arrays, numbers, _ = case.operands()
    _, report = launch(case, arrays, numbers)
    assert report.counters.opcodes["wgmma.sp"] == 4
    # 64 rows of 32 bytes and 64 rows of 64 bytes, 128 bytes a pass.
    assert report.counters.shared_wavefronts["wgmma"] == (16 + 32, 16 + 32)


def test_the_detector_can_be_left_out():
    got, expected = multiply(Case(16), races=False)
    assert np.array_equal(got, expected)
