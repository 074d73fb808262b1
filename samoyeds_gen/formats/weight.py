"""The encoded weight: its arrays, what they must look like, and the way to and from a file.

Decides shapes and types at construction; contents are checked in validation.py when asked, and
files are read and written in storage.py.
"""

import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import numpy as np

from samoyeds_gen.errors import FormatError
from samoyeds_gen.formats import storage
from samoyeds_gen.formats.arrays import Array, Device, arrays_of, is_tensor, to_numpy, to_torch
from samoyeds_gen.formats.decoding import decode_arrays
from samoyeds_gen.formats.element import STORED, canonical_dtype
from samoyeds_gen.formats.format import Format
from samoyeds_gen.formats.validation import validate_contents

T = TypeVar("T")

NUMPY = "numpy"


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class SparseWeight:
    """An (N, M, V) weight of `shape` (m output features, k input features).

    With Rp = ceil(m/M)*N stored rows and Kp = ceil(k/V)*V:

    - `data` [Rp, Kp/2] of `dtype`: kept values, two of every four columns; stored row
      band*N + j holds the j-th kept sub-row of each block of the band.
    - `metadata` uint32 [Rp, ceil(Kp/32)]: a nibble first | second << 2 per group of four, lowest
      columns in the lowest bits; padding nibbles are 0x4.
    - `indices` uint8 [Rp, Kp/V]: position 0..M-1 of each kept sub-row, increasing over j; None
      when N = M.

    The arrays are all numpy or all torch tensors of one device; beside data on a device other than
    the CPU, metadata and indices may lie on the CPU, since kernels read packings of them instead.
    None is to be changed in place, since packings derived from them are kept. Raises FormatError
    when types, shapes or places disagree. (Samoyeds, EuroSys'25, section 4.1.)
    """

    format: Format
    dtype: str
    shape: tuple[int, int]
    data: Array
    metadata: Array
    indices: Array | None
    _derived: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", canonical_dtype(self.dtype, allowed=STORED))
        object.__setattr__(self, "shape", _shape(self.shape))
        for name, (kind, shape) in expected_arrays(self.format, self.dtype, self.shape).items():
            _check_array(name, getattr(self, name), kind, shape)
        if self.format.plain and self.indices is not None:
            raise FormatError(
                f"indices are given, but format {self.format} keeps every sub-row",
                remedy="pass indices=None",
            )
        data, *others = (_place(array) for array in self.arrays().values())
        together = all(place == data for place in others)
        if not together and (data == NUMPY or any(place != "cpu" for place in others)):
            raise FormatError(
                "data, metadata and indices lie in different libraries or on different devices",
                remedy="move them together, or metadata and indices to the CPU",
            )

    def __repr__(self) -> str:
        m, k = self.shape
        return (
            f"SparseWeight({self.format} {self.dtype} {m}x{k}, {self.nbytes} bytes, {self.place})"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SparseWeight):
            return NotImplemented
        mine = (self.format, self.dtype, self.shape)
        if mine != (other.format, other.dtype, other.shape):
            return False
        left, right = self.numpy().arrays(), other.numpy().arrays()
        return all(left[name].tobytes() == right[name].tobytes() for name in left)

    __hash__ = None  # type: ignore[assignment]

    @property
    def nbytes(self) -> int:
        """Bytes of data, metadata and indices together."""
        return sum(int(array.nbytes) for array in self.arrays().values())

    @property
    def place(self) -> str:
        """Where the arrays are: "numpy", a device of torch, or one and "cpu" where two are used."""
        data, metadata = _place(self.data), _place(self.metadata)
        return data if data == metadata else f"{data} and {metadata}"

    @property
    def positions(self) -> Array:
        """Place of every stored sub-row in its block, uint8 [Rp, Kp/V]: `indices`, or 0..M-1.

        Lies where metadata does.
        """
        if self.indices is not None:
            return self.indices
        arrays = arrays_of(self.metadata)
        stored, blocks = self.data.shape[0], self.format.blocks(self.shape[1])
        place = arrays.cast(arrays.arange(stored) % self.format.m, "uint8")
        return place.reshape(stored, 1) + arrays.full((1, blocks), 0, "uint8")

    def decode(self) -> Array:
        """Dense matrix [m, k] in `dtype`, of the library and on the device of `data`."""
        return decode_arrays(self.format, self.shape, self.data, self.metadata, self.positions)

    def validate(self) -> None:
        """Check the contents; raise FormatError naming the first fault.

        Metadata holds two different, increasing positions in every group, padding included; the
        positions of kept sub-rows increase inside a block and lie below M; values stored beyond row
        m or column k are zero. Which value was kept is not checked: other pruning methods may have
        chosen otherwise.
        """
        validate_contents(self.format, self.shape, self.data, self.metadata, self.positions)

    def numpy(self) -> "SparseWeight":
        """Return the same weight with numpy arrays: itself when it already has them."""
        if not is_tensor(self.data):
            return self
        return replace(self, **{name: to_numpy(array) for name, array in self.arrays().items()})

    def torch(self, device: Device = "cpu") -> "SparseWeight":
        """Return the same weight as torch tensors on `device`; needs torch."""
        arrays = self.arrays().items()
        return replace(self, **{name: to_torch(array, device) for name, array in arrays})

    def with_host_metadata(self) -> "SparseWeight":
        """Return the same weight with metadata and indices in host memory, and data where it is.

        Itself when they are there already.
        """
        if _place(self.metadata) in (NUMPY, "cpu"):
            return self
        arrays = self.arrays()
        del arrays["data"]
        return replace(self, **{name: array.cpu() for name, array in arrays.items()})

    def derived(self, key: Hashable, build: Callable[["SparseWeight"], T]) -> T:
        """Return build(self), computed once per `key` and kept as long as the weight lives.

        For packings and device copies: never saved, and no part of equality.
        """
        if key not in self._derived:
            self._derived[key] = build(self)
        return cast(T, self._derived[key])

    def known(self, key: Hashable) -> Any:
        """What `derived` has computed for `key` so far; None if nothing."""
        return self._derived.get(key)

    def save(self, path: "str | os.PathLike[str]") -> None:
        """Write the weight to `path` as safetensors with a versioned header.

        The file appears by rename, so a reader never sees half of it. Raises FormatError when the
        path cannot be written.
        """
        storage.write(path, self.format, self.dtype, self.shape, self.numpy().arrays())

    def arrays(self) -> dict[str, Array]:
        """The arrays that are stored, by name: data, metadata and, unless plain 2:4, indices."""
        arrays = {"data": self.data, "metadata": self.metadata}
        return arrays if self.indices is None else {**arrays, "indices": self.indices}


def load(path: "str | os.PathLike[str]") -> SparseWeight:
    """Read a weight that `SparseWeight.save` wrote, with numpy arrays, and validate it.

    Raises FormatError for a file that is missing, truncated, of another kind or version, lacks an
    array, or whose shapes, types or contents disagree with its header.
    """
    form, dtype, shape, arrays = storage.read(path)
    try:
        for name in expected_arrays(form, dtype, shape):
            if name not in arrays:
                raise FormatError(f"array {name!r} is missing", remedy="save the weight again")
        weight = SparseWeight(
            form, dtype, shape, arrays["data"], arrays["metadata"], arrays.get("indices")
        )
        weight.validate()
    except FormatError as error:
        raise FormatError(f"{path}: {error.sentence}", remedy=error.remedy) from None
    return weight


def expected_arrays(
    form: Format, dtype: str, shape: tuple[int, int]
) -> dict[str, tuple[str, tuple[int, int]]]:
    """Type and shape of every array that a weight of `form`, `dtype` and `shape` stores."""
    rows, columns = form.stored_rows(shape[0]), form.padded_k(shape[1])
    arrays = {
        "data": (dtype, (rows, columns // 2)),
        "metadata": ("uint32", (rows, -(-columns // 32))),
        "indices": ("uint8", (rows, columns // form.v)),
    }
    if form.plain:
        del arrays["indices"]
    return arrays


def _place(array: Array) -> str:
    return str(array.device) if is_tensor(array) else NUMPY


def _shape(shape: object) -> tuple[int, int]:
    match shape:
        case (int(m), int(k)) if m >= 1 and k >= 1:
            return (m, k)
    raise FormatError(
        f"shape {shape!r} is not (m, k) with m, k >= 1", remedy="pass two positive integers"
    )


def _check_array(name: str, array: Array, kind: str, shape: tuple[int, int]) -> None:
    if not is_tensor(array) and not isinstance(array, np.ndarray):
        raise FormatError(
            f"{name} is {type(array).__name__}, but {kind} {list(shape)} is required",
            remedy="pass a numpy array or a torch tensor",
        )
    given = str(array.dtype).removeprefix("torch.")
    if given != kind or tuple(array.shape) != shape:
        raise FormatError(
            f"{name} is {given} {list(array.shape)}, but {kind} {list(shape)} is required",
            remedy="encode the weight again",
        )
