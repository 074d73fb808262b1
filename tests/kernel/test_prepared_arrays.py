"""Where the intermediate arrays of prepared launches lie: never over one that is still read."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from samoyeds_gen.kernel.prepared import ALIGNMENT, BYTES, Arrays

SIZES = st.lists(
    st.tuples(st.integers(0, 1000), st.sampled_from(sorted(BYTES)), st.integers(-1, 6)),
    min_size=1,
    max_size=7,
)


@given(SIZES)
def test_arrays_lie_apart_but_for_those_over_another(sizes):
    """An array that is said to lie over an earlier one does so where it fits, else apart."""
    arrays, spans, over = Arrays(), [], {}
    for number, (elements, dtype, other) in enumerate(sizes):
        arrays.add(str(number), elements, dtype, over=str(other))
        begin = arrays.offsets[str(number)]
        spans.append((begin, begin + elements * BYTES[dtype]))
        assert begin % ALIGNMENT == 0
        assert spans[-1][1] <= arrays.bytes
        if 0 <= other < number:
            padded = -(-(spans[other][1] - spans[other][0]) // ALIGNMENT) * ALIGNMENT
            if spans[-1][1] - begin <= padded:
                over[number] = over.get(other, other)
    for one, two in combinations(range(len(sizes)), 2):
        if over.get(one, one) == over.get(two, two):
            assert spans[one][0] == spans[two][0]
        else:
            empty = spans[one][0] == spans[one][1] or spans[two][0] == spans[two][1]
            apart = spans[one][1] <= spans[two][0] or spans[two][1] <= spans[one][0]
            assert apart or empty


def test_a_part_of_an_array_has_a_name():
    arrays = Arrays()
    arrays.add("first", 3, "float32")
    arrays.add("rows", 100, "bfloat16")
    arrays.name_part("own", "rows", 24, "bfloat16")
    assert arrays.offsets["own"] == arrays.offsets["rows"] + 48
    assert arrays.bytes == 2 * ALIGNMENT
