"""A layer's last launches serve the next call only where nothing differs that was looked at."""

import copy
import gc
import pickle

import numpy as np
import pytest

from samoyeds_gen.formats import encode

torch = pytest.importorskip("torch", reason="torch is not installed")

from samoyeds_gen.moe import use_backend  # noqa: E402
from samoyeds_gen.moe.again import Again  # noqa: E402
from samoyeds_gen.moe.backend import Prepared  # noqa: E402

pytestmark = pytest.mark.torch


class Call:
    """What a prepared call is to those who make it."""

    def __call__(self, arrays):
        return sorted(arrays)


def weight():
    return encode(np.ones((32, 64)), n=1, m=2, v=32)


def tensors(count=4, **changes):
    given = {"x": torch.zeros(count, 64), "logits": torch.zeros(count, 8), "bias": None}
    given.update(changes)
    return list(given.values())


@pytest.fixture
def kept():
    """An Again with what keeps it alive."""
    call, weights, rule, given = Call(), (weight(), weight()), object(), tensors()
    found = Prepared(call, {"x": given[0], "logits": given[1]})
    with use_backend("kernels"):
        yield Again(found, given, rule, weights), call, weights, rule


def test_tensors_alike_make_the_call(kept):
    again, _, weights, rule = kept
    assert again.whole
    assert again(tensors(), rule, weights) == ["logits", "x"]


@pytest.mark.parametrize(
    "changes",
    [
        {"x": torch.zeros(5, 64)},
        {"x": torch.zeros(4, 64, dtype=torch.bfloat16)},
        {"x": torch.zeros(64, 4).T},
        {"x": torch.zeros(4 * 64 + 1)[1:].view(4, 64)},
        {"x": torch.zeros(4, 64, requires_grad=True)},
        {"x": torch.zeros(4, 64, device="meta")},
        {"logits": torch.zeros(4, 16)[:, :8]},
        {"logits": torch.zeros(4, 8, dtype=torch.float64)},
        {"bias": torch.zeros(8)},
    ],
    ids=["count", "type", "strides", "alignment", "grad", "device", "pitch", "wide", "bias"],
)
def test_others_do_not(kept, changes):
    again, _, weights, rule = kept
    assert again(tensors(**changes), rule, weights) is None


def test_neither_another_rule_nor_other_weights_do(kept):
    again, _, weights, rule = kept
    assert again(tensors(), object(), weights) is None
    assert again(tensors(), rule, (weights[0], weight())) is None
    assert again(tensors(), rule, (weight(), weights[1])) is None
    assert again(tensors(), rule, (*weights, *weights)) is None
    assert again(tensors(), rule, ()) is None
    with use_backend("reference"):
        assert again(tensors(), rule, weights) is None


def test_a_changed_array_is_not_whole():
    given = tensors()
    call = Call()
    found = Prepared(call, {"x": given[0].clone(), "logits": given[1]})
    assert not Again(found, given, None, (weight(), weight())).whole


def test_it_keeps_nothing_alive():
    call, weights, given = Call(), (weight(), weight()), tensors()
    found = Prepared(call, {"x": given[0], "logits": given[1]})
    again = Again(found, given, None, weights)
    del call, found
    gc.collect()
    with use_backend("kernels"):
        assert again(given, None, weights) is None


def test_copies_start_without(kept):
    again = kept[0]
    assert copy.deepcopy(again) is None
    assert pickle.loads(pickle.dumps(again)) is None
