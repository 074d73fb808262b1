"""wgmma matrix descriptors: which 16-byte chunks of shared memory are the rows of an operand.

K-major operands only. Fields and strides as in PTX ISA, "Matrix Descriptor" and "Shared Memory
Matrix Layout"; a row is 8 elements per chunk, a core matrix 8 rows of one chunk.
"""

from dataclasses import dataclass

import numpy as np

from samoyeds_gen.simulator.scalars import Array

_SPANS = {0: 0, 1: 128, 2: 64, 3: 32}
_FIELD = (1 << 14) - 1
_RESERVED = (3 << 14) | (3 << 30) | (7 << 46) | (((1 << 10) - 1) << 52)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A decoded descriptor: byte address, byte offsets and swizzle span (0 for none).

    `leading` lies between neighbouring core matrices along k (unused under a swizzle), `stride`
    between groups of 8 rows; `base` is the row of the swizzle pattern at which it begins.
    """

    start: int
    leading: int
    stride: int
    base: int
    span: int

    def addresses(self, rows: int, chunks: int) -> Array:
        """Shared addresses of the chunks, [rows, chunks]."""
        row = np.arange(rows)[:, None]
        chunk = np.arange(chunks)[None, :]
        pitch, step = (self.span, 16) if self.span else (16, self.leading)
        plain = self.start + row // 8 * self.stride + row % 8 * pitch + chunk * step
        if not self.span:
            return plain
        turn = (plain // 128 - self.base) & (self.span // 16 - 1)
        return plain ^ (turn << 4)


def decode(word: int) -> Descriptor:
    """Take a descriptor apart; ValueError says what is wrong with it."""
    if word & _RESERVED:
        raise ValueError(f"descriptor {word:#018x} sets reserved bits")
    start, leading, stride = ((word >> shift & _FIELD) << 4 for shift in (0, 16, 32))
    return Descriptor(start, leading, stride, word >> 49 & 7, _SPANS[word >> 62 & 3])


def operand(word: int, rows: int, chunks: int) -> Array:
    """Addresses of an operand's chunks, [rows, chunks]; ValueError for what is not modelled."""
    descriptor = decode(word)
    if descriptor.span and chunks * 16 > descriptor.span:
        raise ValueError(
            f"an operand with rows of {chunks * 16} bytes does not fit a swizzle of "
            f"{descriptor.span} bytes"
        )
    return descriptor.addresses(rows, chunks)
