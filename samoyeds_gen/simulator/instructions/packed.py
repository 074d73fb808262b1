"""f16, bf16 and their packed pairs (PTX ISA, "Half Precision Floating Point Instructions").

Computed in float32 or, for fma, float64, and rounded once to the narrow type.
"""

from collections.abc import Callable

import numpy as np

from samoyeds_gen.simulator.instructions.floating import (
    maximum,
    minimum,
    round_odd,
    saturate,
    two_sum,
)
from samoyeds_gen.simulator.rows import Function, Modifiers, Row, alu_by
from samoyeds_gen.simulator.scalars import Array, narrow, widen


def _fma(a: Array, b: Array, c: Array) -> Array:
    product = a.astype(np.float64) * b
    return round_odd(*two_sum(product, c.astype(np.float64)))


def _double(function: Function) -> Function:
    return lambda a: function(a.astype(np.float64))


_FUNCTIONS: dict[str, Function] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "fma": _fma,
    "min": minimum,
    "max": maximum,
    "ex2": _double(np.exp2),
    "tanh": _double(np.tanh),
}


def _after(function: Function, last: Function) -> Function:
    return lambda *sources: last(function(*sources))


def _words(function: Function, element: str) -> Function:
    """The function on uint16 words of `element`."""

    def run(*sources: Array) -> Array:
        return narrow(function(*(widen(source, element) for source in sources)), element)

    return run


def pairs(function: Function) -> Function:
    """A function of uint16 words on the two halves of uint32 registers."""

    def run(*sources: Array) -> Array:
        halves = [np.ascontiguousarray(s).view(np.uint16).reshape(-1, 2) for s in sources]
        return np.ascontiguousarray(function(*halves)).view(np.uint32).reshape(-1)

    return run


def _choose(name: str) -> Callable[[Modifiers], Function]:
    def choose(modifiers: Modifiers) -> Function:
        type_ = modifiers["t"]
        element = type_.removesuffix("x2")
        function = _FUNCTIONS[name]
        if "nan" in modifiers:
            function = {"min": np.minimum, "max": np.maximum}[name]
        if "sat" in modifiers:
            function = _after(function, saturate)
        if "relu" in modifiers:
            function = _after(function, lambda a: np.maximum(a, 0))
        words = _words(function, element)
        return pairs(words) if type_.endswith("x2") else words

    return choose


def _sign(name: str) -> Callable[[Modifiers], Function]:
    """abs and neg touch the sign bits only."""

    def choose(modifiers: Modifiers) -> Function:
        bits = 0x80008000 if modifiers["t"].endswith("x2") else 0x8000
        if name == "abs":
            return lambda a: a & a.dtype.type(0x7FFF7FFF if bits > 0x8000 else 0x7FFF)
        return lambda a: a ^ a.dtype.type(bits)

    return choose


_ANY = "<t:f16|bf16|f16x2|bf16x2>"


def _row(name: str, form: str, sources: int) -> Row:
    return alu_by(f"{name}{form}.{_ANY}", "t " * (sources + 1), _choose(name))


ROWS = (
    _row("add", "[.rn][.ftz][.<sat:sat>]", 2),
    _row("sub", "[.rn][.ftz][.<sat:sat>]", 2),
    _row("mul", "[.rn][.ftz][.<sat:sat>]", 2),
    _row("fma", ".rn[.ftz][.<sat:sat>][.<relu:relu>]", 3),
    _row("min", "[.ftz][.<nan:NaN>]", 2),
    _row("max", "[.ftz][.<nan:NaN>]", 2),
    _row("ex2", ".approx[.ftz]", 1),
    _row("tanh", ".approx", 1),
    alu_by(f"abs[.ftz].{_ANY}", "t t", _sign("abs")),
    alu_by(f"neg[.ftz].{_ANY}", "t t", _sign("neg")),
)
