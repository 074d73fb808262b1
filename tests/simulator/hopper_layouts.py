"""Operands of wgmma, placed one element at a time as the ISA's figures show them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hopper_toolchain import DTYPES, PAIRS, PRELUDE, wgmma
from simulator_toolchain import ptx

MULTIPLY = Path(__file__).with_name("hopper_multiply.cu").read_text()
MODES = {0: 0, 128: 1, 64: 2, 32: 3}


@dataclass(frozen=True)
class Operand:
    """Where a K-major operand lies: swizzle span, byte offsets, first chunk inside a row."""

    span: int
    leading: int
    stride: int
    offset: int
    first: int = 0
    base: int = 0

    def descriptor(self):
        """The descriptor without its address, and the address relative to shared memory's start."""
        word = self.leading >> 4 << 16 | self.stride >> 4 << 32 | self.base << 49
        return word | MODES[self.span] << 62, self.offset + 16 * self.first

    def place(self, row, column):
        """Byte offset of a 16-bit element."""
        chunk, rest = self.first + column // 8, column % 8 * 2
        group, row = divmod(row, 8)
        if not self.span:
            return self.offset + group * self.stride + chunk * self.leading + row * 16 + rest
        turn = {128: row, 64: row // 2, 32: row // 4}[self.span]
        return self.offset + group * self.stride + row * self.span + (chunk ^ turn) * 16 + rest


def put(image, operand, matrix, dtype):
    """Write a matrix into an image of shared memory (uint8)."""
    words = matrix.astype(DTYPES[dtype]).view(np.uint16)
    view = image.view(np.uint16)
    for row, column in np.ndindex(matrix.shape):
        view[operand.place(row, column) // 2] = words[row, column]


def left_registers(matrix, dtype):
    """A [64, 16] as four words of each of 128 threads, [4, 128]."""
    words = matrix.astype(DTYPES[dtype]).view(np.uint16).astype(np.uint32)
    out = np.zeros((4, 128), np.uint32)
    for register, thread in np.ndindex(out.shape):
        lane = thread % 32
        row = thread // 32 * 16 + lane // 4 + 8 * (register % 2)
        column = 2 * (lane % 4) + 8 * (register // 2)
        out[register, thread] = words[row, column] | words[row, column + 1] << 16
    return out


def codes_of(positions, selector, rest):
    """Metadata words [128] of positions [64, 8, 2]; the lanes not selected hold `rest`."""
    out = np.full(128, rest, np.uint32)
    for thread in range(128):
        lane = thread % 32
        half = lane % 4 - 2 * selector
        if half in (0, 1):
            word = 0
            for high in range(2):
                row = thread // 32 * 16 + lane // 4 + 8 * high
                for group in range(4):
                    low, up = (int(p) for p in positions[row, 4 * half + group])
                    word |= (low | up << 2) << (4 * group + 16 * high)
            out[thread] = word
    return out


def sums_of(matrix):
    """[64, n] as accumulators [n / 2, 128]."""
    out = np.zeros((matrix.shape[1] // 2, 128), np.float32)
    for register, thread in np.ndindex(out.shape):
        out[register, thread] = matrix[cell(register, thread)]
    return out


def matrix_of(sums):
    """Accumulators back to [64, n]."""
    out = np.zeros((64, 2 * len(sums)), np.float32)
    for register, thread in np.ndindex(sums.shape):
        out[cell(register, thread)] = sums[register, thread]
    return out


def cell(register, thread):
    """Row and column of an accumulator."""
    lane = thread % 32
    row = thread // 32 * 16 + lane // 4 + 8 * (register // 2 % 2)
    return row, 8 * (register // 4) + 2 * (lane % 4) + register % 2


@dataclass(frozen=True)
class Case:
    """One wgmma: its form, and where its operands lie."""

    n: int
    dtype: str = "bf16"
    sparse: bool = False
    selector: int = 0
    left: str = "descriptor"
    scale: str = "1"
    signs: tuple[int, int] = (1, 1)
    a: Operand = Operand(128, 16, 1024, 0)
    b: Operand = Operand(128, 16, 1024, 8192)

    def source(self):
        tail = f"{self.signs[0]}, {self.signs[1]}, 0" + (", 0" if self.left == "descriptor" else "")
        text = wgmma(
            "call",
            self.n,
            self.dtype,
            sparse=self.sparse,
            selector=self.selector,
            left=self.left,
            scale=self.scale,
            tail=tail,
        )
        a = "a_descriptor" if self.left == "descriptor" else "a"
        call = f"call(d, {a}, b_descriptor{', code' if self.sparse else ''})"
        return PRELUDE + text + MULTIPLY.replace("COUNT", str(self.n // 2)).replace("CALL", call)

    def text(self):
        return ptx(self.source(), "sm_90a")

    def operands(self, seed=0):
        """Image, launch scalars, registers, codes, sums, and the exact [64, n] result."""
        rng = np.random.default_rng(seed)
        k = 32 if self.sparse else 16
        stored = rng.integers(-4, 5, (64, 16)).astype(float)
        dense, codes = stored, np.zeros(128, np.uint32)
        if self.sparse:
            positions = PAIRS[rng.integers(0, 6, (64, 8))]
            dense = np.zeros((64, 8, 4))
            np.put_along_axis(dense, positions, stored.reshape(64, 8, 2), axis=2)
            dense = dense.reshape(64, 32)
            codes = codes_of(positions, self.selector, 0xFFFFFFFF)
        right = rng.integers(-4, 5, (self.n, k)).astype(float)
        before = rng.integers(-50, 50, (64, self.n)).astype(float)
        image = np.zeros(IMAGE, np.uint8)
        put(image, self.a, stored, self.dtype)
        put(image, self.b, right, self.dtype)
        product = dense @ right.T * self.signs[0] * self.signs[1]
        (a, a_at), (b, b_at) = self.a.descriptor(), self.b.descriptor()
        arrays = image, left_registers(stored, self.dtype), codes, sums_of(before)
        expected = product + before * (self.scale != "0")
        return (
            arrays,
            (
                np.int64(a - (a >> 63 << 64)),
                np.int64(b - (b >> 63 << 64)),
                np.int32(a_at),
                np.int32(b_at),
            ),
            expected,
        )


IMAGE = 96 * 1024
