"""Tensor maps: how cp.async.bulk.tensor walks global memory and lays a box into shared memory.

The value stands for the 128-byte CUtensorMap kernel parameter; its limits are those of
cuTensorMapEncodeTiled. Only tiled mode without interleave, element strides 1 and zero fill.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.memory import Buffer

SIZES = {
    **{name: 1 for name in ("uint8",)},
    **{name: 2 for name in ("uint16", "float16", "bfloat16")},
    **{name: 4 for name in ("uint32", "int32", "float32")},
    **{name: 8 for name in ("uint64", "int64", "float64")},
}
SWIZZLES = (0, 32, 64, 128)
BYTES = 128
_MAGIC = b"tensor map\0\0\0\0\0\0"
_LARGEST_BOX = 256


@dataclass(frozen=True, slots=True, eq=False)
class TensorMap:
    """A CUtensorMap argument: a view of the array behind `pointer`, and the box that is copied.

    `dims` and `box` count elements of `dtype` (a name of `SIZES`), innermost first, 1 to 5 of them;
    `strides` are the bytes between neighbours in the dimensions after the first. `swizzle` is 0,
    32, 64 or 128 bytes. Elements outside `dims` load as zeros and are not stored. LaunchError for
    what the driver would refuse.
    """

    pointer: Any
    dtype: str
    dims: Sequence[int]
    strides: Sequence[int]
    box: Sequence[int]
    swizzle: int = 0

    def __post_init__(self) -> None:
        for wrong, what in self._rules():
            if wrong:
                raise LaunchError(f"a tensor map {what}", remedy="see cuTensorMapEncodeTiled")

    def _rules(self) -> list[tuple[bool, str]]:
        size = SIZES.get(self.dtype)
        if size is None:
            return [(True, f"of {self.dtype!r}; known: {', '.join(SIZES)}")]
        rank = len(self.dims)
        if not 1 <= rank <= 5 or len(self.box) != rank or len(self.strides) != rank - 1:
            shapes = f"dims {self.dims}, strides {self.strides}, box {self.box}"
            return [(True, f"with {shapes}; ranks are 1 to 5 and strides one fewer")]
        row = self.box[0] * size
        wide = f"whose box has rows of {row} bytes"
        return [
            (any(d < 1 for d in self.dims), f"with dims {tuple(self.dims)}, all must be positive"),
            (
                any(not 1 <= b <= _LARGEST_BOX for b in self.box),
                f"with box {tuple(self.box)}, each side must be 1 to {_LARGEST_BOX}",
            ),
            (row % 16 != 0, f"{wide}, which must be a multiple of 16"),
            (self.swizzle not in SWIZZLES, f"with swizzle {self.swizzle}, not one of {SWIZZLES}"),
            (0 < self.swizzle < row, f"{wide}, more than its swizzle of {self.swizzle}"),
            (
                any(s % 16 or not 0 < s < 2**40 for s in self.strides),
                f"with strides {tuple(self.strides)}, which must be multiples of 16 bytes",
            ),
            (self.pointer.offset % 16 != 0, "whose base is not a multiple of 16 bytes"),
        ]

    @property
    def element(self) -> int:
        """Bytes of one element."""
        return SIZES[self.dtype]

    @property
    def extent(self) -> int:
        """Bytes from the base to the end of the last element."""
        steps = zip(self.dims[1:], self.strides, strict=True)
        return self.dims[0] * self.element + sum((d - 1) * s for d, s in steps)

    @property
    def box_bytes(self) -> int:
        """Bytes of a box, which is what a copy adds to its mbarrier."""
        return int(np.prod(self.box)) * self.element

    def shared_index(self, start: int) -> Array:
        """Addresses of the box's 16-byte chunks, in box order, when it begins at `start`."""
        return swizzled(start + np.arange(0, self.box_bytes, 16), self.swizzle)


@dataclass(frozen=True, slots=True)
class BoundMap:
    """A tensor map of a launch, with its buffer and the byte offset of its base there."""

    map: TensorMap
    buffer: "Buffer"
    offset: int

    def _inside(self, at: Sequence[int]) -> tuple[tuple[slice, ...], Array] | None:
        """The part of the box at `at` that lies inside: its place in the box, outermost first with
        bytes last, and a view of the memory; None if it is empty.
        """
        view = self.map
        spans = [
            (max(0, -start), min(side, extent - start))
            for start, side, extent in zip(at, view.box, view.dims, strict=True)
        ]
        if any(low >= high for low, high in spans):
            return None
        steps = (view.element, *view.strides)
        first = self.offset + sum(
            (start + low) * step for start, (low, _), step in zip(at, spans, steps, strict=True)
        )
        shape = [high - low for low, high in spans]
        width = shape[0] * view.element
        memory = np.lib.stride_tricks.as_strided(
            self.buffer.memory.bytes[first:], (*shape[:0:-1], width), (*view.strides[::-1], 1)
        )
        inner = slice(spans[0][0] * view.element, spans[0][1] * view.element)
        return (*(slice(low, high) for low, high in spans[:0:-1]), inner), memory

    def _shape(self) -> tuple[int, ...]:
        view = self.map
        return (*view.box[:0:-1], view.box[0] * view.element)

    def load(self, at: Sequence[int]) -> Array:
        """The box at coordinates `at`, as items of 16 bytes in box order."""
        box = np.zeros(self._shape(), np.uint8)
        found = self._inside(at)
        if found is not None:
            box[found[0]] = found[1]
        return box.reshape(-1).view(np.complex128)

    def store(self, at: Sequence[int], items: Array) -> None:
        """Write a box given as items of 16 bytes; what lies outside is dropped."""
        found = self._inside(at)
        if found is not None:
            found[1][...] = items.view(np.uint8).reshape(self._shape())[found[0]]

    def rows(self, at: Sequence[int]) -> tuple[Array, int]:
        """Offsets in the buffer of the rows that the box covers, and their bytes."""
        found = self._inside(at)
        if found is None:
            return np.zeros(0, np.int64), 0
        memory = found[1]
        base = self.buffer.memory.bytes.__array_interface__["data"][0]
        starts = np.array(memory.__array_interface__["data"][0] - base)
        for count, step in zip(memory.shape[:-1], memory.strides[:-1], strict=True):
            starts = starts[..., None] + np.arange(count) * step
        return starts.reshape(-1), memory.shape[-1]


def swizzled(address: Array, span: int) -> Array:
    """Where 16-byte chunks at these shared addresses lie under a swizzle of `span` bytes.

    Bits 4 and up are exchanged by bits 7 and up: one bit for 32, two for 64, three for 128 bytes
    (PTX ISA, "Tensor swizzling modes").
    """
    if not span:
        return address
    mask = span // 16 - 1
    placed: Array = address ^ ((address >> 7 & mask) << 4)
    return placed


def encoded(number: int) -> bytes:
    """The 128 bytes that stand for tensor map `number` of a launch."""
    return (_MAGIC + number.to_bytes(8, "little")).ljust(BYTES, b"\0")


def decoded(data: bytes) -> int | None:
    """The number in such bytes; None for anything else."""
    if len(data) != BYTES or not data.startswith(_MAGIC):
        return None
    return int.from_bytes(data[len(_MAGIC) : len(_MAGIC) + 8], "little")
