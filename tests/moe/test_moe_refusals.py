"""Everything sparse layers refuse: one sentence each, and a remedy."""

# ruff: noqa: E402

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from refused import refused

import samoyeds_gen as sg
from samoyeds_gen.errors import FormatError, ModelError
from samoyeds_gen.formats import stack_weights
from samoyeds_gen.language import Routing
from samoyeds_gen.moe import SparseExperts, SparseLinear, SparseMLP, SparseMoE, use_backend

pytestmark = pytest.mark.torch


def weight(rows, k, n=1, m=2, v=32, dtype="bfloat16"):
    return sg.encode(np.ones((rows, k), np.float32), n=n, m=m, v=v, dtype=dtype)


def experts(**options):
    up, down = weight(64, 64), weight(64, 32)
    pairs = [stack_weights([each] * 3) for each in (up, down)]
    return SparseExperts(*pairs, **{"count": 3, **options})


def lone(hidden=64, dtype="bfloat16", **options):
    up, down = weight(96, hidden, dtype=dtype), weight(hidden, 48, dtype=dtype)
    return SparseMLP(up, down, **options)


LINEAR = SparseLinear(weight(32, 64))
EXPERTS = experts()
X = torch.ones(4, 64)
RULE = Routing(3, 2, "softmax_topk", True)
CHOSEN, WEIGHTS = torch.zeros(4, 2, dtype=torch.int32), torch.ones(4, 2)


@pytest.mark.parametrize(
    ("call", "kind", "start"),
    [
        (lambda: LINEAR([1.0]), ModelError, "the input is a list, but a torch tensor is required"),
        (
            lambda: LINEAR(X.double()),
            ModelError,
            "the input has dtype torch.float64, but float32, float16 or bfloat16 is required; ",
        ),
        (
            lambda: LINEAR(X.int()),
            ModelError,
            "the input has dtype torch.int32, but float32, float16 or bfloat16 is required; ",
        ),
        (
            lambda: LINEAR(X[:, :63]),
            ModelError,
            "the input has shape [4, 63], but [..., 64] is required; pass what the dense layer",
        ),
        (
            lambda: LINEAR(X.to("meta")),
            ModelError,
            "the input is on meta, but the layer is on cpu; move one of them",
        ),
        (
            lambda: LINEAR(X.clone().requires_grad_()),
            ModelError,
            "the input requires a gradient, but Samoyeds layers have no backward pass; call the ",
        ),
        (
            lambda: EXPERTS(X, CHOSEN, WEIGHTS.clone().requires_grad_()),
            ModelError,
            "weights requires a gradient, but Samoyeds layers have no backward pass; call the ",
        ),
        (
            lambda: EXPERTS.routed(
                X,
                torch.ones(4, 3, requires_grad=True),
                Routing(3, 2, "softmax_topk", True),
            ),
            ModelError,
            "logits requires a gradient, but Samoyeds layers have no backward pass; call the ",
        ),
        (
            lambda: SparseLinear(weight(32, 64), torch.ones(31)),
            ModelError,
            "the bias has shape [31], but [32] is required; ",
        ),
        (
            lambda: SparseMLP(weight(64, 64), weight(64, 32), activation="tanh"),
            ModelError,
            "activation 'tanh' is not one of silu, gelu, gelu_tanh, relu; ",
        ),
        (
            lambda: SparseMLP(weight(64, 64), weight(64, 32, v=16)),
            ModelError,
            "up is (1,2,32) bfloat16 and down (1,2,16) bfloat16, but one format and dtype are ",
        ),
        (
            lambda: SparseMLP(weight(64, 64), weight(64, 32, dtype="fp16")),
            ModelError,
            "up is (1,2,32) bfloat16 and down (1,2,32) float16, but one format and dtype are ",
        ),
        (
            lambda: SparseMLP(weight(64, 64), weight(64, 64)),
            ModelError,
            "an expert's down is 64x64, but its up 64x64 needs 64x32; ",
        ),
        (
            lambda: SparseMLP(weight(48, 64), weight(64, 24)),
            ModelError,
            "24 intermediate and 64 hidden features cannot be stacked, but multiples of 16 and 2 ",
        ),
        (
            lambda: SparseMLP(weight(64, 64, n=8, m=16), weight(64, 32, n=8, m=16)),
            FormatError,
            "gate and up rows of format 8,16,32 cannot be interleaved, since M = 16 does not div",
        ),
        (lambda: experts(count=0), ModelError, "0 experts and 0 shared ones are not a layer; "),
        (
            lambda: experts(count=5),
            ModelError,
            "up of 192 rows and down of 192 are not the weights of 5 experts; stack the weights",
        ),
        (
            lambda: EXPERTS(X, CHOSEN[:3], WEIGHTS),
            ModelError,
            "chosen is torch.int32 [3, 2], but int32 or int64 [4, top] is required; ",
        ),
        (
            lambda: EXPERTS(X, CHOSEN.float(), WEIGHTS),
            ModelError,
            "chosen is torch.float32 [4, 2], but int32 or int64 [4, top] is required; ",
        ),
        (
            lambda: EXPERTS(X, CHOSEN, WEIGHTS[:, :1]),
            ModelError,
            "weights is torch.float32 [4, 1], but a float type and [4, 2] are required; ",
        ),
        (
            lambda: EXPERTS(X, CHOSEN, WEIGHTS, torch.ones(4)),
            ModelError,
            "shared_weight has shape [4], but the layer has 0 shared experts and 4 tokens; ",
        ),
        (
            lambda: EXPERTS(X, CHOSEN, WEIGHTS, torch.ones(3), lone=lone()),
            ModelError,
            "shared_weight has shape [3], but the layer has 1 shared experts and 4 tokens; ",
        ),
        (
            lambda: EXPERTS(X, CHOSEN, WEIGHTS, torch.ones(1, 4), lone=lone()),
            ModelError,
            "shared_weight has shape [1, 4], but the layer has 1 shared experts and 4 tokens; ",
        ),
        (
            lambda: EXPERTS.routed(X, X[:, :3], RULE, None, torch.ones(4)),
            ModelError,
            "shared_weight has shape [4], but the layer has 0 shared experts and 4 tokens; ",
        ),
        (
            lambda: EXPERTS(X, CHOSEN, WEIGHTS, torch.ones(4).double(), lone=lone()),
            ModelError,
            "shared_weight is torch.float64 on cpu, but float32, float16 or bfloat16 on cpu is ",
        ),
        (
            lambda: EXPERTS(X, CHOSEN, WEIGHTS, torch.ones(4, device="meta"), lone=lone()),
            ModelError,
            "shared_weight is torch.float32 on meta, but float32, float16 or bfloat16 on cpu is ",
        ),
        (
            lambda: EXPERTS(X, CHOSEN, WEIGHTS, torch.ones(4, requires_grad=True), lone=lone()),
            ModelError,
            "shared_weight requires a gradient, but Samoyeds layers have no backward pass; ",
        ),
        (
            lambda: EXPERTS(X, CHOSEN, WEIGHTS, lone=lone(activation="relu")),
            ModelError,
            "the lone shared expert is bfloat16, relu, gated=True, but the experts are bfloat16, "
            "silu, gated=True; call it by itself, and add what it gives",
        ),
        (
            lambda: EXPERTS(X, CHOSEN, WEIGHTS, lone=lone(dtype="float16")),
            ModelError,
            "the lone shared expert is float16, silu, gated=True, but the experts are bfloat16, ",
        ),
        (
            lambda: EXPERTS(X, CHOSEN, WEIGHTS, lone=lone(hidden=32)),
            ModelError,
            "the input has shape [4, 64], but [..., 32] is required; pass what the dense layer",
        ),
        (
            lambda: EXPERTS(X, CHOSEN, WEIGHTS, lone=lone().to("meta")),
            ModelError,
            "the input is on cpu, but the layer is on meta; move one of them",
        ),
        (
            lambda: EXPERTS(X, CHOSEN.to("meta"), WEIGHTS),
            ModelError,
            "tokens, chosen and weights are on cpu, meta and cpu, but one device is required; ",
        ),
        (
            lambda: SparseMoE(torch.nn.Linear(64, 3), EXPERTS),
            ModelError,
            "the router is a linear layer, but no rule says how its logits choose experts; ",
        ),
        (
            lambda: SparseMoE(
                torch.nn.Linear(64, 4), EXPERTS, routing=Routing(4, 2, "softmax_topk", True)
            ),
            ModelError,
            "the routing has (experts, shared) (4, 0), but the layer (3, 0); ",
        ),
        (
            lambda: SparseMoE(torch.nn.Identity(), EXPERTS)(X),
            ModelError,
            "the router returned a Tensor, but (logits, weights, experts) or (experts, weights) is",
        ),
        (lambda: use_backend("gpu").__enter__(), ModelError, "backend 'gpu' is not one of auto, "),
    ],
)
def test_layers(call, kind, start):
    refused(call, kind, start)
