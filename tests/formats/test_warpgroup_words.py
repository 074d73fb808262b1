"""Words of a warpgroup against an oracle that places one bit at a time."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_format import bit, pair_of, stored_row_of
from weight_cases import DTYPES, shapes, weights

from samoyeds_gen.errors import FormatError
from samoyeds_gen.formats import Format, encode, warpgroup_words

TILES = st.sampled_from([64, 128])
MULTIPLES = st.sampled_from([64, 128, 192])
ABSENT = 15


def up(size, multiple):
    return math.ceil(size / multiple) * multiple


def padded_k(w):
    return up(w.shape[1], w.format.v)


def bands(w):
    return math.ceil(w.shape[0] / w.format.m)


def source_of(w, fold, row, column):
    """The stored row that row `row` of the matrix unit reads at this column, or None."""
    if column >= padded_k(w):
        return None
    if fold == "expand":
        return stored_row_of(w, row, column // w.format.v)
    return row if row < bands(w) * w.format.n else None


def metadata_bit(w, fold, row, column, b):
    """Bit b of the nibble of the group around a column; 0x4 where nothing is stored."""
    source = source_of(w, fold, row, column)
    first, second = (0, 1) if source is None else pair_of(w, source, column // 4)
    return bit(first if b < 2 else second, b % 2)


def metadata_byte(w, fold, group, tile, tile_k, at):
    """Byte `at` of a block: thread by thread, tile_k/64 words each (PTX ISA, mma.sp metadata)."""
    thread, inside = divmod(at, tile_k // 16)
    word, byte = divmod(inside, 4)
    warp, lane = divmod(thread, 32)
    value = 0
    for i in range(8):
        b = 8 * byte + i
        row = 64 * group + 16 * warp + lane // 4 + 8 * (b // 16)
        column = tile * tile_k + 64 * word + 16 * (lane % 4) + 4 * (b % 16 // 4)
        value |= metadata_bit(w, fold, row, column, b % 4) << i
    return value


def belongs(w, row, block, place):
    """Whether V-block `block` of a stored row is output row `place` of its band."""
    if row >= bands(w) or block * w.format.v >= padded_k(w):
        return False
    return stored_row_of(w, row * w.format.m + place, block) == row


def selector_byte(w, group, tile, tile_k, at):
    """Byte `at` behind the metadata: a bit a V-block of the tile, and one for the block behind."""
    place, inside = divmod(at, 64)
    row, v = 64 * group + inside, w.format.v
    end = (tile + 1) * tile_k
    if end % v:
        return 0  # the block goes on in the next tile
    first = end // v - max(1, tile_k // v)
    return sum(belongs(w, row, first + i, place) << i for i in range(max(1, tile_k // v) + 1))


def slot_byte(w, group, tile, tile_k, at):
    """Byte `at` behind the metadata: two nibbles, one a k32 step."""
    thread, byte = divmod(at, 2)
    warp, lane = divmod(thread, 32)
    half, i = divmod(lane, 16)
    value = 0
    for nibble in range(2):
        step = 2 * byte + nibble
        if step >= tile_k // 32:
            continue
        column = tile * tile_k + 32 * step + 16 * half
        source = source_of(w, "expand", 64 * group + 16 * warp + i, column)
        value |= (ABSENT if source is None else source % w.format.n) << 4 * nibble
    return value


def naive(w, fold, row_multiple, tile_k):
    rows = bands(w) * (w.format.m if fold == "expand" else w.format.n)
    metadata = 128 * tile_k // 16
    behind = {"direct": 0, "prefix": 64 * (w.format.m - 1), "expand": 256}[fold]
    shape = (up(rows, row_multiple) // 64, up(padded_k(w), tile_k) // tile_k, metadata + behind)
    out = np.zeros(shape, np.uint8)
    for group, tile in np.ndindex(shape[:2]):
        for at in range(metadata):
            out[group, tile, at] = metadata_byte(w, fold, group, tile, tile_k, at)
        for at in range(behind):
            byte = selector_byte if fold == "prefix" else slot_byte
            out[group, tile, metadata + at] = byte(w, group, tile, tile_k, at)
    return out


def require_same(w, fold, row_multiple, tile_k):
    got = warpgroup_words(w, fold=fold, row_multiple=row_multiple, tile_k=tile_k)
    assert got.dtype == np.uint8
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, naive(w, fold, row_multiple, tile_k))


@st.composite
def prefixed(draw, tile_k):
    """Weights of the prefix fold: V divides the tile or the tile divides V."""
    lengths = [v for v in (16, 32, 64, 128, 256, 384) if not v % tile_k or not tile_k % v]
    v = draw(st.sampled_from(lengths))
    form = Format(1, draw(st.integers(2, 5)), v)
    shape = draw(shapes(form))
    dense = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).standard_normal(shape)
    return encode(dense, n=form.n, m=form.m, v=form.v, dtype=draw(DTYPES))


@settings(max_examples=40)
@given(w=weights(plain=True), multiple=MULTIPLES, tile_k=TILES)
def test_direct(w, multiple, tile_k):
    require_same(w, "direct", multiple, tile_k)


@settings(max_examples=60)
@given(data=st.data(), multiple=MULTIPLES, tile_k=TILES)
def test_prefix(data, multiple, tile_k):
    require_same(data.draw(prefixed(tile_k)), "prefix", multiple, tile_k)


@settings(max_examples=60)
@given(w=weights(plain=False), multiple=MULTIPLES, tile_k=TILES)
def test_expand(w, multiple, tile_k):
    require_same(w, "expand", multiple, tile_k)


def selectors(words, tile_k, rows):
    """Selector bytes [k tiles, M-1, stored rows] of words of one group."""
    return words[0, :, 128 * tile_k // 16 :].reshape(words.shape[1], -1, 64)[:, :, :rows]


@pytest.mark.parametrize("tile_k", [64, 128])
@pytest.mark.parametrize("v", [32, 64, 128, 256])
def test_selectors_weigh_running_sums_to_the_rows(v, tile_k):
    """A row is the sum of (this block's bit - the next one's) times the running sum behind it."""
    m, rows, blocks = 3, 2, 5
    w = encode(np.random.default_rng(v).standard_normal((m * rows, blocks * v)), n=1, m=m, v=v)
    words = warpgroup_words(w, fold="prefix", row_multiple=64, tile_k=tile_k)
    bits = selectors(words, tile_k, rows).astype(int)
    block_sums = np.random.default_rng(0).integers(-9, 10, (blocks, rows))
    got = np.zeros((m - 1, rows), int)
    running, per_tile, done = np.zeros(rows, int), max(1, tile_k // v), 0
    for tile in range(bits.shape[0]):
        for b in range(per_tile):
            if (tile + 1) * tile_k % v == 0 and done < blocks:
                running = running + block_sums[done]
                done += 1
            got += ((bits[tile] >> b & 1) - (bits[tile] >> b + 1 & 1)) * running
    assert done == blocks
    positions = np.asarray(w.positions)
    for place in range(m - 1):
        want = np.where(place == positions.T, block_sums, 0).sum(axis=0)
        np.testing.assert_array_equal(got[place], want)


def test_nothing_follows_the_last_block():
    """The bit behind the last V-block is 0 and that behind every other tile's is the next one's."""
    w = encode(np.eye(2, 256), n=1, m=2, v=32)  # output row 0 in block 0, ties keep it elsewhere
    words = warpgroup_words(w, fold="prefix", row_multiple=64, tile_k=64)
    np.testing.assert_array_equal(selectors(words, 64, 1)[:, 0, 0], [7, 7, 7, 3])
    assert not words[0, :, 513:].any(), "padding rows belong to no output row"


def test_absent_and_padding_rows_of_the_expand_fold():
    w = encode(np.ones((3, 100)), n=1, m=2, v=64)
    words = warpgroup_words(w, fold="expand", row_multiple=128, tile_k=64)
    assert words.shape == (2, 2, 512 + 256)
    slots = words[:, :, 512:].copy().view(np.uint16).reshape(2, 2, 4, 2, 16)
    assert (slots[0, :, 0, :, :4] == np.array([0, 0xFF, 0, 0xFF])).all()
    assert (slots[0, :, 0, :, 4:] == 0xFF).all()
    assert (slots[1] == 0xFF).all()


@pytest.mark.torch
def test_a_tensor_weight_packs_alike():
    pytest.importorskip("torch", reason="torch is not installed")
    w = encode(np.random.default_rng(3).standard_normal((21, 200)), n=1, m=4, v=32)
    for fold in ("direct", "prefix", "expand"):
        got = warpgroup_words(w.torch(), fold=fold, row_multiple=64, tile_k=128)
        assert type(got) is np.ndarray
        np.testing.assert_array_equal(
            got, warpgroup_words(w, fold=fold, row_multiple=64, tile_k=128)
        )


REFUSED = [
    ("direct", (1, 2, 32), 64, 32, "tile_k=32 is not 64 or 128"),
    ("prefix", (1, 2, 32), 64, 256, "tile_k=256 is not 64 or 128"),
    ("expand", (1, 2, 32), 64, 0, "tile_k=0 is not 64 or 128"),
    ("direct", (1, 2, 32), 32, 64, "row_multiple=32 is not a positive multiple of 64"),
    ("prefix", (1, 2, 32), 0, 64, "row_multiple=0 is not a positive multiple of 64"),
    ("expand", (1, 2, 32), 96, 64, "row_multiple=96 is not a positive multiple of 64"),
    ("prefix", (2, 4, 32), 64, 64, "prefix words of 64 columns do not exist for the format 2,4,32"),
    ("prefix", (1, 2, 48), 64, 64, "prefix words of 64 columns do not exist for the format 1,2,48"),
    ("prefix", (1, 2, 64 + 128), 64, 128, "prefix words of 128 columns do not exist"),
    ("expand", (2, 2, 32), 64, 64, "expand slots exist for n < m"),
]


@pytest.mark.parametrize(("fold", "format", "row_multiple", "tile_k", "sentence"), REFUSED)
def test_refusals(fold, format, row_multiple, tile_k, sentence):
    n, m, v = format
    w = encode(np.ones((4, 64)), n=n, m=m, v=v)
    with pytest.raises(FormatError) as caught:
        warpgroup_words(w, fold=fold, row_multiple=row_multiple, tile_k=tile_k)
    assert sentence in str(caught.value)
    assert caught.value.remedy
