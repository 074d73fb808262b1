"""Modules for a linear layer and for an MLP on Samoyeds weights, and what every layer refuses.

Decides which inputs a layer takes; types and sums are the backend's.
"""

import torch
from torch import nn

from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats import SparseWeight, deinterleave_rows, gate_block, interleave_rows
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.moe import ops
from samoyeds_gen.moe.backend import backend_of
from samoyeds_gen.moe.stored import KeepsTypes, StoredWeight

ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "relu")
FLOATS = (torch.float32, torch.float16, torch.bfloat16)


class SparseLinear(KeepsTypes):
    """y = x W^T + bias for x [..., k] of float32, float16 or bfloat16 -> [..., m] of x's type.

    `weight` is a SparseWeight [m, k] (numpy or torch), `bias` a float tensor [m] or None, kept as
    float32. x is rounded to the weight's type, and so is y before it becomes x's type again. For
    inference: an input that requires a gradient is refused with a ModelError.
    """

    def __init__(self, weight: SparseWeight, bias: Array | None = None) -> None:
        super().__init__()
        self.weight = StoredWeight(weight)
        m = weight.shape[0]
        if bias is not None and tuple(bias.shape) != (m,):
            raise ModelError(
                f"the bias has shape {list(bias.shape)}, but [{m}] is required",
                remedy="pass the bias of the same layer",
            )
        given = None if bias is None else bias.detach().to(torch.float32)
        self.register_buffer("bias", given)

    def forward(self, x: Array) -> Array:
        """See the class."""
        stored = self.weight
        tokens = rows_of(x, stored.shape[1], stored.data)
        if ops.traced(tokens):
            y = ops.linear_op(tokens, stored.data, stored.numbers(), self.bias)
        else:
            backend = backend_of(tokens.device)
            y = backend.multiply(stored.sparse(), tokens, bias=self.bias)
        return like(y, x)


class SparseMLP(KeepsTypes):
    """down(activation(gate x) * up x), or down(activation(up x)) when not gated.

    Takes x [..., k] of float32, float16 or bfloat16 and returns x's shape and type. `up` is a
    SparseWeight [2 I, k] that `interleave_rows` made with `gate_block` rows, or [I, k] when not
    gated; `down` is [k, I]. `activation` is "silu", "gelu" (erf), "gelu_tanh" or "relu".
    """

    def __init__(
        self,
        up: SparseWeight,
        down: SparseWeight,
        *,
        activation: str = "silu",
        gated: bool = True,
    ) -> None:
        super().__init__()
        check_pair(up, down, 1, activation, gated)
        self.activation = activation
        self.gated = gated
        self.up_proj = StoredWeight(up)
        self.down_proj = StoredWeight(down)

    @classmethod
    def of(
        cls,
        gate: SparseWeight,
        up: SparseWeight,
        down: SparseWeight,
        *,
        activation: str = "silu",
    ) -> "SparseMLP":
        """A gated MLP of three weights: gate and up [I, k], down [k, I]."""
        return cls(interleave_rows(gate, up, gate_block(gate.format)), down, activation=activation)

    def forward(self, x: Array) -> Array:
        """See the class."""
        up, down = self.up_proj, self.down_proj
        tokens = rows_of(x, up.shape[1], up.data)
        if ops.traced(tokens):
            ends = (up.data, up.numbers(), down.data, down.numbers())
            y = ops.mlp_op(tokens, *ends, self.activation, self.gated)
        else:
            backend = backend_of(tokens.device)
            y = backend.mlp(tokens, *both_weights(self), self.activation, self.gated)
        return like(y, x)

    def dense(self) -> tuple[Array | None, Array, Array]:
        """Gate (None when not gated) and up [I, k], and down [k, I], decoded."""
        return dense_mlp(*both_weights(self), self.gated)

    def extra_repr(self) -> str:
        """What print(model) says."""
        return f"{self.activation}, gated={self.gated}"


def both_weights(layer: nn.Module) -> tuple[SparseWeight, SparseWeight]:
    """The weights of a module's `up_proj` and `down_proj`, which are StoredWeights."""
    parts = layer._modules  # an attribute that is a module takes its time to find
    return parts["up_proj"].sparse(), parts["down_proj"].sparse()


def dense_mlp(
    up: SparseWeight, down: SparseWeight, gated: bool
) -> tuple[Array | None, Array, Array]:
    """Gate (None when not gated) and up [I, k], and down [k, I] of one MLP, decoded."""
    if not gated:
        return None, up.decode(), down.decode()
    halves = deinterleave_rows(up, gate_block(up.format))
    return halves[0].decode(), halves[1].decode(), down.decode()


def check_pair(
    up: SparseWeight, down: SparseWeight, experts: int, activation: str, gated: bool
) -> None:
    """Raise ModelError unless `up` and `down` are the two weights of `experts` stacked MLPs."""
    if activation not in ACTIVATIONS:
        raise ModelError(
            f"activation {activation!r} is not one of {', '.join(ACTIVATIONS)}",
            remedy="keep this layer dense",
        )
    if (up.format, up.dtype) != (down.format, down.dtype):
        raise ModelError(
            f"up is ({up.format}) {up.dtype} and down ({down.format}) {down.dtype}, but one format "
            "and dtype are required",
            remedy="encode them alike",
        )
    if experts < 1 or up.shape[0] % experts or down.shape[0] % experts:
        raise ModelError(
            f"up of {up.shape[0]} rows and down of {down.shape[0]} are not the weights of "
            f"{experts} experts",
            remedy="stack the weights of all experts with stack_weights",
        )
    rows, hidden = up.shape[0] // experts, up.shape[1]
    width = rows // 2 if gated else rows
    if (down.shape[0] // experts, down.shape[1]) != (hidden, width):
        raise ModelError(
            f"an expert's down is {down.shape[0] // experts}x{down.shape[1]}, but its up "
            f"{rows}x{hidden} needs {hidden}x{width}",
            remedy="pass the two weights of one MLP, and gated=True where up holds gate and up",
        )
    block = gate_block(up.format) if gated else up.format.m
    if width % block or hidden % down.format.m:
        raise ModelError(
            f"{width} intermediate and {hidden} hidden features cannot be stacked, but multiples "
            f"of {block} and {down.format.m} are required by the format {up.format}",
            remedy="choose a format with a smaller M",
        )


def rows_of(x: Array, k: int, data: Array) -> Array:
    """x [..., k] as contiguous rows [T, k] of the type of the weight's `data`; ModelError else."""
    if not isinstance(x, torch.Tensor):
        raise ModelError(
            f"the input is a {type(x).__name__}, but a torch tensor is required",
            remedy="pass torch.as_tensor(x)",
        )
    if x.dtype not in FLOATS:
        raise ModelError(
            f"the input has dtype {x.dtype}, but float32, float16 or bfloat16 is required",
            remedy="convert it",
        )
    if x.ndim < 1 or x.shape[-1] != k:
        raise ModelError(
            f"the input has shape {list(x.shape)}, but [..., {k}] is required",
            remedy="pass what the dense layer takes",
        )
    if x.device != data.device:
        raise ModelError(
            f"the input is on {x.device}, but the layer is on {data.device}",
            remedy="move one of them",
        )
    refuse_training("the input", x)
    rows = x if x.ndim == 2 else x.reshape(-1, k)
    if rows.dtype != data.dtype:
        rows = rows.to(data.dtype)
    return rows if rows.is_contiguous() else rows.contiguous()


def refuse_training(what: str, x: Array) -> None:
    """Raise ModelError for a tensor whose gradient a call would silently lose."""
    if x.requires_grad and torch.is_grad_enabled():
        raise ModelError(
            f"{what} requires a gradient, but Samoyeds layers have no backward pass",
            remedy="call the model under torch.no_grad(), and train before sparsifying",
        )


def like(y: Array, x: Array) -> Array:
    """y [T, m] in the type of the layer's input x [..., k], and with its leading axes."""
    if y.dtype != x.dtype:
        y = y.to(x.dtype)
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], y.shape[-1])
