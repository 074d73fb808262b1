"""The benchmark suites: which shapes are timed together, and under which mean each one counts."""

from typing import Final

from samoyeds_gen.errors import TuneError

Shape = tuple[int, int, int]
"""(m, k, n): output features, input features, tokens."""

DECODE_WEIGHTS: Final = (
    (14336, 4096),
    (4096, 14336),
    (8192, 8192),
    (16384, 6144),
    (2048, 1408),
)
DECODE_TOKENS: Final = (1, 8, 16, 32, 64, 128, 256)
SMALLEST_WEIGHT: Final = (2048, 1408)

SUITES: Final[dict[str, tuple[Shape, ...]]] = {
    "mma": ((8192, 8192, 8192), (14336, 4096, 4096)),
    "paper": (
        (14336, 4096, 4096),
        (16384, 6144, 4096),
        (5760, 2304, 4096),
        (8192, 2048, 4096),
        (12288, 3072, 4096),
        (1408, 2048, 4096),
    ),
    "large": (
        (8192, 8192, 8192),
        (16384, 4096, 16384),
        (16384, 6144, 4096),
        (4096, 14336, 4096),
    ),
    "ragged": (  # tokens as they come, and sizes of models that are no powers of two
        (11008, 4096, 1000),
        (4096, 11008, 2500),
        (13824, 5120, 333),
        (5760, 2304, 777),
        (7000, 3000, 130),
        (28672, 8192, 50),
        (50257, 1600, 70),  # rows of the output do not begin at multiples of 16 bytes
    ),
    "decode": tuple((m, k, n) for m, k in DECODE_WEIGHTS for n in DECODE_TOKENS),
}

DECODE_LIMIT: Final = 256
"""Up to so many tokens a product is bound by its weight's bytes, so weights are rotated too."""


def suite_named(name: str) -> tuple[Shape, ...]:
    """The shapes of a suite. Raises TuneError naming the suites there are."""
    if name not in SUITES:
        names = ", ".join(SUITES)
        raise TuneError(f"suite {name!r} is not one of {names}", remedy=f"use one of {names}")
    return SUITES[name]


def group_of(suite: str, shape: Shape) -> str:
    """The geometric mean that a shape of a suite counts under.

    Decode is split by how many tokens there are, because the limit moves from bytes to matrix work,
    and its smallest weight stands alone, because launches outweigh it.
    """
    m, k, n = shape
    if suite != "decode":
        return suite
    if (m, k) == SMALLEST_WEIGHT:
        return f"decode {m} x {k}"
    return "decode n <= 16" if n <= 16 else "decode n 17..64" if n <= 64 else "decode n > 64"
