"""Packings against oracles that place one bit at a time."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_format import bit, pair_of, stored_row_of
from weight_cases import weights

from samoyeds_gen.formats import (
    encode,
    expand_slots,
    fragment_metadata,
    lanes,
    selector_words,
    swap_codes,
)

ROWS16 = st.sampled_from([16, 32, 48, 128])
ROWS = st.sampled_from([1, 3, 8])


def up(size, multiple):
    return math.ceil(size / multiple) * multiple


def padded_k(w):
    return up(w.shape[1], w.format.v)


def entry_bit(w, stored_row, column, which, i):
    """Bit i of the first or second position of the group around `column`; 0x4 outside."""
    if stored_row is None or stored_row >= w.data.shape[0] or column >= padded_k(w):
        pair = (0, 1)
    else:
        pair = pair_of(w, stored_row, column // 4)
    return bit(pair[which], i)


def naive_fragment_metadata(w, rows, row_multiple, k_multiple):
    bands = math.ceil(w.shape[0] / w.format.m)
    total = up(bands * (w.format.n if rows == "stored" else w.format.m), row_multiple)
    out = np.zeros((total // 16, up(padded_k(w), k_multiple) // 64, 32), np.uint32)
    for f, t, lane in np.ndindex(*out.shape):
        g, q = lane // 4, lane % 4
        word = 0
        for b in range(32):
            row = 16 * f + g + 8 * (b // 16)
            column = 64 * t + 16 * q + 4 * (b % 16 // 4)
            source = row if rows == "stored" else stored_row_of(w, row, column // w.format.v)
            word |= entry_bit(w, source, column, b % 4 // 2, b % 2) << b
        out[f, t, lane] = word
    return out


@settings(deadline=None, max_examples=30)
@given(w=weights(), rows=st.sampled_from(["stored", "output"]), multiple=ROWS16)
def test_fragment_metadata(w, rows, multiple):
    k_multiple = 64 if multiple < 64 else 256
    got = fragment_metadata(w, rows=rows, row_multiple=multiple, k_multiple=k_multiple)
    assert got.dtype == np.uint32
    np.testing.assert_array_equal(got, naive_fragment_metadata(w, rows, multiple, k_multiple))


@settings(deadline=None)
@given(w=weights(), rows=st.sampled_from(["stored", "output"]))
def test_fragment_metadata_is_ordered_everywhere(w, rows):
    """The codes 0b0000, 0b0101, 0b1010 and 0b1111 are undefined in the PTX ISA."""
    words = fragment_metadata(w, rows=rows, row_multiple=64, k_multiple=128)
    for shift in range(0, 32, 4):
        nibble = words >> np.uint32(shift)
        assert ((nibble & 3) < (nibble >> np.uint32(2) & 3)).all()


@settings(deadline=None)
@given(st.integers(0, 15), st.integers(0, 63), st.integers(0, 2**32 - 1))
def test_lane_map_finds_every_entry(row, column, seed):
    dense = np.random.default_rng(seed).standard_normal((16, 64))
    w = encode(dense, n=1, m=1, v=16)
    words = fragment_metadata(w, rows="stored", row_multiple=16, k_multiple=64)[0, 0]
    word = int(words[lanes.metadata_lane(row, column)]) >> lanes.metadata_shift(row, column)
    assert (word & 3, word >> 2 & 3) == pair_of(w, row, column // 4)
    quad = lanes.metadata_lane(row, column) % 4
    assert lanes.selector_k16(column // 16 * 16) == quad
    assert lanes.selector_k32(column // 32 * 32) == quad // 2


@settings(deadline=None)
@given(w=weights(n=1), multiple=ROWS)
def test_selector_words(w, multiple):
    words = selector_words(w, row_multiple=multiple)
    stored, blocks = w.positions.shape
    assert words.dtype == np.uint32
    assert words.shape == (w.format.m - 1, math.ceil(blocks / 32) + 1, up(stored, multiple))
    for p, j32, row in np.ndindex(*words.shape):
        for i in range(32):
            j = 32 * j32 + i
            want = row < stored and j < blocks and w.positions[row, j] == p
            assert bit(words[p, j32, row], i) == want


def test_selector_words_past_one_word():
    dense = np.random.default_rng(0).standard_normal((6, 16 * 70))
    w = encode(dense, n=1, m=3, v=16)
    words = selector_words(w, row_multiple=8)
    assert words.shape == (2, 4, 8)
    for p, row, j in np.ndindex(2, 8, 128):
        want = row < 2 and j < 70 and w.indices[row, j] == p
        assert bit(words[p, j // 32, row], j % 32) == want


@settings(deadline=None)
@given(w=weights(n=1, largest_m=8), multiple=ROWS)
def test_swap_codes(w, multiple):
    codes, placement = swap_codes(w, row_multiple=multiple)
    stored, blocks = w.positions.shape
    rows = up(stored, multiple)
    assert (codes.dtype, placement.dtype) == (np.uint32, np.uint32)
    assert (codes.shape, placement.shape) == ((math.ceil(blocks / 8), rows), (rows,))
    for row in range(rows):
        slots = list(range(w.format.m))
        for j in range(8 * codes.shape[0]):
            code = int(codes[j // 8, row]) >> 4 * (j % 8) & 15
            assert code < w.format.m
            slots[0], slots[code] = slots[code], slots[0]
            if row < stored and j < blocks:
                assert slots[0] == w.positions[row, j]
            else:
                assert code == 0
        assert int(placement[row]) == sum(owner << 4 * s for s, owner in enumerate(slots))


@settings(deadline=None, max_examples=30)
@given(w=weights(plain=False), multiple=ROWS16, wide=st.booleans())
def test_expand_slots(w, multiple, wide):
    k_multiple = 512 if wide else 256
    words = expand_slots(w, row_multiple=multiple, k_multiple=k_multiple)
    bands = math.ceil(w.shape[0] / w.format.m)
    rows = up(bands * w.format.m, multiple)
    assert words.dtype == np.uint32
    assert words.shape == (rows // 16, up(padded_k(w), k_multiple) // 256, 32)
    for f, t, lane in np.ndindex(*words.shape):
        c, i = divmod(lane, 16)
        for s in range(8):
            column = 256 * t + 32 * s + 16 * c
            source = None
            if column < padded_k(w):
                source = stored_row_of(w, 16 * f + i, column // w.format.v)
            want = 15 if source is None else source % w.format.n
            assert int(words[f, t, lane]) >> 4 * s & 15 == want


@pytest.mark.torch
def test_a_tensor_weight_packs_alike():
    pytest.importorskip("torch", reason="torch is not installed")
    w = encode(np.random.default_rng(3).standard_normal((21, 200)), n=1, m=4, v=48)
    t = w.torch()
    for multiple in (16, 64):
        for pack in (
            lambda x, r=multiple: fragment_metadata(
                x, rows="stored", row_multiple=r, k_multiple=64
            ),
            lambda x, r=multiple: fragment_metadata(
                x, rows="output", row_multiple=r, k_multiple=64
            ),
            lambda x, r=multiple: expand_slots(x, row_multiple=r),
            lambda x, r=multiple: selector_words(x, row_multiple=r),
            lambda x, r=multiple: np.vstack(swap_codes(x, row_multiple=r)),
        ):
            assert type(pack(t)) is np.ndarray
            np.testing.assert_array_equal(pack(t), pack(w))
