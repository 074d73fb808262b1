"""The weight as a value: equality, derived packings, and files."""

import dataclasses
import os
import stat

import numpy as np
import pytest
from hypothesis import given, settings
from safetensors import safe_open
from safetensors.numpy import save
from weight_cases import weights

from samoyeds_gen.errors import FormatError
from samoyeds_gen.formats import encode, load

DENSE = np.random.default_rng(0).standard_normal((5, 40), np.float32)
WEIGHT = encode(DENSE, n=2, m=4, v=16, dtype="fp16")


def test_equality_is_of_bits():
    same = dataclasses.replace(WEIGHT, data=WEIGHT.data.copy())
    assert same == WEIGHT
    assert WEIGHT.numpy() is WEIGHT
    for name in ("data", "metadata", "indices"):
        other = getattr(WEIGHT, name).copy()
        other.view(np.uint8)[-1, -1] ^= 1
        assert dataclasses.replace(WEIGHT, **{name: other}) != WEIGHT
    assert encode(DENSE, n=2, m=4, v=16, dtype="bf16") != WEIGHT
    assert encode(DENSE[:, :39], n=2, m=4, v=16, dtype="fp16") != WEIGHT
    assert WEIGHT != "weight"
    with pytest.raises(TypeError, match="unhashable"):
        hash(WEIGHT)


def test_derived_is_built_once_and_belongs_to_no_copy():
    calls = []

    def build(w):
        calls.append(w)
        return len(calls)

    w = encode(DENSE, n=1, m=2, v=16)
    assert [w.derived("a", build), w.derived("a", build), w.derived("b", build)] == [1, 1, 2]
    assert calls[0] is w
    assert w == encode(DENSE, n=1, m=2, v=16)
    assert dataclasses.replace(w).derived("a", build) == 3


def test_repr_says_what_it_is():
    assert repr(WEIGHT) == f"SparseWeight(2,4,16 float16 5x40, {WEIGHT.nbytes} bytes, numpy)"


@settings(deadline=None)
@given(w=weights(special=True))
def test_file_round_trip(w, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "round_trip.safetensors"
    w.save(path)
    again = load(path)
    assert again == w
    assert again.data.dtype == w.data.dtype


def test_save_replaces_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_text("old")
    WEIGHT.save(str(path))
    assert load(str(path)) == WEIGHT
    assert os.listdir(tmp_path) == ["w.safetensors"]
    ordinary = tmp_path / "ordinary"
    ordinary.write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


def test_file_can_be_read_by_safetensors(tmp_path):
    path = tmp_path / "w.safetensors"
    WEIGHT.save(path)
    with safe_open(path, framework="np") as file:
        assert file.metadata() == {
            "kind": "samoyeds-gen sparse weight",
            "version": "1",
            "format": "2,4,16",
            "dtype": "float16",
            "shape": "5,40",
        }
        np.testing.assert_array_equal(file.get_tensor("indices"), WEIGHT.indices)


HEADER = {
    "kind": "samoyeds-gen sparse weight",
    "version": "1",
    "format": "2,4,16",
    "dtype": "float16",
    "shape": "5,40",
}
ARRAYS = {"data": WEIGHT.data, "metadata": WEIGHT.metadata, "indices": WEIGHT.indices}


def without(mapping, name):
    return {key: value for key, value in mapping.items() if key != name}


BROKEN_METADATA = WEIGHT.metadata.copy()
BROKEN_METADATA[1, 0] &= ~np.uint32(0xF0)
WHOLE = save(ARRAYS, HEADER)

FILES = {
    "version": (save(ARRAYS, HEADER | {"version": "2"}), "has version '2', but this package reads"),
    "no version": (save(ARRAYS, without(HEADER, "version")), "has version None, but this package"),
    "foreign": (save(ARRAYS, {"format": "pt"}), "is a safetensors file, but not a samoyeds-gen"),
    "no header": (save(ARRAYS), "is a safetensors file, but not a samoyeds-gen sparse weight"),
    "no format": (save(ARRAYS, without(HEADER, "format")), ": header field 'format' is missing"),
    "no dtype": (save(ARRAYS, without(HEADER, "dtype")), ": header field 'dtype' is missing"),
    "no shape": (save(ARRAYS, without(HEADER, "shape")), ": header field 'shape' is missing"),
    "format": (
        save(ARRAYS, HEADER | {"format": "5,4,16"}),
        ": format 5,4,16 keeps 5 of 4 sub-rows",
    ),
    "format text": (
        save(ARRAYS, HEADER | {"format": "2:4"}),
        ": format '2:4' is not three integers",
    ),
    "dtype": (
        save(ARRAYS, HEADER | {"dtype": "float32"}),
        ": dtype 'float32' is not one of float16",
    ),
    "shape text": (save(ARRAYS, HEADER | {"shape": "5x40"}), ": shape '5x40' is not m,k"),
    "shape sign": (save(ARRAYS, HEADER | {"shape": "-5,40"}), ": shape '-5,40' is not m,k"),
    "shape zero": (save(ARRAYS, HEADER | {"shape": "0,40"}), ": shape (0, 40) is not (m, k) with"),
    "other shape": (save(ARRAYS, HEADER | {"shape": "9,40"}), ": data is float16 [4, 24], but"),
    "other format": (save(ARRAYS, HEADER | {"format": "1,4,16"}), ": data is float16 [4, 24], but"),
    "other dtype": (save(ARRAYS, HEADER | {"dtype": "bfloat16"}), ": data is float16 [4, 24], but"),
    "no data": (save(without(ARRAYS, "data"), HEADER), ": array 'data' is missing"),
    "no metadata": (save(without(ARRAYS, "metadata"), HEADER), ": array 'metadata' is missing"),
    "no indices": (save(without(ARRAYS, "indices"), HEADER), ": array 'indices' is missing"),
    "array type": (
        save(ARRAYS | {"data": WEIGHT.data.astype(np.float32)}, HEADER),
        ": array 'data' has type F32, which no weight holds",
    ),
    "metadata": (
        save(ARRAYS | {"metadata": BROKEN_METADATA}, HEADER),
        ": metadata of stored row 1,",
    ),
    "indices": (
        save(ARRAYS | {"indices": WEIGHT.indices[::-1].copy()}, HEADER),
        ": indices of stored rows 0 and 1 in V-block",
    ),
    "range": (save(ARRAYS | {"indices": WEIGHT.indices + 4}, HEADER), ": indices[0, 0] = "),
    "empty": (b"", "is truncated or not a safetensors file ("),
    "text": (b"hello, this is not a weight", "is truncated or not a safetensors file ("),
    "cut in header": (WHOLE[:50], "is truncated or not a safetensors file ("),
    "cut in data": (WHOLE[:-1], "is truncated or not a safetensors file ("),
    "longer": (WHOLE + b"\0", "is truncated or not a safetensors file ("),
}


@pytest.mark.parametrize("name", FILES)
def test_refused_files(tmp_path, name):
    content, message = FILES[name]
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        load(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    for size in range(0, len(WHOLE), 7):
        path.write_bytes(WHOLE[:size])
        with pytest.raises(FormatError, match="is truncated or not a safetensors file"):
            load(path)


def test_plain_file_with_indices_is_refused(tmp_path):
    plain = encode(DENSE, n=1, m=1, v=16)
    header = HEADER | {"format": "1,1,16", "dtype": "bfloat16"}
    arrays = {"data": plain.data, "metadata": plain.metadata, "indices": np.zeros((5, 3), np.uint8)}
    path = tmp_path / "w.safetensors"
    path.write_bytes(save(arrays, header))
    with pytest.raises(FormatError, match="indices are given, but format 1,1,16 keeps every"):
        load(path)


def test_paths_that_cannot_be_used(tmp_path):
    with pytest.raises(FormatError, match=r"cannot be read \(No such file or directory\); check"):
        load(tmp_path / "absent")
    with pytest.raises(FormatError, match=r"cannot be read \(Is a directory\); check the path"):
        load(tmp_path)
    with pytest.raises(FormatError, match=r"cannot be written \(.*\); choose a writable path"):
        WEIGHT.save(tmp_path / "absent" / "w")
    with pytest.raises(FormatError, match=r"cannot be written \(.*\); choose a writable path"):
        WEIGHT.save(tmp_path)
    assert os.listdir(tmp_path) == []
