"""A SparseWeight as buffers of a torch module, and back from the buffers to the weight.

Decides what a state_dict holds of a weight, which of its buffers follow a module to a GPU, and how
long the packings made of it are kept: as long as the buffers themselves, until they are written to.
"""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any
from weakref import WeakSet, WeakValueDictionary

import torch
from torch import nn

from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats import Format, SparseWeight
from samoyeds_gen.formats.arrays import Array, Device
from samoyeds_gen.formats.weight import expected_arrays

WHOLE = ("cpu", "meta")
"""Types of devices that hold every buffer; on others metadata, indices and header stay away."""


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

    On a GPU lies `data` alone. The other buffers are on the CPU then, whatever the module is moved
    to or loaded from: kernels read packings of them, which the first call uploads, so that a (1, 2,
    V) weight takes 29 % of the dense bytes and not 32 %. On "cpu" and "meta" all are together.
    """

    def __init__(self, weight: SparseWeight) -> None:
        super().__init__()
        tensors = weight if isinstance(weight.data, torch.Tensor) else weight.torch()
        if tensors.data.device.type not in WHOLE:
            tensors = tensors.with_host_metadata()
        self.format = weight.format
        self.shape = weight.shape
        self.dtype = weight.dtype
        self.register_buffer("data", tensors.data)
        self.register_buffer("metadata", tensors.metadata)
        self.register_buffer("indices", tensors.indices)
        header = torch.tensor(self._header(), device=tensors.metadata.device)
        self.register_buffer("header", header)
        self._cache = _Cache()
        _enlist(self)

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
        if not cache.fresh(self._buffers["data"]):
            tensors = self.tensors()
            weight = weight_over(tensors, self.format, self.shape)
            cache = self._cache = _Cache(tensors, weight)
        assert cache.weight is not None
        return cache.weight

    def holds(self, data: Array) -> bool:
        """Whether a tensor is `data`, or another name for the same memory."""
        own = self._buffers["data"]
        if own is data:
            return True
        if type(own) is not torch.Tensor or own.is_meta or own.device != data.device:
            return False
        return bool(own.shape == data.shape and own.data_ptr() == data.data_ptr())

    def tensors(self) -> list[Array]:
        """The buffers that a SparseWeight needs: data, metadata and, unless plain 2:4, indices."""
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
        data, before = self.data, self.tensors()

        def placed(tensor: Array) -> Array:
            return fn(tensor) if tensor is data else _beside(tensor, fn)

        super()._apply(placed, recurse)
        if any(old is not new for old, new in zip(before, self.tensors(), strict=True)):
            self._cache = _Cache()
        return self

    def _load_from_state_dict(
        self, state_dict: dict[str, Array], prefix: str, *arguments: Any
    ) -> None:
        state_dict = dict(state_dict)
        for name in ("metadata", "indices", "header"):
            given = state_dict.get(prefix + name)
            if given is not None and given.device.type not in WHOLE:
                state_dict[prefix + name] = given.cpu()
        header = state_dict.get(f"{prefix}header")
        if header is not None and not header.is_meta and header.tolist() != self._header():
            raise ModelError(
                f"{prefix}header is {header.tolist()}, but {self._header()} (n, m, v, rows, "
                "columns) is required",
                remedy="build the layer for the format that was saved",
            )
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self._cache = _Cache()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        _enlist(self)


def _beside(tensor: Array, fn: Callable[[Array], Array]) -> Array:
    """What `fn`, which moves a module, makes of a buffer that never goes to a GPU."""
    if fn(tensor.new_empty(0)).device.type in WHOLE:
        return fn(tensor)
    return torch.empty_like(tensor, device="cpu") if tensor.is_meta else tensor.cpu()


class _Cache:
    """A weight over tensors, for as long as nobody replaces its data or writes to them.

    Copies and pickles of what holds a cache start without.
    """

    __slots__ = ("counted", "tensors", "versions", "weight")

    def __init__(self, tensors: Sequence[Array] = (), weight: SparseWeight | None = None) -> None:
        self.tensors = tuple(tensors)
        self.counted = [each for each in tensors if not each.is_inference()]
        self.versions = [each._version for each in self.counted]
        self.weight = weight

    def fresh(self, data: Array) -> bool:
        """Whether there is a weight over `data` and no tensor was written to since."""
        if self.weight is None or self.tensors[0] is not data:
            return False
        return [each._version for each in self.counted] == self.versions

    def __deepcopy__(self, memo: object) -> "_Cache":
        return _Cache()

    def __reduce__(self) -> tuple[type["_Cache"], tuple[()]]:
        return _Cache, ()


def weight_over(tensors: Sequence[Array], form: Format, shape: tuple[int, int]) -> SparseWeight:
    """The SparseWeight over these tensors: data, metadata, perhaps indices."""
    data, metadata, *indices = tensors
    kind = str(data.dtype).removeprefix("torch.")
    return SparseWeight(form, kind, shape, data, metadata, *(indices or [None]))


_LIVE: "WeakSet[StoredWeight]" = WeakSet()
_FOUND: "WeakValueDictionary[tuple[int, ...], StoredWeight]" = WeakValueDictionary()
_lock = Lock()


def _enlist(stored: StoredWeight) -> None:
    with _lock:
        _LIVE.add(stored)


def weight_at(data: Array, numbers: Sequence[int]) -> SparseWeight:
    """The weight, with its packings, of the StoredWeight whose `data` and `numbers()` these are.

    Operators are handed tensors of the tokens' device only, and metadata may lie elsewhere. The
    memory of `data` tells weights apart: unlike a number of its own for every module, it changes
    with the module's buffers, and one compiled layer serves all of a shape. Raises ModelError when
    there is none.
    """
    key = (data.data_ptr(), *numbers)
    found = _FOUND.get(key)
    if found is None or not found.holds(data):
        with _lock:
            living = [each for each in _LIVE if each.numbers() == list(numbers)]
        found = next((each for each in living if each.holds(data)), None)
        if found is None:
            n, m, v, rows, columns = numbers
            raise ModelError(
                f"an operator was given data of a ({n},{m},{v}) weight {rows}x{columns} that no "
                "living layer holds",
                remedy="keep the layer, and call it or its compiled form with its own buffers",
            )
        _FOUND[key] = found
    return found.sparse()
