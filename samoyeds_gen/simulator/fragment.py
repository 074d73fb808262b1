"""Matrix operands assembled from registers, for whole warps at once, and kept for reuse.

Knows the register layout of A, B and sparse metadata; which instruction uses them is the matrix
rows' business.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np

from samoyeds_gen.simulator.scalars import Array, widen

T = TypeVar("T")
# Neighbouring instructions share A or B; more than a few dozen are never alive together.
_KEPT = 64


def _pairs(register: Array) -> Array:
    return np.ascontiguousarray(register).view(np.uint16).reshape(-1, 8, 4, 2)


def left_fragment(registers: Sequence[Array], element: str) -> Array:
    """A as stored, [warps, 16, 8 or 16] float64, from two or four registers over all lanes."""
    half = len(registers) // 2
    words = np.empty((len(registers[0]) // 32, 2, 8, half, 4, 2), np.uint16)
    for number, register in enumerate(registers):
        words[:, number % 2, :, number // 2] = _pairs(register)
    return widen(words.reshape(-1, 16, 8 * half), element).astype(np.float64)


class Right:
    """B transposed: `values` [warps, 8 columns, k] float64; each register holds eight rows of B."""

    __slots__ = ("finite", "values")

    def __init__(self, registers: Sequence[Array], element: str) -> None:
        words = np.empty((len(registers[0]) // 32, 8, len(registers), 4, 2), np.uint16)
        for number, register in enumerate(registers):
            words[:, :, number] = _pairs(register)
        self.values: Array = widen(words.reshape(-1, 8, 8 * len(registers)), element).astype(
            np.float64
        )
        self.finite = bool(np.isfinite(self.values).all())

    @classmethod
    def of(cls, values: Array, warps: int) -> "Right":
        """The same eight columns, [8, k] float64, for several warps."""
        made = cls.__new__(cls)
        made.values = np.broadcast_to(values, (warps, *values.shape))
        made.finite = bool(np.isfinite(values).all())
        return made


class Sparse:
    """A with its metadata: `stored` [warps, 16, k/2], `positions` their columns, `dense` [warps,
    16, k], and `bad` [warps], true where a code is not allowed. `metadata` has a word per lane.

    k32: lanes 4g + 2 * selector + c hold columns 16c to 16c + 15; k16: lane 4g + selector. Row g
    lies in the low half of the word, row g + 8 in the high half (confirmed on an H200 for k32).
    """

    __slots__ = ("bad", "codes", "dense", "k", "ordered", "positions", "selector", "stored")

    def __init__(
        self, stored: Array, metadata: Array, k: int, selector: int, ordered: bool
    ) -> None:
        self.k, self.selector, self.ordered = k, selector, ordered
        self.stored = stored
        self.codes = self._codes(metadata)
        wrong = self._wrong(self.codes)
        self.bad = np.asarray(wrong.any(axis=(1, 2)))
        self.positions = self.codes + np.arange(0, 2 * k, 4, dtype=np.int64).repeat(2)[: k // 2]
        self.dense = np.zeros((len(self.stored), 16, k))
        np.put_along_axis(self.dense, self.positions, self.stored, axis=2)

    def _codes(self, metadata: Array) -> Array:
        width = self.k // 16
        first = self.selector * width
        quad = _pairs(metadata)[:, :, first : first + width]
        words = quad.transpose(0, 3, 1, 2).reshape(-1, 16, width, 1)
        shifts = np.arange(0, 16, 2, dtype=np.uint16)
        return ((words >> shifts) & np.uint16(3)).reshape(-1, 16, self.k // 2)

    def _wrong(self, codes: Array) -> Array:
        low, high = codes[..., 0::2], codes[..., 1::2]
        return low >= high if self.ordered else low == high

    def first_bad(self, warp: int) -> tuple[int, int, tuple[int, int]]:
        """Row, group and the two positions of the first code that is not allowed."""
        row, group = (int(i) for i in np.argwhere(self._wrong(self.codes[warp]))[0])
        pair = self.codes[warp, row, 2 * group : 2 * group + 2]
        return row, group, (int(pair[0]), int(pair[1]))

    def holder(self, row: int, group: int) -> int:
        """Lane that holds the code of a group."""
        return 4 * (row % 8) + self.selector * (self.k // 16) + group // 4

    def product(self, right: Right, warps: Array | slice) -> Array:
        """A times B for some warps, [warps, 16, 8]; only stored entries multiply."""
        b = right.values[warps].swapaxes(1, 2)
        if right.finite:
            product: Array = np.matmul(self.dense[warps], b)
            return product
        gathered = b[np.arange(len(b))[:, None, None], self.positions[warps]]
        product = (self.stored[warps][..., None] * gathered).sum(axis=2)
        return product


class Operands:
    """Assembled fragments of one machine, by the registers they came from.

    Register arrays are never written in place, so identity is equality; the arrays are held so that
    no identity is reused.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[Hashable, ...], tuple[Sequence[Array], object]] = {}

    def get(
        self, key: tuple[Hashable, ...], registers: Sequence[Array], build: Callable[[], T]
    ) -> T:
        """The fragment made of these registers, built when it is new."""
        whole = (*key, *map(id, registers))
        found = self._kept.get(whole)
        if found is None:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            found = self._kept[whole] = (registers, build())
        return found[1]  # type: ignore[return-value]
