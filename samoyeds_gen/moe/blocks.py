"""A model's dense Mixture-of-Experts block, read the same way whichever layout it has.

Decides what counts as a block and how a shared expert is cut into experts; refuses what the sparse
layer could not hold before anything is changed.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats import Format, gate_block
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.formats.weight import SparseWeight
from samoyeds_gen.moe.calibration import FLOATS
from samoyeds_gen.moe.experts import SparseExperts
from samoyeds_gen.moe.families import activation_of, family_of
from samoyeds_gen.moe.layer import SparseMoE
from samoyeds_gen.moe.linear import SparseMLP
from samoyeds_gen.moe.stored import StoredWeight

NAMES = (("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2"))
"""What gate, up and down are called in MLPs of a list of experts."""

Mlp = tuple[Array, Array, Array]
"""Gate and up [inner, hidden], down [hidden, inner]."""


class DenseBlock:
    """Weights and sizes of one block of a supported model.

    `hidden` and `inner` features; `count` routed experts; `folded` experts into which the shared
    expert is cut, where its width is a multiple of `inner`; else `lone` is its width. Both layouts
    are read: `experts.gate_up_proj` [count, 2 inner, hidden] with `experts.down_proj` [count,
    hidden, inner], and a list of MLPs. Raises ModelError for any other block.
    """

    def __init__(self, name: str, block: nn.Module, config: Any) -> None:
        family = family_of(config)
        self.name = name
        self.block = block
        self.activation = activation_of(config)
        self.fused = isinstance(getattr(block.experts, "gate_up_proj", None), torch.Tensor)
        first = self._routed(0)
        self.inner, self.hidden = (int(size) for size in first[0].shape)
        self.count = _count(name, block.experts, fused=self.fused)
        self.shared = None if family.shared is None else getattr(block, family.shared, None)
        self.shared_gate = family.shared_gate and getattr(block, family.shared_gate)
        width = 0 if self.shared is None else int(_weights(name, self.shared)[0].shape[0])
        folds = width and width % self.inner == 0
        self.folded = width // self.inner if folds else 0
        self.lone = 0 if folds else width
        self.routing = family.routing(config, self.count, self.folded)
        self.wide = family.wide
        for mlp in (first, *([_weights(name, self.shared)] if width else [])):
            self._check(mlp)

    def mlp(self, expert: int) -> Mlp:
        """Weights of a routed expert, or behind those of a part of the folded shared expert."""
        if expert < self.count:
            return self._routed(expert)
        gate, up, down = _weights(self.name, self.shared)
        part = slice((expert - self.count) * self.inner, (expert - self.count + 1) * self.inner)
        return gate[part], up[part], down[:, part]

    def shared_mlp(self) -> Mlp:
        """Weights of the shared expert as a whole."""
        return _weights(self.name, self.shared)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the block's weights."""
        return self._routed(0)[0].dtype

    @property
    def device(self) -> torch.device:
        """Where the block's weights are."""
        return self._routed(0)[0].device

    @property
    def dense_bytes(self) -> int:
        """Bytes of the weights that the format replaces, in 16-bit types."""
        width = self.lone or self.folded * self.inner
        return 2 * 3 * self.hidden * (self.count * self.inner + width)

    def check(self, form: Format) -> None:
        """Raise ModelError unless weights of `form` can hold the block."""
        block = gate_block(form)
        for what, size, multiple in (
            ("intermediate", self.inner, block),
            ("shared intermediate", self.lone, block),
            ("hidden", self.hidden, form.m),
        ):
            if size % multiple:
                raise ModelError(
                    f"{self.name} has {size} {what} features, but a multiple of {multiple} is "
                    f"required by the format {form}",
                    remedy="choose a format with a smaller M",
                )

    def sparse(self, experts: SparseExperts, shared: SparseMLP | None) -> SparseMoE:
        """The block with these experts in place of its own; it keeps the router."""
        gate = self.block.gate
        return SparseMoE(
            gate,
            experts,
            routing=self.routing,
            wide=self.wide,
            shared=shared,
            shared_gate=self.shared_gate,
            returns_logits=isinstance(gate, nn.Linear),
        )

    def empty(self, form: Format, dtype: str) -> SparseMoE:
        """The sparse layer for this block with weights on meta, to be loaded into."""
        self.check(form)
        total = self.count + self.folded
        experts = SparseExperts(
            *_empty_pair(form, dtype, total, self.inner, self.hidden),
            count=self.count,
            shared=self.folded,
            activation=self.activation,
        )
        shared = None
        if self.lone:
            pair = _empty_pair(form, dtype, 1, self.lone, self.hidden)
            shared = SparseMLP(*pair, activation=self.activation)
        return self.sparse(experts, shared)

    def _routed(self, expert: int) -> Mlp:
        experts = self.block.experts
        if self.fused:
            gate, up = experts.gate_up_proj[expert].chunk(2)
            return gate.detach(), up.detach(), experts.down_proj[expert].detach()
        return _weights(f"{self.name}.experts.{expert}", experts[expert])

    def _check(self, mlp: Mlp) -> None:
        gate, up, down = mlp
        inner = gate.shape[0]
        if up.shape != gate.shape or tuple(down.shape) != (self.hidden, inner):
            raise ModelError(
                f"{self.name} has gate {list(gate.shape)}, up {list(up.shape)} and down "
                f"{list(down.shape)}, which are not one MLP of {self.hidden} features",
                remedy="keep this model dense",
            )
        for each in mlp:
            if each.dtype not in FLOATS:
                raise ModelError(
                    f"{self.name} has weights of {each.dtype}, but a floating-point type is "
                    "required",
                    remedy="load the model without quantization",
                )


def dense_blocks(model: Any) -> Iterator[DenseBlock]:
    """Every Mixture-of-Experts block of a model that is still dense, in order."""
    family_of(model.config)
    for name, module in model.named_modules():
        if isinstance(module, SparseMoE):
            continue
        if hasattr(module, "gate") and hasattr(module, "experts"):
            yield DenseBlock(name, module, model.config)


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` where the submodule called `name` is."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def _count(name: str, experts: Any, *, fused: bool) -> int:
    if not fused:
        return len(experts)
    up, down = experts.gate_up_proj, experts.down_proj
    if up.ndim != 3 or down.ndim != 3 or up.shape[0] != down.shape[0] or up.shape[1] % 2:
        raise ModelError(
            f"{name} has gate_up_proj {list(up.shape)} and down_proj {list(down.shape)}, but "
            "[experts, 2 inner, hidden] and [experts, hidden, inner] are required",
            remedy="keep this model dense",
        )
    return int(up.shape[0])


def _weights(name: str, mlp: Any) -> Mlp:
    for names in NAMES:
        layers: list[Any] = [getattr(mlp, each, None) for each in names]
        if all(isinstance(each, nn.Linear) for each in layers):
            break
    else:
        raise ModelError(
            f"{name} is a {type(mlp).__name__} without gate_proj, up_proj and down_proj",
            remedy="build SparseMoE from the weights of your own layers",
        )
    if any(each.bias is not None for each in layers):
        raise ModelError(
            f"{name} has biases, but experts without biases are required",
            remedy="keep this model dense",
        )
    gate, up, down = (each.weight.detach() for each in layers)
    return gate, up, down


def _empty_pair(
    form: Format, dtype: str, experts: int, inner: int, hidden: int
) -> tuple[SparseWeight, SparseWeight]:
    shapes = ((experts * 2 * inner, hidden), (experts * hidden, inner))
    up, down = (StoredWeight.empty(form, dtype, shape).sparse() for shape in shapes)
    return up, down
