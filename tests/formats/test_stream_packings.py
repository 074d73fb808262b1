"""Packings of the stream against oracles that place one value or one nibble at a time."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weight_cases import weights

from samoyeds_gen.errors import FormatError
from samoyeds_gen.formats import (
    Format,
    encode,
    fragment_data,
    fragment_metadata,
    offset_columns,
    paired_metadata,
    row_offsets,
)

ROWS16 = st.sampled_from([16, 32, 48])
K128 = st.sampled_from([128, 256])
EXAMPLES = settings(deadline=None, max_examples=30)


def up(size, multiple):
    return math.ceil(size / multiple) * multiple


def stored_value(w, row, column):
    """Bits of a stored value; 0 outside. `column` counts stored values, two of every four."""
    bits = np.ascontiguousarray(w.data).view(np.uint16)
    inside = row < bits.shape[0] and column < bits.shape[1]
    return int(bits[row, column]) if inside else 0


@EXAMPLES
@given(w=weights(), multiple=ROWS16, k_multiple=st.sampled_from([32, 128]))
def test_fragment_data_holds_each_lanes_registers(w, multiple, k_multiple):
    got = fragment_data(w, row_multiple=multiple, k_multiple=k_multiple)
    rows, k = up(w.data.shape[0], multiple), up(2 * w.data.shape[1], k_multiple)
    assert (got.dtype, got.shape) == (np.uint32, (rows // 16, k // 32, 32, 4))
    for f, s, lane, i in np.ndindex(*got.shape):
        row = 16 * f + lane // 4 + 8 * (i % 2)
        column = 16 * s + 8 * (i // 2) + 2 * (lane % 4)
        low, high = stored_value(w, row, column), stored_value(w, row, column + 1)
        assert got[f, s, lane, i] == low | high << 16


@EXAMPLES
@given(w=weights(), multiple=ROWS16, k_multiple=K128)
def test_paired_metadata_is_fragment_metadata_two_words_together(w, multiple, k_multiple):
    pairs = paired_metadata(w, row_multiple=multiple, k_multiple=k_multiple)
    words = fragment_metadata(w, rows="stored", row_multiple=multiple, k_multiple=k_multiple)
    assert pairs.shape == (words.shape[0], words.shape[1] // 2, 32, 2)
    for chunk in range(words.shape[1]):
        assert np.array_equal(pairs[:, chunk // 2, :, chunk % 2], words[:, chunk])


@given(st.integers(1, 40))
def test_an_offset_never_covers_two_blocks(sixteens):
    v = 16 * sixteens
    unit = offset_columns(v)
    assert v % unit == 0
    assert unit in (16, 32, 64, 128)
    assert unit == 128 or v // unit % 2, "no wider unit fits"


@EXAMPLES
@given(w=weights(), multiple=ROWS16, k_multiple=K128)
def test_row_offsets_lead_from_the_stored_row_to_the_output_row(w, multiple, k_multiple):
    form = w.format
    got = row_offsets(w, row_multiple=multiple, k_multiple=k_multiple)
    unit, stored = offset_columns(form.v), w.data.shape[0]
    words = math.ceil(up(up(w.shape[1], form.v), k_multiple) / (8 * unit))
    assert (got.dtype, got.shape) == (np.uint32, (up(stored, multiple) // 16, words, 8, 2))
    for f, i, g, half in np.ndindex(*got.shape):
        row = 16 * f + g + 8 * half
        for e in range(8):
            block = (8 * i + e) * unit // form.v
            offset = int(got[f, i, g, half]) >> 4 * e & 15
            if row < stored and block < form.blocks(w.shape[1]):
                assert row % form.n + offset == w.positions[row, block]
                assert offset <= form.m - form.n
            else:
                assert offset == 0


@pytest.mark.parametrize("pack", [fragment_data, paired_metadata, row_offsets])
@pytest.mark.parametrize(("rows", "k"), [(8, 128), (0, 128), (16, 16), (16, 48)])
def test_other_multiples_are_refused(pack, rows, k):
    w = encode(np.ones((4, 32)), n=1, m=2, v=16)
    with pytest.raises(FormatError, match=r"is not a positive multiple of"):
        pack(w, row_multiple=rows, k_multiple=k)


def test_the_largest_offset_fits_a_nibble():
    w = encode(np.eye(16, 32, -15) * 2 + 1e-3, n=1, m=16, v=16)
    assert Format(1, 16, 16) == w.format
    assert row_offsets(w, row_multiple=16, k_multiple=128)[0, 0, 0, 0] & 15 == 15
