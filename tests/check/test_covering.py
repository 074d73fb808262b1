"""Covering sets contain every legal pair, every given row, and are small."""

from itertools import combinations, product

from hypothesis import given
from hypothesis import strategies as st

from samoyeds_gen.check.covering import covering

FACTORS = st.dictionaries(
    st.sampled_from("abcde"),
    st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True),
    min_size=2,
)


def pairs(factors):
    return {
        (left, a, right, b)
        for left, right in combinations(factors, 2)
        for a, b in product(factors[left], factors[right])
    }


def covered(rows):
    return {
        (left, row[left], right, row[right]) for row in rows for left, right in combinations(row, 2)
    }


@given(FACTORS)
def test_every_pair_occurs(factors):
    rows = covering(factors)
    assert covered(rows) == pairs(factors)
    sizes = sorted((len(values) for values in factors.values()), reverse=True)
    assert sizes[0] * sizes[1] <= len(rows) <= 2 * sizes[0] * sizes[1] + 2


@given(FACTORS)
def test_the_same_rows_every_time(factors):
    assert covering(factors) == covering(factors)


@given(FACTORS, st.data())
def test_illegal_rows_are_never_taken(factors, data):
    first, *_ = factors
    banned = data.draw(st.sampled_from(factors[first]))
    rows = covering(factors, legal=lambda row: row[first] != banned)
    assert all(row[first] != banned for row in rows)
    allowed = {**factors, first: [each for each in factors[first] if each != banned]}
    assert covered(rows) == (pairs(allowed) if allowed[first] else set())


@given(FACTORS)
def test_given_rows_come_first_and_limit_is_kept(factors):
    name = next(iter(factors))
    start = [{name: value} for value in factors[name]]
    rows = covering(factors, given=start, limit=len(start))
    assert [row[name] for row in rows] == list(factors[name])
