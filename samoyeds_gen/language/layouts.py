"""Shared-memory layouts: XOR swizzles over 16-byte chunks.

A swizzle permutes the chunks of a row so that eight consecutive rows of one logical chunk fall
in eight different 16-byte bank groups, which is what one ldmatrix phase reads.
"""

from dataclasses import dataclass

from samoyeds_gen.errors import ScheduleError

BANK_LINE = 128
CHUNK = 16
STREAM_ROW_BYTES = 128  # resident tokens lie in panels of 64 columns


@dataclass(frozen=True, slots=True)
class Swizzle:
    """`offset ^ ((offset & mask) >> shift)`: CuTe's Swizzle<bits, 4, shift>, offsets in bytes.

    XOR_32B, XOR_64B and XOR_128B are the patterns of the tensor copy engine (PTX ISA,
    "Swizzling modes"); XOR_256B extends them to 256-byte rows.
    """

    name: str
    bits: int
    shift: int
    row_bytes: int

    @property
    def mask(self) -> int:
        """The offset bits that select the permutation."""
        return ((1 << self.bits) - 1) << (4 + self.shift)

    def __call__(self, offset: int) -> int:
        """Physical byte offset of a logical one. A bijection, its own inverse."""
        return offset ^ ((offset & self.mask) >> self.shift)

    def wavefronts(self, row_bytes: int, chunk: int, first_row: int = 0) -> int:
        """Bank-conflict degree of one ldmatrix phase: eight rows of `row_bytes`, one chunk."""
        rows = range(first_row, first_row + 8)
        groups = [self(row * row_bytes + chunk * CHUNK) % BANK_LINE // CHUNK for row in rows]
        return max(groups.count(group) for group in set(groups))


LINEAR = Swizzle("linear", 0, 3, 0)
XOR_32B = Swizzle("xor_32b", 1, 3, 32)
XOR_64B = Swizzle("xor_64b", 2, 3, 64)
XOR_128B = Swizzle("xor_128b", 3, 3, 128)
XOR_256B = Swizzle("xor_256b", 3, 4, 256)

SWIZZLES = (LINEAR, XOR_32B, XOR_64B, XOR_128B, XOR_256B)


def swizzle_for_row(row_bytes: int) -> Swizzle:
    """The conflict-free swizzle for rows of this many bytes (32, 64, 128 or 256)."""
    for swizzle in SWIZZLES:
        if swizzle.bits and swizzle.row_bytes == row_bytes:
            return swizzle
    raise ScheduleError(
        f"no swizzle is defined for rows of {row_bytes} bytes",
        rule="swizzle",
        remedy="use rows of 32, 64, 128 or 256 bytes",
    )


def swizzle_named(name: str) -> Swizzle:
    """Look a swizzle up by name. Raises `ScheduleError` naming the known ones."""
    for swizzle in SWIZZLES:
        if swizzle.name == name:
            return swizzle
    names = ", ".join(swizzle.name for swizzle in SWIZZLES)
    raise ScheduleError(
        f"swizzle {name!r} is not one of {names}", rule="swizzle", remedy=f"use one of {names}"
    )
