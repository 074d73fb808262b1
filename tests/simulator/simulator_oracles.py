"""What instructions must compute, one number at a time, in Python's exact arithmetic."""

import math
import struct
from fractions import Fraction

# Precision in bits and the exponent of the smallest normal number.
FORMATS = {"f16": (11, -14, 5), "bf16": (8, -126, 8), "f32": (24, -126, 8), "f64": (53, -1022, 11)}


def signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def unsigned(value: int, bits: int) -> int:
    return value & ((1 << bits) - 1)


def value_of(word: int, kind: str) -> float:
    """The number a word stands for."""
    if kind == "f64":
        return struct.unpack("<d", struct.pack("<Q", word))[0]
    if kind == "f16":
        return struct.unpack("<e", struct.pack("<H", word))[0]
    return struct.unpack("<f", struct.pack("<I", word << 16 if kind == "bf16" else word))[0]


def encode(value: Fraction | float, kind: str, mode: str = "rn", *, negative_zero=False) -> int:
    """The word of `kind` that `value` rounds to: rn, rna, rz, rm or rp."""
    precision, low, exponent_bits = FORMATS[kind]
    sign_bit = precision - 1 + exponent_bits
    infinity = ((1 << exponent_bits) - 1) << (precision - 1)
    if isinstance(value, float):
        if math.isnan(value):
            return infinity | 1 << (precision - 2)
        negative_zero = negative_zero or (value == 0 and math.copysign(1, value) < 0)
        if math.isinf(value):
            return infinity | (value < 0) << sign_bit
        value = Fraction(value)
    negative = value < 0 or (value == 0 and negative_zero)
    magnitude = abs(value)
    if magnitude == 0:
        return negative << sign_bit
    exponent = max(_exponent(magnitude), low)
    scaled = magnitude / Fraction(2) ** (exponent - precision + 1)
    whole, rest = divmod(scaled, 1)
    whole = int(whole) + _round_up(int(whole), rest, mode, negative)
    if whole >= 1 << precision:
        whole, exponent = whole >> 1, exponent + 1
    biased = exponent - low + 1 if whole >> (precision - 1) else 0
    if biased >= (1 << exponent_bits) - 1:
        toward_zero = mode == "rz" or ((mode == "rm") != negative and mode in ("rm", "rp"))
        word = infinity - 1 if toward_zero else infinity
    else:
        word = (biased << (precision - 1)) | (whole & ((1 << (precision - 1)) - 1))
    return word | negative << sign_bit


def _exponent(magnitude: Fraction) -> int:
    guess = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    return guess if magnitude >= Fraction(2) ** guess else guess - 1


def _round_up(whole: int, rest: Fraction, mode: str, negative: bool) -> bool:
    half = Fraction(1, 2)
    return {
        "rn": rest > half or (rest == half and whole % 2 == 1),
        "rna": rest >= half,
        "rz": False,
        "rm": negative and rest > 0,
        "rp": not negative and rest > 0,
    }[mode]
