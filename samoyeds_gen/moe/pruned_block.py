"""One block from dense to sparse: prune each expert with its own inputs, encode, stack.

Decides which tokens an expert is calibrated with; how entries are chosen is pruning.py's.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from samoyeds_gen.formats import (
    Format,
    SparseWeight,
    encode,
    gate_block,
    interleave_rows,
    stack_weights,
)
from samoyeds_gen.formats.arrays import Array, Device
from samoyeds_gen.language import Routing
from samoyeds_gen.moe.backend import backend_of
from samoyeds_gen.moe.blocks import DenseBlock, Mlp
from samoyeds_gen.moe.calibration import Calibration
from samoyeds_gen.moe.experts import SparseExperts
from samoyeds_gen.moe.layer import SparseMoE, call_router, logits_of
from samoyeds_gen.moe.linear import SparseMLP
from samoyeds_gen.moe.on_reference import activate
from samoyeds_gen.moe.pruning import METHODS, check_weight, prune

CHUNK = 1 << 13
"""Tokens run through an expert at a time."""

Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and how much there is."""


@dataclass(frozen=True, slots=True)
class Pruning:
    """How weights are pruned: the format, the stored type, the method and its damping."""

    format: Format
    dtype: str = "bfloat16"
    method: str = "magnitude"
    damping: float = 0.01

    @property
    def calibrated(self) -> bool:
        """Whether the method needs to see inputs."""
        return self.method in METHODS and self.method != "magnitude"


@dataclass(slots=True)
class _Sums:
    """Energies of the weights and of what pruning took from them."""

    lost: float = 0.0
    whole: float = 0.0
    unseen: int = field(default=0)

    def add(self, dense: Array, pruned: Array) -> None:
        wide = dense.to(torch.float64)
        self.lost += float((wide - pruned.to(torch.float64)).square().sum())
        self.whole += float(wide.square().sum())

    @property
    def error(self) -> float:
        return math.sqrt(self.lost / self.whole) if self.whole else 0.0


@dataclass(frozen=True, slots=True)
class PrunedBlock:
    """A sparse layer, the relative error of its weights, and how many experts saw no token."""

    layer: SparseMoE
    weight_error: float
    unseen: int


def prune_block(
    dense: DenseBlock,
    pruning: Pruning,
    inputs: Sequence[Array] | None = None,
    *,
    device: Device | None = None,
    progress: Progress | None = None,
) -> PrunedBlock:
    """The sparse layer of a dense block, on the block's device.

    `inputs` are batches [T, hidden] of the block's inputs, which methods other than magnitude need.
    Work is done on `device` (the block's own unless given), one expert at a time.
    """
    home, place = dense.device, torch.device(device or dense.device)
    total = dense.count + dense.folded
    chosen = None if inputs is None else [_chosen(dense, each) for each in inputs]
    ups: list[SparseWeight] = []
    downs: list[SparseWeight] = []
    sums = _Sums()
    for expert in range(total):
        rows = None
        if inputs is not None and chosen is not None and pruning.calibrated:
            rows = list(inputs)
            if expert < dense.count:
                mine = [x[(c == expert).any(1)] for x, c in zip(inputs, chosen, strict=True)]
                seen = any(len(each) for each in mine)
                sums.unseen += not seen
                rows = mine if seen else rows
        up, down = _prune_mlp(dense.mlp(expert), dense.activation, pruning, rows, place, sums)
        ups.append(up.torch(home))
        downs.append(down.torch(home))
        if progress is not None:
            progress(dense.name, expert + 1, total)
    experts = SparseExperts(
        stack_weights(ups),
        stack_weights(downs),
        count=dense.count,
        shared=dense.folded,
        activation=dense.activation,
    )
    shared = None
    if dense.lone:
        rows = None if inputs is None else list(inputs)
        pair = _prune_mlp(dense.shared_mlp(), dense.activation, pruning, rows, place, sums)
        shared = SparseMLP(*(w.torch(home) for w in pair), activation=dense.activation)
    return PrunedBlock(dense.sparse(experts, shared), sums.error, sums.unseen)


def _chosen(dense: DenseBlock, inputs: Array) -> Array:
    """Experts [T, top] to which the block's own router sends these inputs."""
    gate = dense.block.gate
    if not isinstance(gate, nn.Linear):
        return call_router(gate, inputs)[2]
    routing: Routing = dense.routing
    logits = logits_of(gate, inputs, dense.wide)
    return backend_of(inputs.device).route(routing, logits, None, None).experts


def _prune_mlp(
    mlp: Mlp,
    activation: str,
    pruning: Pruning,
    rows: Sequence[Array] | None,
    device: torch.device,
    sums: _Sums,
) -> tuple[SparseWeight, SparseWeight]:
    """Gate and up interleaved [2 inner, hidden] and down [hidden, inner] of one MLP, encoded.

    Down is calibrated with what the pruned gate and up give it.
    """
    gate, up, down = (each.to(device) for each in mlp)
    first = _calibration(pruning, gate.shape[1], device, rows)
    gate_w, up_w = (_encode(each, pruning, first) for each in (gate, up))
    gate_p, up_p = gate_w.decode(), up_w.decode()
    second = None
    if first is not None and rows is not None:
        second = _calibration(pruning, down.shape[1], device, ())
        assert second is not None
        for part in _parts(rows, device):
            wide = part.to(gate_p.dtype).to(torch.float32)
            gated = activate(activation, wide @ gate_p.to(torch.float32).T)
            second.update((gated * (wide @ up_p.to(torch.float32).T)).to(gate_p.dtype))
        if not bool(second.squares.any()):
            second = None
    down_w = _encode(down, pruning, second)
    for dense, pruned in ((gate, gate_p), (up, up_p), (down, down_w.decode())):
        sums.add(dense, pruned)
    return interleave_rows(gate_w, up_w, gate_block(pruning.format)), down_w


def _encode(weight: Array, pruning: Pruning, calibration: Calibration | None) -> SparseWeight:
    """The weight pruned and encoded; without calibration, by what `encode` itself chooses."""
    form = pruning.format
    numbers: dict[str, Any] = {"n": form.n, "m": form.m, "v": form.v, "dtype": pruning.dtype}
    if calibration is None:
        check_weight(weight)
        return encode(weight, **numbers)
    method, damping = pruning.method, pruning.damping
    pruned = prune(weight, method=method, calibration=calibration, damping=damping, **numbers)
    found = encode(pruned, **numbers)
    assert torch.equal(found.decode(), pruned), "a pruned weight is stored as it is"
    return found


def _calibration(
    pruning: Pruning, k: int, device: torch.device, rows: Sequence[Array] | None
) -> Calibration | None:
    if not pruning.calibrated or rows is None:
        return None
    found = Calibration(k, device=device, hessian=pruning.method == "second_order")
    for part in _parts(rows, device):
        found.update(part)
    return found


def _parts(rows: Sequence[Array], device: torch.device) -> Sequence[Array]:
    return [part.to(device) for each in rows for part in each.split(CHUNK) if len(part)]
