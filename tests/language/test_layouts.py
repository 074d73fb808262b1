"""Swizzles: laws over all offsets rather than examples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samoyeds_gen.errors import ScheduleError
from samoyeds_gen.language.layouts import (
    CHUNK,
    LINEAR,
    SWIZZLES,
    swizzle_for_row,
    swizzle_named,
)

PERMUTING = [each for each in SWIZZLES if each.bits]
SIXTEEN_ROWS = 16 * 256
offsets = st.integers(0, 1 << 16)
swizzles = st.sampled_from(SWIZZLES)


@pytest.mark.parametrize("swizzle", SWIZZLES, ids=lambda each: each.name)
def test_bijection_that_is_its_own_inverse(swizzle):
    image = [swizzle(offset) for offset in range(SIXTEEN_ROWS)]
    assert sorted(image) == list(range(SIXTEEN_ROWS))
    assert [swizzle(offset) for offset in image] == list(range(SIXTEEN_ROWS))


@given(swizzles, offsets)
def test_chunks_stay_whole_and_in_their_row(swizzle, offset):
    assert swizzle(offset) % CHUNK == offset % CHUNK
    assert swizzle(offset) - offset % CHUNK == swizzle(offset - offset % CHUNK)
    if swizzle.bits:
        assert swizzle(offset) // swizzle.row_bytes == offset // swizzle.row_bytes


@given(st.sampled_from(PERMUTING), offsets, st.integers(0, 15), st.integers(0, 64))
def test_kernels_may_add_eight_rows_and_flip_chunks_outside_the_swizzle(
    swizzle, start, chunk, rows
):
    row, inside = divmod(start, swizzle.row_bytes)
    flip = chunk * CHUNK % swizzle.row_bytes
    step = 8 * rows * swizzle.row_bytes
    assert swizzle(start + step) == swizzle(start) + step
    assert swizzle(row * swizzle.row_bytes + (inside ^ flip)) == swizzle(start) ^ flip


@pytest.mark.parametrize("swizzle", PERMUTING, ids=lambda each: each.name)
def test_eight_rows_of_one_chunk_meet_eight_bank_groups(swizzle):
    for chunk in range(swizzle.row_bytes // CHUNK):
        for first in range(0, 64, 8):
            assert swizzle.wavefronts(swizzle.row_bytes, chunk, first) == 1


@pytest.mark.parametrize(("row_bytes", "degree"), [(32, 2), (64, 4), (128, 8), (256, 8)])
def test_without_a_swizzle_they_meet_fewer(row_bytes, degree):
    assert LINEAR.wavefronts(row_bytes, 0) == degree


@given(swizzles, st.sampled_from([32, 64, 128, 256]), st.integers(0, 15), st.integers(0, 8))
def test_wavefronts_count_the_busiest_bank_group(swizzle, row_bytes, chunk, octet):
    """A phase of ldmatrix takes as many passes as the most rows that share four banks."""
    hits = [0] * 32
    for row in range(8 * octet, 8 * octet + 8):
        place = swizzle(row * row_bytes + chunk * CHUNK % row_bytes)
        for byte in range(0, CHUNK, 4):
            hits[(place + byte) // 4 % 32] += 1
    assert swizzle.wavefronts(row_bytes, chunk * CHUNK % row_bytes // CHUNK, 8 * octet) == max(hits)


@pytest.mark.parametrize("row_bytes", [32, 64, 128, 256])
def test_the_swizzle_of_a_row_is_the_one_without_conflicts(row_bytes):
    swizzle = swizzle_for_row(row_bytes)
    assert swizzle.row_bytes == row_bytes
    assert swizzle_named(swizzle.name) is swizzle


@pytest.mark.parametrize("row_bytes", [0, 16, 48, 512])
def test_rows_without_a_swizzle_are_refused(row_bytes):
    with pytest.raises(ScheduleError) as caught:
        swizzle_for_row(row_bytes)
    expected = f"swizzle: no swizzle is defined for rows of {row_bytes} bytes; "
    assert str(caught.value).startswith(expected)
