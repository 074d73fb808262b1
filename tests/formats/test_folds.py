"""Replay laws: walking a packing the way its fold does gives the product of the decoded weight.

Integer weights and tokens, so that every sum is exact.
"""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from weight_cases import weights

from samoyeds_gen.formats import expand_slots, fragment_metadata, selector_words, swap_codes


def unpacked(rows):
    """Stored rows spread over four columns a group, from (data, nibbles) rows."""
    data, nibbles = rows
    dense = np.zeros((data.shape[0], nibbles.shape[1], 4))
    row, group = np.indices(nibbles.shape)
    dense[row, group, nibbles & 3] = data[:, 0::2]
    dense[row, group, nibbles >> 2] = data[:, 1::2]
    return dense.reshape(data.shape[0], -1)


def nibbles_of_lanes(words):
    """Undo the lane order of fragment_metadata: nibbles [rows, k/4]."""
    fragments, chunks, _ = words.shape
    nibbles = np.zeros((16 * fragments, 16 * chunks), np.uint32)
    for f, t, lane in np.ndindex(*words.shape):
        for b in range(0, 32, 4):
            row = 16 * f + lane // 4 + 8 * (b // 16)
            nibbles[row, 16 * t + 4 * (lane % 4) + b % 16 // 4] = words[f, t, lane] >> b & 15
    return nibbles


def stored_products(w, tokens):
    """Products of each stored row with each token, by V-block: [blocks, stored rows, tokens]."""
    words = fragment_metadata(w, rows="stored", row_multiple=16, k_multiple=64)
    nibbles = nibbles_of_lanes(words)[: w.data.shape[0], : w.data.shape[1] // 2]
    dense = unpacked((w.data.astype(np.float64), nibbles))
    x = np.zeros((tokens.shape[0], dense.shape[1]))
    x[:, : tokens.shape[1]] = tokens
    v = w.format.v
    starts = range(0, dense.shape[1], v)
    return np.stack([dense[:, j : j + v] @ x[:, j : j + v].T for j in starts])


def tokens_for(w, seed):
    return np.random.default_rng(seed).integers(-3, 4, (3, w.shape[1])).astype(np.float64)


def expected(w, tokens):
    return w.decode().astype(np.float64) @ tokens.T


SEEDS = st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(w=weights(n=1, largest_m=8, integers=True), seed=SEEDS)
def test_exchange(w, seed):
    """Accumulating into slot 0 after each swap, then reading slots by their placement."""
    tokens = tokens_for(w, seed)
    parts = stored_products(w, tokens)
    codes, placement = swap_codes(w, row_multiple=4)
    form, stored = w.format, w.data.shape[0]
    slots = np.zeros((stored, form.m, tokens.shape[0]))
    for j in range(parts.shape[0]):
        for row in range(stored):
            code = int(codes[j // 8, row]) >> 4 * (j % 8) & 15
            slots[row, [0, code]] = slots[row, [code, 0]]
            slots[row, 0] += parts[j, row]
    result = np.full((stored * form.m, tokens.shape[0]), np.nan)
    for row in range(stored):
        for s in range(form.m):
            result[row * form.m + (int(placement[row]) >> 4 * s & 15)] = slots[row, s]
    np.testing.assert_array_equal(result[: w.shape[0]], expected(w, tokens))


@settings(deadline=None)
@given(w=weights(n=1, integers=True), seed=SEEDS)
def test_prefix(w, seed):
    """Running sums P_j weighted by s_j - s_(j+1); the last output row is the rest."""
    tokens = tokens_for(w, seed)
    running = np.cumsum(stored_products(w, tokens), axis=0)
    words = selector_words(w, row_multiple=4)
    form, (stored, blocks) = w.format, w.positions.shape
    result = np.zeros((stored, form.m, tokens.shape[0]))
    for p in range(form.m - 1):
        bits = [words[p, j // 32] >> np.uint32(j % 32) & 1 for j in range(blocks + 1)]
        for j in range(blocks):
            weight = bits[j].astype(np.float64) - bits[j + 1]
            result[:, p] += weight[:stored, None] * running[j]
    result[:, -1] = running[-1] - result[:, :-1].sum(axis=1)
    result = result.reshape(stored * form.m, -1)
    np.testing.assert_array_equal(result[: w.shape[0]], expected(w, tokens))


@settings(deadline=None)
@given(w=weights(plain=False))
def test_expand(w):
    """Reading 16-column units by slot, zeros where absent, rebuilds the dense matrix."""
    form, (m, k) = w.format, w.shape
    slots = expand_slots(w, row_multiple=16)
    metadata = fragment_metadata(w, rows="output", row_multiple=16, k_multiple=256)
    rows = 16 * slots.shape[0]
    data = np.zeros((rows, 128 * slots.shape[1]))
    values = w.data.astype(np.float64)
    for f, t, lane in np.ndindex(*slots.shape):
        c, i = divmod(lane, 16)
        for s in range(8):
            slot = int(slots[f, t, lane]) >> 4 * s & 15
            if slot != 15:
                at = 128 * t + 16 * s + 8 * c
                source = (16 * f + i) // form.m * form.n + slot
                data[16 * f + i, at : at + 8] = values[source, at : at + 8]
    dense = unpacked((data, nibbles_of_lanes(metadata)))
    np.testing.assert_array_equal(dense[:m, :k], w.decode().astype(np.float64))
    assert not dense[m:].any()
    assert not dense[:, k:].any()
    assert rows == math.ceil(math.ceil(m / form.m) * form.m / 16) * 16
