"""Which formula a routing uses, as names of macros; the reference decides the same way."""

from samoyeds_gen.language.routing import Routing


def score_of_choice(routing: Routing) -> str:
    """What the choice goes by: logits where softmax leaves their order, else scores."""
    sums = routing.grouped and routing.group_score == "top2_sum"
    if routing.kind == "sigmoid_grouped":
        return "score_sigmoid"
    if routing.kind == "topk_softmax" or not (routing.bias or sums):
        return "score_logit"
    return "score_softmax"


def weighs_by(routing: Routing) -> str:
    """How the chosen are weighed."""
    if routing.kind == "sigmoid_grouped":
        return "weigh_share" if routing.renormalise else "weigh_score"
    if routing.renormalise:
        return "weigh_chosen"
    return "weigh_score" if score_of_choice(routing) == "score_softmax" else "weigh_all"
