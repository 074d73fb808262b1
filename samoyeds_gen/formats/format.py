"""The (N, M, V) format as a value: how many sub-rows are kept, and how shapes follow from it.

Decides legality of the three numbers and the derived shapes; knows nothing about arrays.
"""

import operator
from dataclasses import dataclass

from samoyeds_gen.errors import FormatError

LARGEST_M = 16
V_STEP = 16


@dataclass(frozen=True, slots=True, order=True)
class Format:
    """Samoyeds (N, M, V): of every block of M rows by V columns, N sub-rows are kept, 2:4 inside.

    `1 <= n <= m <= 16`; `v` is a positive multiple of 16. `n == m` is plain 2:4. Raises FormatError
    for anything else. `str(format)` is "n,m,v" and `Format.parse` reads it back. (Samoyeds,
    EuroSys'25, section 4.1.)
    """

    n: int
    m: int
    v: int

    def __post_init__(self) -> None:
        for name in ("n", "m", "v"):
            object.__setattr__(self, name, _integer(name, getattr(self, name)))
        if not 1 <= self.n <= self.m <= LARGEST_M:
            raise FormatError(
                f"format {self} keeps {self.n} of {self.m} sub-rows, "
                f"but 1 <= n <= m <= {LARGEST_M} is required",
                remedy="choose n and m in that range, for example 1,2,64",
            )
        if self.v < V_STEP or self.v % V_STEP:
            raise FormatError(
                f"format {self} has sub-rows of {self.v} columns, "
                f"but v must be a positive multiple of {V_STEP}",
                remedy="choose v = 16, 32, 64 or 128",
            )

    @classmethod
    def parse(cls, text: str) -> "Format":
        """Read "n,m,v" (spaces allowed) back into a Format; FormatError for any other text."""
        try:
            n, m, v = (int(part) for part in text.split(","))
        except (ValueError, AttributeError):
            raise FormatError(
                f"format {text!r} is not three integers n,m,v", remedy="write it as 1,2,64"
            ) from None
        return cls(n, m, v)

    def __str__(self) -> str:
        return f"{self.n},{self.m},{self.v}"

    @property
    def density(self) -> float:
        """Share of stored entries: n/m/2."""
        return self.n / self.m / 2

    @property
    def plain(self) -> bool:
        """True for plain 2:4, where every sub-row is kept and no indices are stored."""
        return self.n == self.m

    def blocks(self, k: int) -> int:
        """Number of V-blocks along `k` input features: ceil(k / v)."""
        return -(-k // self.v)

    def padded_k(self, k: int) -> int:
        """`k` rounded up to whole V-blocks."""
        return self.blocks(k) * self.v

    def bands(self, m: int) -> int:
        """Number of bands of M rows along `m` output features: ceil(m / M)."""
        return -(-m // self.m)

    def stored_rows(self, m: int) -> int:
        """Number of stored rows of a weight with `m` output features: ceil(m / M) * n."""
        return self.bands(m) * self.n


def _integer(name: str, value: object) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise FormatError(
            f"{name}={value!r} is not an integer", remedy="pass n, m and v as integers"
        ) from None
