"""The three numbers of a format, and the shapes that follow."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weight_cases import formats

from samoyeds_gen.errors import FormatError, SamoyedsError
from samoyeds_gen.formats import Format


@given(formats())
def test_text_reads_back(form):
    assert Format.parse(str(form)) == form


@given(formats(), st.integers(1, 5000))
def test_derived_sizes_cover_and_do_not_overshoot(form, size):
    assert 0 <= form.padded_k(size) - size < form.v
    assert form.padded_k(size) == form.blocks(size) * form.v
    assert 0 <= form.bands(size) * form.m - size < form.m
    assert form.stored_rows(size) == form.bands(size) * form.n


@given(formats())
def test_density_is_stored_over_dense(form):
    stored = form.stored_rows(form.m) * form.padded_k(form.v) / 2
    assert form.density == pytest.approx(stored / (form.m * form.v))
    assert form.plain == (form.density == 0.5)


def test_is_a_value():
    form = Format(1, 2, 64)
    assert form == Format(np.int64(1), 2, 64)
    assert hash(form) == hash(Format(1, 2, 64))
    assert type(Format(np.int64(1), 2, 64).n) is int
    with pytest.raises(dataclasses.FrozenInstanceError):
        form.n = 2


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 2, 64), "format 0,2,64 keeps 0 of 2 sub-rows, but 1 <= n <= m <= 16 is required"),
        ((3, 2, 64), "format 3,2,64 keeps 3 of 2 sub-rows, but 1 <= n <= m <= 16 is required"),
        ((1, 17, 64), "format 1,17,64 keeps 1 of 17 sub-rows, but 1 <= n <= m <= 16 is required"),
        ((-1, -1, 64), "format -1,-1,64 keeps -1 of -1 sub-rows, but 1 <= n"),
        ((1, 2, 0), "format 1,2,0 has sub-rows of 0 columns, but v must be a positive multiple"),
        ((1, 2, 8), "format 1,2,8 has sub-rows of 8 columns, but v must be a positive multiple"),
        ((1, 2, 40), "format 1,2,40 has sub-rows of 40 columns, but v must be a positive"),
        ((1, 2, -16), "format 1,2,-16 has sub-rows of -16 columns, but v must be a positive"),
        ((1.0, 2, 64), "n=1.0 is not an integer"),
        ((1, "2", 64), "m='2' is not an integer"),
        ((1, 2, True), "v=True is not an integer"),
        ((None, 2, 64), "n=None is not an integer"),
    ],
)
def test_refuses(numbers, message):
    with pytest.raises(FormatError) as caught:
        Format(*numbers)
    assert str(caught.value).startswith(message)
    assert caught.value.remedy
    assert isinstance(caught.value, SamoyedsError)


@pytest.mark.parametrize("text", ["", "1,2", "1,2,64,1", "a,b,c", "1;2;64", "1.0,2,64", None, 5])
def test_refuses_text(text):
    with pytest.raises(FormatError, match="is not three integers n,m,v; write it as 1,2,64"):
        Format.parse(text)
