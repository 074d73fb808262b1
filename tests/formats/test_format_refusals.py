"""Everything encode, SparseWeight, validate and the packings refuse, with the sentence."""

import dataclasses

import numpy as np
import pytest

from samoyeds_gen.errors import FormatError
from samoyeds_gen.formats import (
    SparseWeight,
    encode,
    expand_slots,
    fragment_metadata,
    selector_words,
    swap_codes,
)

DENSE = np.random.default_rng(0).standard_normal((5, 40), np.float32)
WEIGHT = encode(DENSE, n=2, m=4, v=16)
PLAIN = encode(DENSE, n=1, m=1, v=16)


@pytest.mark.parametrize(
    ("dense", "message"),
    [
        ([[1.0]], "dense is a list, but a numpy array or a torch tensor is required; "),
        (None, "dense is a NoneType, but a numpy array or a torch tensor is required; "),
        (np.zeros(4), "dense has shape (4,), but [m, k] with m, k >= 1 is required; "),
        (np.zeros((2, 3, 4)), "dense has shape (2, 3, 4), but [m, k] with m, k >= 1 is required"),
        (np.zeros((0, 4)), "dense has shape (0, 4), but [m, k] with m, k >= 1 is required; "),
        (np.zeros((4, 0)), "dense has shape (4, 0), but [m, k] with m, k >= 1 is required; "),
        (np.zeros((2, 2), int), "dense has dtype int64, but one of float64, float32, float16, "),
        (np.zeros((2, 2), bool), "dense has dtype bool, but one of float64, float32, float16, "),
        (np.zeros((2, 2), complex), "dense has dtype complex128, but one of float64, float32, "),
        (np.zeros((2, 2), np.longdouble), "dense has dtype float128, but one of float64, "),
    ],
)
def test_dense(dense, message):
    with pytest.raises(FormatError) as caught:
        encode(dense, n=1, m=2, v=16)
    assert str(caught.value).startswith(message)
    assert caught.value.remedy


@pytest.mark.parametrize("dtype", ["float32", "float64", "fp8", 3])
def test_encode_dtype(dtype):
    with pytest.raises(FormatError, match="is not one of float16, bfloat16"):
        encode(DENSE, n=1, m=2, v=16, dtype=dtype)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "float32"}, "dtype 'float32' is not one of float16, bfloat16"),
        ({"dtype": "float16"}, "data is bfloat16 [4, 24], but float16 [4, 24] is required"),
        ({"shape": (5, 0)}, "shape (5, 0) is not (m, k) with m, k >= 1"),
        ({"shape": 5}, "shape 5 is not (m, k) with m, k >= 1"),
        ({"shape": (9, 40)}, "data is bfloat16 [4, 24], but bfloat16 [6, 24] is required"),
        ({"shape": (5, 50)}, "data is bfloat16 [4, 24], but bfloat16 [4, 32] is required"),
        ({"data": None}, "data is NoneType, but bfloat16 [4, 24] is required"),
        ({"metadata": None}, "metadata is NoneType, but uint32 [4, 2] is required"),
        (
            {"metadata": WEIGHT.metadata.astype(np.int32)},
            "metadata is int32 [4, 2], but uint32 [4, 2] is required",
        ),
        (
            {"metadata": WEIGHT.metadata[:, :1]},
            "metadata is uint32 [4, 1], but uint32 [4, 2] is required",
        ),
        ({"indices": None}, "indices is NoneType, but uint8 [4, 3] is required"),
        ({"indices": WEIGHT.indices.T}, "indices is uint8 [3, 4], but uint8 [4, 3] is required"),
        ({"format": PLAIN.format}, "data is bfloat16 [4, 24], but bfloat16 [5, 24] is required"),
    ],
)
def test_arrays_that_disagree(change, message):
    with pytest.raises(FormatError) as caught:
        dataclasses.replace(WEIGHT, **change)
    assert str(caught.value).startswith(message)
    assert caught.value.remedy


def test_plain_takes_no_indices():
    indices = np.zeros((5, 3), np.uint8)
    with pytest.raises(FormatError, match="indices are given, but format 1,1,16 keeps every"):
        SparseWeight(PLAIN.format, "bf16", (5, 40), PLAIN.data, PLAIN.metadata, indices)


def changed(weight, name, at, value):
    array = getattr(weight, name).copy()
    array[at] = value
    return dataclasses.replace(weight, **{name: array})


@pytest.mark.parametrize("nibble", sorted(set(range(16)) - {0x4, 0x8, 0xC, 0x9, 0xD, 0xE}))
@pytest.mark.parametrize("group", [0, 7, 11, 15])
def test_metadata_must_be_ordered(nibble, group):
    word = int(WEIGHT.metadata[2, group // 8])
    shift = 4 * (group % 8)
    word = word & ~(0xF << shift) | nibble << shift
    pair = (nibble & 3, nibble >> 2)
    with pytest.raises(FormatError) as caught:
        changed(WEIGHT, "metadata", (2, group // 8), word).validate()
    assert str(caught.value) == (
        f"metadata of stored row 2, columns {4 * group}..{4 * group + 3} holds positions {pair}, "
        "but two increasing positions are required; encode the weight again"
    )


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        ((1, 2), 4, "indices[1, 2] = 4, but positions lie in 0..3"),
        ((3, 0), 255, "indices[3, 0] = 255, but positions lie in 0..3"),
        ((2, 1), 1, "indices of stored rows 2 and 3 in V-block 1 are 1 and 1, but they must"),
        ((2, 1), 3, "indices of stored rows 2 and 3 in V-block 1 are 3 and 1, but they must"),
    ],
)
def test_positions_must_increase_below_m(at, value, message):
    assert WEIGHT.indices[2:, 1].tolist() == [0, 1]
    with pytest.raises(FormatError) as caught:
        changed(WEIGHT, "indices", at, value).validate()
    assert str(caught.value).startswith(message)


def test_values_beyond_the_matrix():
    with pytest.raises(FormatError, match=r"stored row 1 holds a value at column 41, but k is 40"):
        changed(WEIGHT, "data", (1, 21), 1).validate()
    with pytest.raises(FormatError, match="stored row 3 holds a value of output row 5, but m is 5"):
        changed(WEIGHT, "data", (3, 9), 1).validate()
    odd = encode(np.ones((1, 5), np.float32), n=1, m=1, v=16)
    assert odd.data[0, 3] == 0
    with pytest.raises(FormatError, match=r"stored row 0 holds a value at column 5, but k is 5"):
        changed(odd, "data", (0, 3), np.nan).validate()
    changed(WEIGHT, "data", (1, 21), -0.0).validate()


@pytest.mark.parametrize(
    ("pack", "message"),
    [
        (lambda: swap_codes(WEIGHT, row_multiple=8), "swap codes exist for n = 1 and m <= 8, but"),
        (
            lambda: swap_codes(encode(DENSE, n=1, m=9, v=16), row_multiple=8),
            "swap codes exist for n = 1 and m <= 8, but the format is 1,9,16",
        ),
        (lambda: selector_words(WEIGHT, row_multiple=8), "selector words exist for n = 1, but the"),
        (lambda: expand_slots(PLAIN, row_multiple=16), "expand slots exist for n < m, but the"),
        (
            lambda: expand_slots(WEIGHT, row_multiple=8),
            "row_multiple=8 is not a positive multiple of 16",
        ),
        (
            lambda: expand_slots(WEIGHT, row_multiple=16, k_multiple=64),
            "k_multiple=64 is not a positive multiple of 256",
        ),
        (
            lambda: fragment_metadata(WEIGHT, rows="stored", row_multiple=0, k_multiple=64),
            "row_multiple=0 is not a positive multiple of 16",
        ),
        (
            lambda: fragment_metadata(WEIGHT, rows="output", row_multiple=16, k_multiple=32),
            "k_multiple=32 is not a positive multiple of 64",
        ),
        (
            lambda: selector_words(encode(DENSE, n=1, m=2, v=16), row_multiple=0),
            "row_multiple=0 is not a positive multiple of 1",
        ),
    ],
)
def test_packings(pack, message):
    with pytest.raises(FormatError) as caught:
        pack()
    assert str(caught.value).startswith(message)
    assert caught.value.remedy
