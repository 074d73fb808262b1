"""Hopper test kernels: the prelude, wgmma wrappers written for one shape, the ring's operands."""

from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from samoyeds_gen.simulator import Pointer, TensorMap, parse, run

PRELUDE = Path(__file__).with_name("hopper_ptx.cuh").read_text()
DTYPES = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}
PAIRS = np.array([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)])
TILE_ROWS, STEP, STAGES, STAGE, SLICE = 128, 128, 3, 34816, 8192
RING_BYTES = STAGES * STAGE + 2 * SLICE
RING = Path(__file__).with_name("hopper_ring.cu").read_text()


def wgmma(
    name, n, dtype="bf16", *, sparse=False, selector=0, left="descriptor", scale=1, tail=None
):
    """A wrapper `name(d, a, b[, code])`: `scale` is scale-d, `tail` what follows it."""
    count = n // 2
    names = [f"%{i}" for i in range(count)]
    inputs, parameters = [], [f"float (&d)[{count}]"]
    if left == "descriptor":
        inputs.append('"l"(a)')
        parameters.append("u64 a")
        a = f"%{count}"
    else:
        inputs += [f'"r"(a[{i}])' for i in range(4)]
        parameters.append("const u32 (&a)[4]")
        a = "{" + ", ".join(f"%{count + i}" for i in range(4)) + "}"
    b = f"%{count + len(inputs)}"
    inputs.append('"l"(b)')
    parameters.append("u64 b")
    code = ""
    if sparse:
        code = f", %{count + len(inputs)}, {selector}"
        inputs.append('"r"(code)')
        parameters.append("u32 code")
    tail = tail or ("1, 1, 0, 0" if left == "descriptor" else "1, 1, 0")
    opcode = f"wgmma.mma_async{'.sp' if sparse else ''}.sync.aligned.m64n{n}k{32 if sparse else 16}"
    outputs = ", ".join(f'"+f"(d[{i}])' for i in range(count))
    return (
        f"__device__ __forceinline__ void {name}({', '.join(parameters)}) {{\n"
        f'  asm volatile("{opcode}.f32.{dtype}.{dtype} {{{", ".join(names)}}}, {a}, {b}{code}, '
        f'{scale}, {tail};"\n : {outputs} : {", ".join(inputs)});\n}}\n'
    )


def ring_source(dtype="bf16", vector=128, body=RING):
    """The ring kernel for an element type and a vector length."""
    wrappers = "".join(wgmma(f"multiply{s}", 64, dtype, sparse=True, selector=s) for s in (0, 1))
    text = body.replace("TYPE", f'"{dtype}"').replace("VECTOR", str(vector))
    return PRELUDE + wrappers + text


@dataclass(frozen=True)
class Problem:
    """A (1,2,V) product: what the ring kernel takes, and the exact result [n, 2 * rows]."""

    weight: np.ndarray
    metadata: np.ndarray
    selectors: np.ndarray
    tokens: np.ndarray
    expected: np.ndarray


def problem(rows, n, k, dtype="bf16", vector=128, seed=0):
    """Small integers, so that float32 sums are exact."""
    rng = np.random.default_rng(seed)
    tall, steps = -(-rows // TILE_ROWS) * TILE_ROWS, -(-k // STEP)
    positions = PAIRS[rng.integers(0, 6, (tall, steps * STEP // 4))]
    values = rng.integers(-2, 3, (tall, steps * STEP // 4, 2)).astype(float)
    values[rows:] = 0
    values[:, -(-k // 4) :] = 0
    stored = np.zeros((tall, steps * STEP // 4, 4))
    np.put_along_axis(stored, positions, values, axis=2)
    stored = stored.reshape(tall, -1)[:, :k]
    even = rng.integers(0, 2, (tall, -(-steps * STEP // vector)))
    mask = even.repeat(vector, axis=1)[:, :k]
    dense = np.stack([stored * mask, stored * (1 - mask)], axis=1)[:rows].reshape(2 * rows, k)
    tokens = rng.integers(-2, 3, (n, k)).astype(DTYPES[dtype])
    data = values.reshape(tall, -1)[:rows, : k // 2].astype(DTYPES[dtype])
    return Problem(
        data,
        fragment_codes(positions),
        selector_words(even),
        tokens,
        tokens.astype(float) @ dense.T,
    )


def fragment_codes(positions):
    """Metadata [rows / 64, k / 128, 128 threads, 2] from positions [rows, k / 4, 2]."""
    rows = len(positions)
    nibbles = (positions[..., 0] | positions[..., 1] << 2).astype(np.uint32)
    shifts = np.arange(0, 16, 4, dtype=np.uint32)
    words = (nibbles.reshape(rows, -1, 4) << shifts).sum(axis=2, dtype=np.uint32)
    # row = 64 tile + 16 warp + 8 half + g; 16 columns = 128 step + 64 word + 16 q.
    parts = words.reshape(rows // 64, 4, 2, 8, -1, 2, 4)
    whole = parts[:, :, 0] | parts[:, :, 1] << 16
    lanes = whole.transpose(0, 3, 1, 2, 5, 4)
    blocks = np.ascontiguousarray(lanes).reshape(rows // 64, -1, 128, 2)
    # The ring fetches the two tiles of a CTA for one step together.
    pairs = blocks.reshape(rows // 128, 2, -1, 128, 2).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(pairs)


def selector_words(even):
    """Bit j % 32 of [j // 32, row] says that block j of a stored row is its even output row."""
    rows, count = even.shape
    bits = np.zeros((rows, (count // 32 + 2) * 32), np.uint32)
    bits[:, :count] = even
    shifts = np.arange(32, dtype=np.uint32)
    words = (bits.reshape(rows, -1, 32) << shifts).sum(axis=2, dtype=np.uint32)
    return np.ascontiguousarray(words.T)


def run_ring(given, text, grid=1, shared_bytes=RING_BYTES, **flags):
    """Run the ring kernel; out [n, 2 * rows] as words, and the report."""
    rows, k = given.weight.shape[0], given.tokens.shape[1]
    n, out = len(given.tokens), np.full((len(given.tokens), 2 * rows), 0xFFFF, np.uint16)
    maps = [
        matrix_map(given.weight, "weight", (64, TILE_ROWS), 128),
        matrix_map(given.tokens, "tokens", (64, 64), 128),
        matrix_map(out, "out", (128, 32), 0, writable=True, initialised=False),
    ]
    report = run(
        parse(text),
        "ring",
        grid=(grid, 1, 1),
        block=(384, 1, 1),
        shared_bytes=shared_bytes,
        arguments=[
            *maps,
            Pointer(given.metadata, "metadata"),
            Pointer(given.selectors, "selectors"),
            np.int32(rows),
            np.int32(n),
            np.int32(k),
        ],
        **flags,
    )
    return out, report


def matrix_map(array, name, box, swizzle, **options):
    """A tensor map of a row-major matrix of 16-bit elements."""
    height, width = array.shape
    pointer = Pointer(array, name, **options)
    return TensorMap(pointer, "uint16", (width, height), (array.strides[0],), box, swizzle)
