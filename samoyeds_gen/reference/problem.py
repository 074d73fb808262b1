"""One multiplication with its arguments checked and turned to float64.

Decides which arguments the reference refuses; the sums themselves are in accumulate.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.formats import SparseWeight
from samoyeds_gen.formats.arrays import Array, is_tensor, to_numpy
from samoyeds_gen.formats.decoding import decode_arrays
from samoyeds_gen.formats.selection import host_selection
from samoyeds_gen.reference.activations import Activation, Floats, activation_of

_CHUNK = 1 << 23
"""Dense weight elements held in float64 at a time (64 MiB)."""


@dataclass(frozen=True, slots=True)
class Band:
    """Consecutive output rows, whole bands of M but for a ragged last one, as float64.

    `dense` [rows, k] is the decoded weight and `weight` the same rows still encoded.
    """

    rows: slice
    weight: SparseWeight
    dense: Floats

    def stored(self) -> npt.NDArray[np.bool_]:
        """Where an entry is stored, zero or not: bool [rows, k]."""
        w = self.weight
        ones = np.ones(w.data.shape, np.float16)
        stored = decode_arrays(w.format, w.shape, ones, w.metadata, w.positions)
        return np.asarray(stored != 0)


@dataclass(frozen=True, slots=True)
class Problem:
    """`tokens` [n, k] float64 are the selected ones; bias [m] and scale [n] float64 or None."""

    weight: SparseWeight
    tokens: Floats
    bias: Floats | None
    scale: Floats | None
    activation: Activation

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the output: selected tokens, output features."""
        return self.tokens.shape[0], self.weight.shape[0]

    def bands(self) -> Iterator[Band]:
        """Cut the weight into runs of output rows that fit comfortably in memory."""
        w = self.weight
        m, k = w.shape
        step = max(1, _CHUNK // (w.format.m * k))
        for first in range(0, w.format.bands(m), step):
            rows = slice(first * w.format.m, min(m, (first + step) * w.format.m))
            part = _rows(w, slice(first * w.format.n, (first + step) * w.format.n), rows)
            yield Band(rows, part, part.decode().astype(np.float64))


def problem_of(
    w: SparseWeight,
    tokens: Array,
    selection: Array | None,
    bias: Array | None,
    activation: str | None,
    scale: Array | None,
) -> Problem:
    """Check the arguments of `reference.ssmm` and gather the selected tokens; LaunchError."""
    if not isinstance(w, SparseWeight):
        raise LaunchError(
            f"the weight is a {type(w).__name__}, but a SparseWeight is required",
            remedy="encode it first",
        )
    w = w.numpy()
    table = _array("tokens", tokens, w.dtype, (None, w.shape[1]))
    rows = host_selection(selection, table.shape[0])
    return Problem(
        w,
        table[rows].astype(np.float64),
        _vector("bias", bias, w.shape[0]),
        _vector("scale", scale, len(rows)),
        activation_of(activation),
    )


def _rows(w: SparseWeight, stored: slice, rows: slice) -> SparseWeight:
    indices = None if w.indices is None else w.indices[stored]
    shape = (rows.stop - rows.start, w.shape[1])
    return SparseWeight(w.format, w.dtype, shape, w.data[stored], w.metadata[stored], indices)


def _vector(name: str, value: Array | None, size: int) -> Floats | None:
    if value is None:
        return None
    vector: Floats = _array(name, value, "float32", (size,)).astype(np.float64)
    return vector


def _array(name: str, value: Array, kind: str, shape: tuple[int | None, ...]) -> npt.NDArray[Any]:
    if not is_tensor(value) and not isinstance(value, np.ndarray):
        raise LaunchError(
            f"{name} is a {type(value).__name__}, but a numpy array or torch tensor is required",
            remedy=f"pass {kind} values in an array",
        )
    array: npt.NDArray[Any] = np.asarray(to_numpy(value))
    fits = len(shape) == array.ndim and all(
        want in (None, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if array.dtype.name != kind or not fits:
        wanted = ", ".join("T" if size is None else str(size) for size in shape)
        raise LaunchError(
            f"{name} is {array.dtype.name} {list(array.shape)}, but {kind} [{wanted}] is required",
            remedy=f"convert or reshape {name}",
        )
    return array
