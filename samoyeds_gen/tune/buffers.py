"""The arrays that a comparison rotates through, so that no contender finds its operands in L2.

One set of tokens and weights is checked; the others hold the same values at other addresses.
"""

import dataclasses

import torch

from samoyeds_gen.compiler import Plan
from samoyeds_gen.formats import Format, SparseWeight, encode
from samoyeds_gen.kernel import share_packings
from samoyeds_gen.tune.suites import DECODE_LIMIT, Shape

ROTATED_BYTES = 256 * 2**20
"""More than any L2."""

MOST_SETS = 256
SPREAD = 0.05
"""Standard deviation of weights: outputs stay near 1 for k of some thousands."""


def sets_for(nbytes: int) -> int:
    """How many buffers of so many bytes exceed every L2: two at least."""
    return min(MOST_SETS, max(2, -(-ROTATED_BYTES // nbytes) + 1))


def weight_sets(shape: Shape, nbytes: int) -> int:
    """How many copies of a weight are rotated: one alone where matrix work is the limit."""
    return sets_for(nbytes) if shape[2] <= DECODE_LIMIT else 1


class Weights:
    """The weights of one (m, k): dense, 2:4 and in every format asked for, with their copies."""

    def __init__(self, m: int, k: int, dtype: torch.dtype) -> None:
        self.shape = (m, k)
        self.dtype = dtype
        generator = torch.Generator(device="cuda").manual_seed(m + k)
        self._full = torch.randn(m, k, device="cuda", generator=generator) * SPREAD
        self._dense = [self._full.to(dtype)]
        self._encoded: dict[Format, SparseWeight] = {}

    def dense(self, count: int) -> list[torch.Tensor]:
        """`count` copies of the dense weight [m, k]."""
        while len(self._dense) < count:
            self._dense.append(self._dense[0].clone())
        return self._dense[:count]

    def halved(self) -> torch.Tensor:
        """The weight pruned to 2:4, dense [m, k], as peers that compress it themselves take it."""
        dense = encode(self._full, n=1, m=1, v=16, dtype=self._name).decode()
        return torch.as_tensor(dense, device="cuda").to(self.dtype)

    def encoded(self, format: Format) -> SparseWeight:
        """The weight in a format."""
        if format not in self._encoded:
            f = format
            self._encoded[f] = encode(self._full, n=f.n, m=f.m, v=f.v, dtype=self._name)
        return self._encoded[format]

    def copies(self, format: Format, plan: Plan, count: int) -> list[SparseWeight]:
        """The weight in a format and `count` - 1 new copies, with the derived arrays of a plan.

        Copies belong to the caller: a search would keep those of every candidate otherwise.
        """
        first = self.encoded(format)
        copies = [first]
        for _ in range(count - 1):
            copies.append(dataclasses.replace(first, data=first.data.clone()))
            share_packings(first, copies[-1], plan)
        return copies

    @property
    def _name(self) -> str:
        return str(self.dtype).removeprefix("torch.")


class Tokens:
    """Sets of tokens [n, k], made as they are asked for, each of other values."""

    def __init__(self, n: int, k: int, dtype: torch.dtype) -> None:
        self._shape = (n, k)
        self._dtype = dtype
        self._generator = torch.Generator(device="cuda").manual_seed(n + k)
        self._sets: list[torch.Tensor] = []

    @property
    def own_sets(self) -> int:
        """How many sets exceed every L2 without any help from weights."""
        n, k = self._shape
        return sets_for(2 * n * k)

    def take(self, count: int) -> list[torch.Tensor]:
        """The first `count` sets."""
        while len(self._sets) < count:
            drawn = torch.randn(*self._shape, device="cuda", generator=self._generator)
            self._sets.append(drawn.to(self._dtype))
        return self._sets[:count]
