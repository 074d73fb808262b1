"""Selections on the host."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.formats.selection import host_selection


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n - 1)))))
def test_any_order_and_repeats(case):
    tokens, rows = case
    got = host_selection(rows, tokens)
    assert got.dtype == np.int64
    assert got.tolist() == rows
    assert host_selection(np.array(rows, np.uint8)[::-1], tokens).tolist() == rows[::-1]
    assert host_selection(range(tokens), tokens).tolist() == list(range(tokens))
    assert host_selection(None, tokens).tolist() == list(range(tokens))


def test_none_of_no_tokens():
    assert host_selection(None, 0).tolist() == []
    assert host_selection([], 0).dtype == np.int64


@pytest.mark.torch
def test_tensor():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    assert host_selection(torch.tensor([2, 0, 2], dtype=torch.int32), 3).tolist() == [2, 0, 2]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ([0, 3], "selection[1] = 3, but tokens have rows 0..2; "),
        ([0, 1, -1], "selection[2] = -1, but tokens have rows 0..2; "),
        (np.array([2**64 - 1], np.uint64), "selection[0] = 18446744073709551615, but tokens have"),
        ([0.0], "selection is float64 [1], but 1-D integers are required; "),
        ([False], "selection is bool [1], but 1-D integers are required; "),
        ([[0]], "selection is int64 [1, 1], but 1-D integers are required; "),
        (0, "selection is int64 [], but 1-D integers are required; "),
        (np.zeros(0), "selection is float64 [0], but 1-D integers are required; "),
    ],
)
def test_refuses(selection, message):
    with pytest.raises(LaunchError) as caught:
        host_selection(selection, 3)
    assert str(caught.value).startswith(message)
    assert caught.value.remedy
