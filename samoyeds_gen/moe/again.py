"""The launches of a layer's last call, for a next one with tensors alike.

Decides what alike means: everything that the way to the launches looks at. It spares the host that
way, which takes as long as queueing the launches.
"""

from collections.abc import Callable, Mapping, Sequence
from weakref import ref

from samoyeds_gen.formats import SparseWeight
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.moe.backend import Prepared, runs_kernels

ALIGNMENT = 16  # bytes that a kernel loads of a row of tokens at a time

Tensors = Sequence[Array | None]
Weights = tuple[SparseWeight, ...]


class Again:
    """What calls with tensors like `tensors`, the tokens first, by `rule` on `weights` do alike.

    It keeps neither weights nor launches alive; copies and pickles of what holds one hold None.
    """

    __slots__ = ("_call", "_likeness", "_names", "_rule", "_weights")

    def __init__(
        self, prepared: Prepared, tensors: Tensors, rule: object, weights: Weights
    ) -> None:
        names = {id(array): name for name, array in prepared.arrays.items()}
        self._names = [names.get(id(each)) for each in tensors]
        self._call = ref(prepared.call)
        self._likeness = [None if each is None else likeness(each) for each in tensors]
        self._rule = rule
        self._weights = [ref(each) for each in weights]

    @property
    def whole(self) -> bool:
        """Whether the call took every array as it was given."""
        given = [each is not None for each in self._likeness]
        return given == [name is not None for name in self._names]

    def __call__(self, tensors: Tensors, rule: object, weights: Weights) -> Array | None:
        """Make the call, if it is alike; None else."""
        tokens = tensors[0]
        assert tokens is not None
        known: Callable[[Mapping[str, Array]], Array] | None = self._call()
        if (
            known is None
            or rule is not self._rule
            or len(weights) != len(self._weights)
            or tokens.data_ptr() % ALIGNMENT
            or not runs_kernels(tokens.device)
        ):
            return None
        for w, kept in zip(weights, self._weights, strict=True):
            if w is not kept():
                return None
        arrays = {}
        for each, name, alike in zip(tensors, self._names, self._likeness, strict=True):
            if (None if each is None else likeness(each)) != alike:
                return None
            if each is not None and name is not None:
                arrays[name] = each
        return known(arrays)

    def __deepcopy__(self, memo: object) -> None:
        return None

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()


def likeness(tensor: Array) -> tuple[object, ...]:
    """What the way to the launches looks at."""
    return (tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.requires_grad)
