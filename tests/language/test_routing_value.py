"""A routing is a checked value: what fits together, and what is refused."""

import pytest

from samoyeds_gen.errors import ScheduleError
from samoyeds_gen.language import Routing


def test_the_group_score_follows_the_kind():
    assert Routing(8, 2, "softmax_topk", True).group_score == "max"
    assert Routing(8, 2, "sigmoid_grouped", True).group_score == "top2_sum"
    explicit = Routing(8, 2, "sigmoid_grouped", True, group_score="top2_sum")
    assert explicit == Routing(8, 2, "sigmoid_grouped", True)
    assert len({explicit, Routing(8, 2, "sigmoid_grouped", True)}) == 1


def test_derived_numbers():
    routing = Routing(160, 6, "softmax_topk", False, groups=8, top_groups=3, shared=2)
    assert (routing.choices, routing.group_size, routing.grouped) == (8, 20, True)
    assert not Routing(160, 6, "softmax_topk", False, groups=8, top_groups=8).grouped


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "softmax"}, "routing-names: kind 'softmax' is not one of softmax_topk, topk"),
        ({"group_score": "sum"}, "routing-names: group_score 'sum' is not one of max, top2_sum"),
        ({"experts": 0}, "routing-counts: experts=0 is not a whole number of 1 to 512"),
        ({"experts": 513}, "routing-counts: experts=513 is not a whole number of 1 to 512"),
        ({"experts": 8.0}, "routing-counts: experts=8.0 is not a whole number of 1 to 512"),
        ({"top_k": 9}, "routing-counts: top_k=9 is not a whole number of 1 to 8"),
        ({"top_k": True}, "routing-counts: top_k=True is not a whole number of 1 to 8"),
        ({"experts": 64, "top_k": 33}, "routing-counts: top_k=33 is not a whole number of 1 to 32"),
        ({"shared": -1}, "routing-counts: shared=-1 is not a whole number of 0 to 64"),
        ({"groups": 9}, "routing-counts: groups=9 is not a whole number of 1 to 8"),
        ({"groups": 2, "top_groups": 3}, "routing-counts: top_groups=3 is not a whole number of"),
        ({"groups": 3}, "routing-groups: 8 experts do not divide into 3 groups"),
        ({"groups": 8, "group_score": "top2_sum"}, "routing-groups: groups of 1 expert have no"),
        ({"groups": 8, "top_groups": 1}, "routing-groups: top_k=2 of 1 groups of 1 experts"),
        ({"kind": "topk_softmax", "renormalise": False}, "routing-weights: topk_softmax with"),
        ({"scaling": float("inf")}, "routing-weights: scaling inf is not a finite number"),
    ],
)
def test_refuses(values, message):
    legal = {"experts": 8, "top_k": 2, "kind": "softmax_topk", "renormalise": True}
    with pytest.raises(ScheduleError) as caught:
        Routing(**(legal | values))
    assert str(caught.value).startswith(message)
    assert caught.value.remedy
