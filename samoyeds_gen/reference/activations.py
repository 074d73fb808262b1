"""Activations of the epilogue in float64, each with the facts its error bound needs.

Decides the formulas and hence what they give at infinity; kernels follow these.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samoyeds_gen.errors import LaunchError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Activation:
    """A function on float64 arrays, and the largest magnitude of its derivative."""

    apply: Callable[[Floats], Floats]
    slope: float


def silu(x: Floats) -> Floats:
    """x / (1 + exp(-x)); NaN at minus infinity, as the formula gives."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(x / (1 + np.exp(-x)))


def gelu(x: Floats) -> Floats:
    """x times the normal distribution function, the erf form; NaN at minus infinity."""
    arguments = (x * -math.sqrt(0.5)).ravel()
    tail = np.fromiter(map(math.erfc, arguments.tolist()), np.float64, arguments.size)
    with np.errstate(invalid="ignore"):
        return np.asarray(0.5 * x * tail.reshape(x.shape))


def gelu_tanh(x: Floats) -> Floats:
    """x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))); NaN at minus infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
        return np.asarray(0.5 * x * (1 + np.tanh(inner)))


def relu(x: Floats) -> Floats:
    """x where it is positive or NaN, else 0."""
    return np.maximum(x, 0.0)


ACTIVATIONS = {
    "silu": Activation(silu, 1.1),
    "gelu": Activation(gelu, 1.13),
    "gelu_tanh": Activation(gelu_tanh, 1.13),
    "relu": Activation(relu, 1.0),
}
IDENTITY = Activation(lambda x: x, 1.0)


def activation_of(name: str | None) -> Activation:
    """Return the activation called `name`, the identity for None; LaunchError for another name."""
    if name is None:
        return IDENTITY
    if name not in ACTIVATIONS:
        raise LaunchError(
            f"activation {name!r} is not one of {', '.join(ACTIVATIONS)}",
            remedy="pass one of these or None",
        )
    return ACTIVATIONS[name]
