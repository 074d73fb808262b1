"""Calls of routing kernels that are refused, each with one sentence and a remedy."""

import numpy as np
import pytest

from samoyeds_gen.errors import LaunchError, ScheduleError
from samoyeds_gen.kernel.routing import combine, compile_routing
from samoyeds_gen.language import Routing

PLAIN = compile_routing(Routing(8, 2, "softmax_topk", True), "sm_80")
BIASED = compile_routing(Routing(8, 2, "sigmoid_grouped", True, bias=True, shared=1), "sm_80")
X = np.zeros((3, 8), np.float32)
IDS = np.array([[0, 1], [2, 3]], np.int32)
ONES = np.ones((2, 2), np.float32)
Y = np.ones((4, 6), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PLAIN([[0.0] * 8]), "a value of type list is not an array"),
        (lambda: PLAIN(X.astype(float)), "logits has dtype float64, allowed is float32 or"),
        (lambda: PLAIN(X[0]), "logits has 1 axes, [8], it must have 2"),
        (lambda: PLAIN(X[:, :7]), "logits has shape [3, 7], axis 1 must be 8"),
        (lambda: PLAIN(np.zeros((8, 3), np.float32).T), "the last axis of logits is not"),
        (lambda: PLAIN(X, X[0]), "bias is given, the routing has bias=False"),
        (lambda: BIASED(X), "bias is missing, the routing has bias=True"),
        (lambda: BIASED(X, X[0, :7]), "bias has shape [7], axis 0 must be 8"),
        (lambda: BIASED(X, X[0].astype(float)), "bias has dtype float64, allowed is float32"),
        (lambda: BIASED(X, X[0], X[0]), "shared_weight has shape [8], axis 0 must be 3"),
        (lambda: PLAIN(X, None, X[0, :3]), "shared_weight is given, the routing has no shared"),
        (lambda: PLAIN(X, device="tpu"), "device 'tpu' is not one of auto, cpu, gpu"),
        (lambda: PLAIN(X, out=PLAIN.empty(4, X), device="cpu"), "out.experts is numpy int32 [4,"),
        (lambda: PLAIN(np.zeros((2**19, 8), np.float32)), "524288 tokens of 8 experts are more"),
        (lambda: PLAIN.empty(2**30, X), "1073741824 tokens of 2 slots are 2147483648, at most"),
        (lambda: PLAIN.sort(IDS + 6, ONES), "experts[1, 0] is 8, experts are 0 to 7"),
        (lambda: PLAIN.sort(IDS // 2, ONES), "token 0 has expert 0 twice"),
        (lambda: PLAIN.sort(IDS.astype(np.int8), ONES), "experts has dtype int8, allowed is int32"),
        (lambda: PLAIN.sort(IDS[:, :1], ONES), "experts has shape [2, 1], axis 1 must be 2"),
        (lambda: PLAIN.sort(IDS, ONES[:1]), "weights has shape [1, 2], axis 0 must be 2"),
        (lambda: combine(Y, IDS + 1), "slots[1, 1] is 4, y has 4 rows"),
        (lambda: combine(Y, IDS - 1), "slots[0, 0] is -1, y has 4 rows"),
        (lambda: combine(Y, IDS.astype(np.int64)), "slots has dtype int64, allowed is int32"),
        (lambda: combine(Y.astype(np.int32), IDS), "y has dtype int32, allowed is float32 or"),
        (lambda: combine(Y, IDS[0]), "slots has 1 axes, [2], it must have 2"),
        (lambda: combine(Y, IDS[:, :0]), "slots have no columns, a token adds up at least one"),
        (lambda: combine(Y, IDS, np.ones(3, np.float32)), "scale has shape [3], axis 0 must be 4"),
        (lambda: combine(Y, IDS, np.ones(4)), "scale has dtype float64, allowed is float32"),
        (lambda: combine(Y, IDS, out=Y), "out is numpy float32 [4, 6] on the host, the result is"),
        (lambda: combine(np.ones((4, 2**23), np.float16), IDS), "4 rows of 8388608 are more than"),
    ],
)  # fmt: skip
def test_refuses(monkeypatch, call, message):
    for module in ("place", "routing", "combination"):
        name = f"samoyeds_gen.kernel.{module}.driver_present"
        monkeypatch.setattr(name, lambda: False, raising=False)
    with pytest.raises(LaunchError) as caught:
        call()
    assert str(caught.value).startswith(message)
    assert caught.value.remedy


def test_refuses_an_unknown_target():
    with pytest.raises(ScheduleError, match="target 'sm_70' is not one of sm_80"):
        compile_routing(Routing(8, 2, "softmax_topk", True), "sm_70")
