"""A SparseWeight as buffers of a torch module, and back from the buffers to the weight.

Decides what a state_dict holds of a weight, and how long the packings made of it are kept: as long
as the buffer itself, until it is written to.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats import Format, SparseWeight
from samoyeds_gen.formats.arrays import Array, Device
from samoyeds_gen.formats.weight import expected_arrays

_CACHE = "_samoyeds_weight"
"""Attribute of a `data` tensor that keeps the SparseWeight over it, with packings and all."""


class KeepsTypes(nn.Module):
    """A module whose buffers move between devices, but never change their types.

    `model.half()` or `model.to(torch.float32)` is about a model's dense parts: stored bits stay.
    """

    def _apply(self, fn: Callable[[Array], Array], recurse: bool = True) -> "KeepsTypes":
        def moved(tensor: Array) -> Array:
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        super()._apply(moved, recurse)
        return self


class StoredWeight(KeepsTypes):
    """The arrays of one weight [m, k] as buffers: what SparseWeight has, and a header.

    - `data` bfloat16 or float16 [Rp, Kp/2], `metadata` uint32 [Rp, ceil(Kp/32)], `indices` uint8
      [Rp, Kp/V] (None for plain 2:4), as SparseWeight describes them.
    - `header` int64 [5]: n, m, v of the format, then output features and input features. A
      state_dict with another header is refused, since formats may share every shape.
    """

    def __init__(self, weight: SparseWeight) -> None:
        super().__init__()
        tensors = weight if _is_torch(weight) else weight.torch()
        self.format = weight.format
        self.shape = weight.shape
        self.dtype = weight.dtype
        self.register_buffer("data", tensors.data)
        self.register_buffer("metadata", tensors.metadata)
        self.register_buffer("indices", tensors.indices)
        header = torch.tensor(self._header(), device=tensors.data.device)
        self.register_buffer("header", header)
        self._cache = _Cache()

    @classmethod
    def empty(
        cls, form: Format, dtype: str, shape: tuple[int, int], device: Device = "meta"
    ) -> "StoredWeight":
        """Uninitialised buffers for a weight of `shape`, to be loaded into; on meta by default."""
        arrays = {
            name: torch.empty(size, dtype=getattr(torch, kind), device=device)
            for name, (kind, size) in expected_arrays(form, dtype, shape).items()
        }
        return cls(
            SparseWeight(
                form, dtype, shape, arrays["data"], arrays["metadata"], arrays.get("indices")
            )
        )

    def sparse(self) -> SparseWeight:
        """The weight over these very buffers, with the packings made of it so far."""
        cache = self._cache
        if not cache.fresh():
            weight = weight_over(self.tensors(), self.format, self.shape)
            cache = self._cache = _Cache(list(weight.arrays().values()), weight)
        assert cache.weight is not None
        return cache.weight

    def tensors(self) -> list[Array]:
        """The buffers that a kernel needs: data, metadata and, unless plain 2:4, indices."""
        found = [self.data, self.metadata]
        return found if self.indices is None else [*found, self.indices]

    def numbers(self) -> list[int]:
        """n, m, v, output features and input features: the header, as an operator takes it."""
        return self._header()

    @property
    def nbytes(self) -> int:
        """Bytes of data, metadata and indices together."""
        return sum(int(tensor.nbytes) for tensor in self.tensors())

    def extra_repr(self) -> str:
        """What print(model) says."""
        return f"({self.format}) {self.dtype} {self.shape[0]}x{self.shape[1]}"

    def _header(self) -> list[int]:
        return [self.format.n, self.format.m, self.format.v, *self.shape]

    def _apply(self, fn: Callable[[Array], Array], recurse: bool = True) -> "StoredWeight":
        super()._apply(fn, recurse)
        self._cache = _Cache()
        return self

    def _load_from_state_dict(
        self, state_dict: dict[str, Array], prefix: str, *arguments: Any
    ) -> None:
        header = state_dict.get(f"{prefix}header")
        if header is not None and not header.is_meta and header.tolist() != self._header():
            raise ModelError(
                f"{prefix}header is {header.tolist()}, but {self._header()} (n, m, v, rows, "
                "columns) is required",
                remedy="build the layer for the format that was saved",
            )
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self._cache = _Cache()


class _Cache:
    """A weight over tensors, for as long as nobody writes to them.

    Copies and pickles of what holds a cache start without.
    """

    __slots__ = ("tensors", "versions", "weight")

    def __init__(self, tensors: Sequence[Array] = (), weight: SparseWeight | None = None) -> None:
        self.tensors = tuple(tensors)
        self.versions = [_version(each) for each in tensors]
        self.weight = weight

    def fresh(self) -> bool:
        """Whether there is a weight and no tensor was written to since."""
        for tensor, version in zip(self.tensors, self.versions, strict=True):
            if version >= 0 and tensor._version != version:
                return False
        return self.weight is not None

    def __deepcopy__(self, memo: object) -> "_Cache":
        return _Cache()

    def __reduce__(self) -> tuple[type["_Cache"], tuple[()]]:
        return _Cache, ()


def weight_over(tensors: Sequence[Array], form: Format, shape: tuple[int, int]) -> SparseWeight:
    """The SparseWeight over these tensors (data, metadata, perhaps indices), made once.

    It is kept by the data tensor, so that an operator that is only handed tensors finds the
    packings, and it is made anew when a tensor was replaced or written to.
    """
    # Aliases, so that the data tensor is not kept by what it keeps. They share its versions.
    found = getattr(tensors[0], _CACHE, None)
    if found is not None and found.fresh() and _same(found.tensors, tensors):
        return found.weight  # type: ignore[no-any-return]
    aliases = [each.detach() for each in tensors]
    data, metadata, *indices = aliases
    kind = str(data.dtype).removeprefix("torch.")
    weight = SparseWeight(form, kind, shape, data, metadata, *(indices or [None]))
    with contextlib.suppress(AttributeError):
        setattr(tensors[0], _CACHE, _Cache(aliases, weight))
    return weight


def _same(aliases: Sequence[Array], tensors: Sequence[Array]) -> bool:
    """Whether two sequences of tensors lie in the same memory."""
    pairs = zip(aliases, tensors, strict=False)
    return len(aliases) == len(tensors) and all(a.data_ptr() == t.data_ptr() for a, t in pairs)


def _version(tensor: Array) -> int:
    """How often a tensor was written to; -1 where that is not counted."""
    return -1 if tensor.is_inference() else int(tensor._version)


def _is_torch(weight: SparseWeight) -> bool:
    return isinstance(weight.data, torch.Tensor)
