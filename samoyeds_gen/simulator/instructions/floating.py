"""Floating-point rows (PTX ISA, "Floating Point Instructions").

Round-to-nearest f32 is numpy's own; fma and the directed roundings go through float64 with the
error of the sum, so that the result is rounded once. Approximate functions return the correctly
rounded value, which is inside their documented error.
"""

from collections.abc import Callable

import numpy as np

from samoyeds_gen.simulator.rows import Function, Modifiers, Row, alu, alu_by
from samoyeds_gen.simulator.scalars import Array

_TINY = np.float32(2.0**-126)


def flush(a: Array) -> Array:
    """Subnormal float32 values to zeros of their sign."""
    return np.where(np.abs(a) < _TINY, np.copysign(np.float32(0), a), a)


def saturate(a: Array) -> Array:
    """Clamp to [0, 1]; NaN becomes 0."""
    return np.where(np.isnan(a), a.dtype.type(0), np.clip(a, 0, 1))


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """float64 sum and its exact error."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def round_odd(total: Array, error: Array) -> Array:
    """float64 with the low bit set where inexact, so that rounding it again to f32 is exact."""
    bits = total.view(np.int64)
    inexact = (error != 0) & np.isfinite(total)
    away = inexact & ((error < 0) != (total < 0)) & (total != 0)
    return np.where(inexact, (bits - away) | 1, bits).view(np.float64)


def fma32(a: Array, b: Array, c: Array) -> Array:
    """a * b + c, rounded once to float32: the product is exact in float64."""
    product = a.astype(np.float64) * b
    total = product + c
    # A second rounding differs only where the float64 lies half way, or is subnormal in float32.
    low = total.view(np.int64) & 0x1FFFFFFF
    if (low == 0x10000000).any() or ((np.abs(total) < 2.0**-125) & (total != 0)).any():
        total = round_odd(*two_sum(product, c.astype(np.float64)))
    return total.astype(np.float32)


def fma64(a: Array, b: Array, c: Array) -> Array:
    """a * b + c in float64 with the product's error added last: within one rounding of fma."""
    split = 134217729.0
    high_a, high_b = a * split, b * split
    high_a, high_b = high_a - (high_a - a), high_b - (high_b - b)
    low_a, low_b = a - high_a, b - high_b
    product = a * b
    error = ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b
    total, rest = two_sum(product, c)
    exact = total + (rest + error)
    return np.where(np.isfinite(exact), exact, product + c)


def directed(total: Array, error: Array, mode: str) -> Array:
    """float32 nearest to total + error that lies toward zero, minus or plus infinity."""
    single = total.astype(np.float32)
    beyond = single.astype(np.float64) - total
    # Sign of single minus the exact value.
    side = np.sign(np.where(beyond != 0, beyond, -error))
    up = np.nextafter(single, np.float32(np.inf))
    down = np.nextafter(single, np.float32(-np.inf))
    match mode:
        case "rm":
            result = np.where(side > 0, down, single)
        case "rp":
            result = np.where(side < 0, up, single)
        case _:
            away = side * np.where(total < 0, -1, 1) > 0
            result = np.where(away, np.where(total < 0, up, down), single)
    return np.where(np.isfinite(total), result, single)


def _directed_sum(a: Array, b: Array, mode: str) -> Array:
    total, error = two_sum(a, b)
    result = directed(total, error, mode)
    if mode == "rm":
        # An exact zero is negative unless both terms are +0 (IEEE 754, 6.3).
        result = np.where((total == 0) & (np.signbit(a) | np.signbit(b)), np.float32(-0.0), result)
    return result


def _sum_directed(mode: str) -> Function:
    return lambda a, b: _directed_sum(a.astype(np.float64), b.astype(np.float64), mode)


def _product_directed(mode: str) -> Function:
    def function(a: Array, b: Array) -> Array:
        product = a.astype(np.float64) * b
        return directed(product, np.zeros(1), mode)

    return function


def _fma_directed(mode: str) -> Function:
    def function(a: Array, b: Array, c: Array) -> Array:
        return _directed_sum(a.astype(np.float64) * b, c.astype(np.float64), mode)

    return function


def _quotient_directed(mode: str) -> Function:
    def function(a: Array, b: Array) -> Array:
        quotient = a.astype(np.float64) / b
        residue = a - quotient * b
        return directed(quotient, np.sign(residue) * np.sign(b) * np.abs(quotient) * 2**-54, mode)

    return function


def _root_directed(mode: str) -> Function:
    def function(a: Array) -> Array:
        wide = a.astype(np.float64)
        root = np.sqrt(wide)
        # The square of a float64 root may be inexact, but not that of its float32 neighbour.
        near = root.astype(np.float32).astype(np.float64)
        return directed(near, np.sign(wide - near * near) * near * 2**-54, mode)

    return function


def _quotient(a: Array, b: Array) -> Array:
    return (a.astype(np.float64) / b).astype(np.float32)


def _via_double(function: Callable[[Array], Array]) -> Function:
    return lambda a: function(a.astype(np.float64)).astype(np.float32)


def minimum(a: Array, b: Array) -> Array:
    """The number where one operand is NaN; -0 lies below +0."""
    return np.where((a == b) & np.signbit(a), a, np.fmin(a, b))


def maximum(a: Array, b: Array) -> Array:
    """The number where one operand is NaN; +0 lies above -0."""
    return np.where((a == b) & ~np.signbit(a), a, np.fmax(a, b))


NEAREST: dict[str, Function] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "fma": fma32,
    "mad": fma32,
    "div": _quotient,
    "rcp": _via_double(lambda a: 1 / a),
    "sqrt": np.sqrt,
    "rsqrt": _via_double(lambda a: 1 / np.sqrt(a)),
    "ex2": _via_double(np.exp2),
    "lg2": _via_double(np.log2),
    "sin": _via_double(np.sin),
    "cos": _via_double(np.cos),
    "tanh": _via_double(np.tanh),
    "min": minimum,
    "max": maximum,
    "abs": np.abs,
    "neg": np.negative,
}
_DIRECTED: dict[str, Callable[[str], Function]] = {
    "add": _sum_directed,
    "sub": lambda mode: lambda a, b: _sum_directed(mode)(a, -b),
    "mul": _product_directed,
    "fma": _fma_directed,
    "div": _quotient_directed,
    "sqrt": _root_directed,
    "rcp": lambda mode: lambda a: _quotient_directed(mode)(np.ones(1, np.float32), a),
}


def single(name: str) -> Callable[[Modifiers], Function]:
    """The f32 function of an opcode with its rounding, flush and saturation."""

    def choose(modifiers: Modifiers) -> Function:
        mode = modifiers.get("rnd", "rn")
        function = NEAREST[name] if mode == "rn" else _DIRECTED[name](mode)
        if "nan" in modifiers:
            function = {"min": np.minimum, "max": np.maximum}[name]
        if "ftz" not in modifiers and "sat" not in modifiers:
            return function

        def wrapped(*sources: Array) -> Array:
            if "ftz" in modifiers:
                result = flush(function(*map(flush, sources)))
            else:
                result = function(*sources)
            return saturate(result) if "sat" in modifiers else result

        return wrapped

    return choose


def _row(name: str, form: str, sources: int) -> Row:
    return alu_by(f"{name}{form}.f32", "f32 " * (sources + 1), single(name))


def _test(modifiers: Modifiers) -> Function:
    tests: dict[str, Function] = {
        "finite": np.isfinite,
        "infinite": np.isinf,
        "number": lambda a: ~np.isnan(a),
        "notanumber": np.isnan,
        "normal": lambda a: np.isfinite(a) & (np.abs(a) >= np.finfo(a.dtype).tiny),
        "subnormal": lambda a: (a != 0) & (np.abs(a) < np.finfo(a.dtype).tiny),
    }
    return tests[modifiers["kind"]]


def _pairs(function: Function) -> Function:
    """A function of f32 on the two halves of 64-bit words, as targets from sm_100 on have."""

    def run(*sources: Array) -> Array:
        halves = [np.ascontiguousarray(s).view(np.float32).reshape(-1, 2) for s in sources]
        return np.ascontiguousarray(function(*halves)).view(np.uint64).reshape(-1)

    return run


_ROUNDED = "[.<rnd:RND>][.<ftz:ftz>][.<sat:sat>]"
ROWS = (
    _row("add", _ROUNDED, 2),
    _row("sub", _ROUNDED, 2),
    _row("mul", _ROUNDED, 2),
    _row("fma", ".<rnd:RND>[.<ftz:ftz>][.<sat:sat>]", 3),
    _row("mad", "[.rn][.<ftz:ftz>][.<sat:sat>]", 3),
    _row("div", ".<rnd:RND>[.<ftz:ftz>]", 2),
    _row("div", ".<how:approx|full>[.<ftz:ftz>]", 2),
    _row("rcp", ".<rnd:RND>[.<ftz:ftz>]", 1),
    _row("rcp", ".approx[.<ftz:ftz>]", 1),
    _row("sqrt", ".<rnd:RND>[.<ftz:ftz>]", 1),
    _row("sqrt", ".approx[.<ftz:ftz>]", 1),
    _row("rsqrt", ".approx[.<ftz:ftz>]", 1),
    _row("ex2", ".approx[.<ftz:ftz>]", 1),
    _row("lg2", ".approx[.<ftz:ftz>]", 1),
    _row("sin", ".approx[.<ftz:ftz>]", 1),
    _row("cos", ".approx[.<ftz:ftz>]", 1),
    _row("tanh", ".approx", 1),
    _row("min", "[.<ftz:ftz>][.<nan:NaN>]", 2),
    _row("max", "[.<ftz:ftz>][.<nan:NaN>]", 2),
    _row("abs", "[.<ftz:ftz>]", 1),
    _row("neg", "[.<ftz:ftz>]", 1),
    alu("add.rn.f32x2", "b64 b64 b64", _pairs(np.add)),
    alu("sub.rn.f32x2", "b64 b64 b64", _pairs(np.subtract)),
    alu("mul.rn.f32x2", "b64 b64 b64", _pairs(np.multiply)),
    alu("fma.rn.f32x2", "b64 b64 b64 b64", _pairs(fma32)),
    alu("copysign.<t:f32|f64>", "t t t", lambda sign, a: np.copysign(a, sign)),
    alu_by(
        "testp.<kind:finite|infinite|number|notanumber|normal|subnormal>.<t:f32|f64>",
        "pred t",
        _test,
    ),
    alu("add[.rn].f64", "f64 f64 f64", np.add),
    alu("sub[.rn].f64", "f64 f64 f64", np.subtract),
    alu("mul[.rn].f64", "f64 f64 f64", np.multiply),
    alu("fma.rn.f64", "f64 f64 f64 f64", fma64),
    alu("div.rn.f64", "f64 f64 f64", np.divide),
    alu("rcp.<how:rn|approx.ftz>.f64", "f64 f64", lambda a: 1 / a),
    alu("sqrt.rn.f64", "f64 f64", np.sqrt),
    alu("rsqrt.approx[.ftz].f64", "f64 f64", lambda a: 1 / np.sqrt(a)),
    alu("min.f64", "f64 f64 f64", minimum),
    alu("max.f64", "f64 f64 f64", maximum),
    alu("abs.f64", "f64 f64", np.abs),
    alu("neg.f64", "f64 f64", np.negative),
)
