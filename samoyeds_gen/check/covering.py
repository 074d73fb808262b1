"""Small sets of combinations that still contain every pair of values (pairwise covering arrays).

Decides which rows are taken, the same ones every time; what the factors mean is the caller's.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations, product
from random import Random

Row = dict[str, Hashable]
Pair = tuple[str, Hashable, str, Hashable]

CANDIDATES = 48
"""Random rows looked at for each row that is taken."""


def covering(
    factors: Mapping[str, Sequence[Hashable]],
    *,
    legal: Callable[[Row], bool] = lambda row: True,
    given: Sequence[Row] = (),
    limit: int | None = None,
) -> list[Row]:
    """Rows, one value per factor, such that every legal pair of values occurs in one of them.

    `given` are partial rows that must occur; they are completed first, each with the values that
    cover the most pairs. `limit` stops after that many rows, all pairs covered or not. Partial rows
    and pairs for which no legal row is found are left out.
    """
    random = Random(0)
    missing = dict.fromkeys(_pairs_of(factors))
    rows: list[Row] = []
    fixed = list(given)
    while (fixed or missing) and (limit is None or len(rows) < limit):
        start = fixed.pop(0) if fixed else _as_row(next(iter(missing)))
        candidates = [row for row in _candidates(factors, start, random) if legal(row)]
        if candidates:
            rows.append(max(candidates, key=lambda row: sum(p in missing for p in _pairs(row))))
            for pair in _pairs(rows[-1]):
                missing.pop(pair, None)
        else:
            for pair in _pairs(start):
                missing.pop(pair, None)
    return rows


def _candidates(factors: Mapping[str, Sequence[Hashable]], start: Row, random: Random) -> list[Row]:
    return [
        {name: start.get(name, random.choice(values)) for name, values in factors.items()}
        for _ in range(CANDIDATES)
    ]


def _pairs_of(factors: Mapping[str, Sequence[Hashable]]) -> list[Pair]:
    return [
        (left, a, right, b)
        for left, right in combinations(factors, 2)
        for a, b in product(factors[left], factors[right])
    ]


def _pairs(row: Row) -> list[Pair]:
    return [(left, row[left], right, row[right]) for left, right in combinations(row, 2)]


def _as_row(pair: Pair) -> Row:
    return {pair[0]: pair[1], pair[2]: pair[3]}
