"""Shape buckets: which sizes share a tuned schedule; how far shapes, and formats, are apart."""

from functools import cache
from math import log2

from samoyeds_gen.formats import Format
from samoyeds_gen.tune.suites import Shape

SIGNIFICANT_BITS = 4
FRAGMENT_TOKENS = 8


def bucket(size: int) -> int:
    """A size rounded up to four significant bits: 4096 stays, 4097 becomes 4608.

    Sizes of one bucket differ by less than 1/8. Small sizes round up to 8, the least a matrix
    step takes.
    """
    size = max(size, FRAGMENT_TOKENS)
    step = 1 << max(3, size.bit_length() - SIGNIFICANT_BITS)
    return -(-size // step) * step


def bucket_of(shape: Shape) -> Shape:
    """The bucket of a shape, named by its largest sizes."""
    m, k, n = shape
    return bucket(m), bucket(k), bucket(n)


def distance(left: Shape, right: Shape) -> float:
    """How far two shapes are apart: the sum over m, k and n of the octaves between them."""
    return sum(abs(log2(a / b)) for a, b in zip(left, right, strict=True))


@cache
def formats_apart(left: str, right: str) -> float:
    """How far two formats, written n,m,v, are apart for schedules: none from itself, else one
    octave and those between their M, which decides how rows are folded.
    """
    if left == right:
        return 0.0
    return 1.0 + abs(log2(Format.parse(left).m / Format.parse(right).m))
