"""The weights of one layer in every format that is compared, and the dense ones that peers take.

Peers multiply by the decoded, hence pruned, weights of the first format: all sides of that format
compute the same function.
"""

from collections.abc import Callable, Sequence

import torch

from samoyeds_gen.formats import Format, SparseWeight, encode
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.moe.experts import SparseExperts
from samoyeds_gen.tune.layers import LayerConfig

Mlp = tuple[Array, Array, Array]
"""Gate and up [inner, hidden], down [hidden, inner]."""


class LayerWeights:
    """The experts of a layer, random normal of deviation fan-in^-1/2, encoded and decoded.

    `gate_up` [experts, 2 inner, hidden], gate above up, and `down` [experts, hidden, inner] are
    bfloat16, decoded from the first of `formats`; `sparse` has the layer of each.
    """

    def __init__(
        self,
        config: LayerConfig,
        formats: Sequence[Format],
        device: torch.device,
        shared: int = 0,
    ) -> None:
        self.config = config
        count, h, i = config.experts + shared, config.hidden, config.inner
        self.gate_up = torch.empty(count, 2 * i, h, dtype=torch.bfloat16, device=device)
        self.down = torch.empty(count, h, i, dtype=torch.bfloat16, device=device)
        self.sparse: dict[Format, SparseExperts] = {}
        for form in formats:
            self.sparse[form] = self._encoded(form, shared, decoded=form == formats[0])

    def dense(self, form: Format) -> Callable[[int], Mlp]:
        """Gives gate, up and down of an expert as they are decoded from `form`."""
        first = next(iter(self.sparse), form)
        experts = self.sparse[form]

        def of(expert: int) -> Mlp:
            if form == first:
                gate, up = self.gate_up[expert].chunk(2)
                return gate, up, self.down[expert]
            gate, up, down = experts.dense(expert)
            assert gate is not None
            return gate, up, down

        return of

    def _encoded(self, form: Format, shared: int, *, decoded: bool) -> SparseExperts:
        """Draw, encode and stack; the same drawing for every format."""
        h, i, place = self.config.hidden, self.config.inner, self.down.device
        generator = torch.Generator(place).manual_seed(h + i)

        def one(rows: int, columns: int) -> SparseWeight:
            drawn = torch.randn(rows, columns, generator=generator, device=place)
            return encode(drawn.mul_(columns**-0.5), n=form.n, m=form.m, v=form.v)

        gates, ups, downs = [], [], []
        for expert in range(len(self.down)):
            gates.append(one(i, h))
            ups.append(one(i, h))
            downs.append(one(h, i))
            if decoded:
                self.gate_up[expert, :i] = gates[-1].decode()
                self.gate_up[expert, i:] = ups[-1].decode()
                self.down[expert] = downs[-1].decode()
        return SparseExperts.of(gates, ups, downs, shared=shared)
