"""The formulas are those of the routers in the transformers package, on random logits."""

import numpy as np
import pytest

from samoyeds_gen.language import Routing
from samoyeds_gen.reference import route

pytestmark = pytest.mark.torch

TOKENS, EXPERTS, CHOICES = 64, 32, 4
SIZES = {"hidden_size": EXPERTS, "num_experts_per_tok": CHOICES}
GROUPS = {"n_group": 8, "topk_group": 3, "routed_scaling_factor": 2.5}


def routers():
    """Name of a model, its router's class, its configuration, and what we call its routing."""
    for model, camel in (("qwen2_moe", "Qwen2Moe"), ("qwen3_moe", "Qwen3Moe"), ("olmoe", "Olmoe")):
        for normalised in (False, True):
            yield pytest.param(
                model, f"{camel}TopKRouter", f"{camel}Config",
                {"num_experts": EXPERTS, "norm_topk_prob": normalised},
                Routing(EXPERTS, CHOICES, "softmax_topk", normalised),
                id=f"{model}-{normalised}",
            )  # fmt: skip
    for kind in ("softmax_topk", "topk_softmax"):
        yield pytest.param(
            "mixtral", "MixtralTopKRouter", "MixtralConfig", {"num_local_experts": EXPERTS},
            Routing(EXPERTS, CHOICES, kind, True), id=f"mixtral-{kind}",
        )  # fmt: skip
    for method in ("greedy", "group_limited_greedy"):
        groups = {"groups": 8, "top_groups": 3} if method != "greedy" else {}
        yield pytest.param(
            "deepseek_v2", "DeepseekV2TopkRouter", "DeepseekV2Config",
            {"n_routed_experts": EXPERTS, "topk_method": method, **GROUPS},
            Routing(EXPERTS, CHOICES, "softmax_topk", False, scaling=2.5, **groups),
            id=f"deepseek_v2-{method}",
        )  # fmt: skip
    for normalised in (False, True):
        yield pytest.param(
            "deepseek_v3", "DeepseekV3TopkRouter", "DeepseekV3Config",
            {"n_routed_experts": EXPERTS, "norm_topk_prob": normalised, **GROUPS},
            Routing(EXPERTS, CHOICES, "sigmoid_grouped", normalised, scaling=2.5, groups=8,
                    top_groups=3, bias=True),
            id=f"deepseek_v3-{normalised}",
        )  # fmt: skip


@pytest.mark.parametrize(("model", "router", "config", "values", "routing"), list(routers()))
def test_route_is_what_the_model_does(model, router, config, values, routing):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
    from importlib import import_module

    modeling = import_module(f"transformers.models.{model}.modeling_{model}")
    made = getattr(import_module(f"transformers.models.{model}"), config)(**SIZES, **values)
    theirs = getattr(modeling, router)(made)
    generator = torch.Generator().manual_seed(len(model))
    logits = torch.randn(TOKENS, EXPERTS, generator=generator)
    bias = torch.randn(EXPERTS, generator=generator) / 10 if routing.bias else None
    with torch.no_grad():
        theirs.weight.copy_(torch.eye(EXPERTS))  # so that hidden states are the logits
        if bias is not None:
            theirs.e_score_correction_bias.copy_(bias)
        _, weights, experts = theirs(logits)
    ours = route(logits, routing, bias)
    order = np.argsort(ours.experts, axis=1)
    wanted = np.argsort(experts.numpy(), axis=1)
    sorted_ids = np.take_along_axis(experts.numpy(), wanted, axis=1)
    np.testing.assert_array_equal(np.take_along_axis(ours.experts, order, axis=1), sorted_ids)
    np.testing.assert_allclose(
        np.take_along_axis(ours.weights, order, axis=1),
        np.take_along_axis(weights.numpy(), wanted, axis=1),
        rtol=2e-6,
    )
