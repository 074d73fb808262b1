"""The algorithms: what is computed, free of every word about how.

`ssmm` is the sub-row sparse matrix product of Samoyeds (EuroSys'25, section 4): routed tokens
times an (N, M, V) weight, output token-major and only for the selected tokens.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from samoyeds_gen.errors import ScheduleError
from samoyeds_gen.formats import Format
from samoyeds_gen.language.dtypes import DType, dtype_named

Activation = Literal["relu", "silu", "gelu", "gelu_tanh"]
ACTIVATIONS: tuple[Activation, ...] = ("relu", "silu", "gelu", "gelu_tanh")
IndexType = Literal["int32", "int64"]


@dataclass(frozen=True, slots=True)
class Ssmm:
    """One concrete `ssmm`: out[i] = round(scale[i] * act(weight @ tokens[selection[i]] + bias)).

    weight [m, k] in `format` and `dtype`; tokens [T, k] in `dtype`; out [n, m] in `out_dtype`;
    bias [m] and scale [n] float32. `index` is the dtype of `selection` [n], None to take the
    tokens in order.

    `grouped`: the weight is that of several experts, [experts * m, k], and the rows of out from
    offsets[e] to offsets[e + 1] are products with expert e's. `gated`: every other 8 rows of the
    matrix unit are a gate, and out = round(scale[i] * act(gate) * up) has m / 2 features (the
    SwiGLU of a Mixture-of-Experts layer; bias is then not taken).
    """

    algorithm: ClassVar[str] = "ssmm"

    format: Format
    dtype: DType
    out_dtype: DType
    index: IndexType | None = None
    bias: bool = False
    activation: Activation | None = None
    scale: bool = False
    grouped: bool = False
    gated: bool = False

    @property
    def suffix(self) -> str:
        """What tells this variant from its siblings, for kernel names."""
        f = self.format
        parts = [f"{f.n}_{f.m}_{f.v}", self.dtype.short]
        parts += [f"to_{self.out_dtype.short}"] if self.out_dtype != self.dtype else []
        parts += [f"sel{self.index[3:]}"] if self.index else []
        parts += ["bias"] if self.bias else []
        parts += [self.activation] if self.activation else []
        parts += ["scale"] if self.scale else []
        parts += ["gated"] if self.gated else []
        parts += ["grouped"] if self.grouped else []
        return "_".join(parts)


@dataclass(frozen=True, slots=True)
class Operand:
    """A name a schedule's directives can point at, such as `weight.metadata`."""

    name: str


@dataclass(frozen=True, slots=True)
class WeightOperand:
    """The weight as a schedule sees it: its format and dtype, and its parts."""

    format: Format
    dtype: DType
    name: str = "weight"
    data: Operand = Operand("weight.data")
    metadata: Operand = Operand("weight.metadata")


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A named computation and the operands a schedule of it is handed, in order."""

    name: str
    operands: tuple[str, ...]


ssmm = Algorithm("ssmm", ("weight", "tokens", "out"))
ALGORITHMS = (ssmm,)


def make_ssmm(
    format: Format,
    dtype: str,
    *,
    out_dtype: str | None = None,
    index: IndexType | None = None,
    bias: bool = False,
    activation: str | None = None,
    scale: bool = False,
    grouped: bool = False,
    gated: bool = False,
) -> Ssmm:
    """Build a checked `Ssmm` from names.

    Raises `ScheduleError` for an unknown name, and for a gate without an activation or with a bias.
    """
    if activation is not None and activation not in ACTIVATIONS:
        names = ", ".join(ACTIVATIONS)
        raise ScheduleError(
            f"activation {activation!r} is not one of {names}",
            rule="activation",
            remedy=f"use None or one of {names}",
        )
    if gated and (activation is None or bias):
        raise ScheduleError(
            "a gated product needs an activation and takes no bias",
            rule="activation",
            remedy="name the gate's activation, such as 'silu', and leave the bias out",
        )
    operand = dtype_named(dtype, operand=True)
    output = operand if out_dtype is None else dtype_named(out_dtype)
    return Ssmm(format, operand, output, index, bias, activation, scale, grouped, gated)
