"""Buckets: a size lies in one, near its name; distance is a metric."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samoyeds_gen.tune.buckets import bucket, bucket_of, distance, formats_apart

sizes = st.integers(1, 10**6)
shapes = st.tuples(sizes, sizes, sizes)


@given(sizes)
def test_a_bucket_is_named_by_its_largest_size_and_less_than_an_eighth_wide(size):
    name = bucket(size)
    assert size <= name
    assert bucket(name) == name
    assert name == 8 or name - size < max(8, size / 8)


@given(sizes, sizes)
def test_buckets_keep_the_order_of_sizes(left, right):
    assert (left <= right) <= (bucket(left) <= bucket(right))


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (1, 8),
        (8, 8),
        (9, 16),
        (64, 64),
        (65, 72),
        (256, 256),
        (257, 288),
        (4096, 4096),
        (5760, 6144),
    ],
)
def test_some_buckets(size, name):
    assert bucket(size) == name


@given(shapes, shapes, shapes)
def test_distance_is_a_metric(a, b, c):
    assert distance(a, b) == pytest.approx(distance(b, a))
    assert (distance(a, b) == 0) == (a == b)
    assert distance(a, c) <= distance(a, b) + distance(b, c) + 1e-9


@given(shapes)
def test_a_bucket_is_near_its_shapes(shape):
    large = tuple(max(64, size) for size in shape)
    assert distance(bucket_of(large), large) < 3 * 0.17


FORMATS = ("1,2,128", "1,2,32", "1,1,32", "4,8,32", "8,16,32", "1,2,256")


@pytest.mark.parametrize("left", FORMATS)
@pytest.mark.parametrize("right", FORMATS)
def test_formats_are_apart_by_an_octave_and_those_of_their_rows(left, right):
    apart = formats_apart(left, right)
    assert apart == formats_apart(right, left)
    assert (apart == 0) == (left == right)
    assert apart == 0 or apart >= 1


def test_some_formats():
    assert formats_apart("1,2,128", "1,2,32") == 1
    assert formats_apart("1,2,32", "4,8,32") == 3
    assert formats_apart("4,8,32", "8,16,32") == 2
