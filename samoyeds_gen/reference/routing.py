"""What the routing kernels compute, in numpy and bit by bit: choice, weights, slots, combination.

Decides ties (the lower expert wins) and what NaN does (it ranks last, and shows in the weights).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.formats import ELEMENTS
from samoyeds_gen.formats.arrays import Array, is_tensor, to_numpy
from samoyeds_gen.language.routing import Routed, Routing
from samoyeds_gen.reference.exponential import Singles, exponential, lane_sum, sigmoid

Integers = npt.NDArray[np.int32]
Ranks = npt.NDArray[np.int64]

REMOVED = 0
"""The rank of an expert that cannot be chosen, below that of minus infinity."""

SUM_FLOOR = np.float32(1e-20)


def route(
    logits: Array, routing: Routing, bias: Array | None = None, shared_weight: Array | None = None
) -> Routed:
    """Choose experts for `logits` [T, experts] (float32, bfloat16 or float16) and sort the tokens.

    `bias` [experts] float32 is given if `routing.bias`; `shared_weight` [T], of any of the three
    types, weighs what shared experts add, 1 without it. A NaN logit counts as minus infinity in the
    choice, and makes all weights of its token NaN. Raises LaunchError for other types and shapes.
    """
    given = _array("logits", logits, tuple(ELEMENTS), (None, routing.experts)).astype(np.float32)
    if routing.bias != (bias is not None):
        raise LaunchError(
            f"bias is {'given' if bias is not None else 'missing'}, the routing has "
            f"bias={routing.bias}",
            remedy="give a bias where the routing has one, and only there",
        )
    added = None if bias is None else _array("bias", bias, ("float32",), (routing.experts,))
    lost = np.isnan(given)
    x = np.where(lost, np.float32(-np.inf), given)
    scores = scores_of(x, routing)
    ranks = rank(scores if added is None else _add(scores, added))
    if routing.grouped:
        ranks = np.where(np.repeat(kept_groups(ranks, routing), routing.group_size, 1), ranks, 0)
    experts = np.argsort(-ranks, axis=1, kind="stable")[:, : routing.top_k].astype(np.int32)
    weights = weights_of(x, scores, experts, routing)
    weights = np.where(lost.any(axis=1, keepdims=True), np.float32(np.nan), weights)
    return dispatch(experts, weights, routing, shared_weight)


def chooses_by_logit(routing: Routing) -> bool:
    """Whether the choice goes by the logits themselves, which softmax leaves in order.

    Then no two logits tie because their rounded probabilities do.
    """
    sums = routing.grouped and routing.group_score == "top2_sum"
    logits = routing.kind == "topk_softmax"
    return logits or (routing.kind == "softmax_topk" and not routing.bias and not sums)


def scores_of(x: Singles, routing: Routing) -> Singles:
    """What the choice goes by, before the bias: float32 [T, experts]."""
    if chooses_by_logit(routing):
        return x
    if routing.kind == "sigmoid_grouped":
        return sigmoid(x)
    return _softmax(x)


def rank(scores: Singles) -> Ranks:
    """Whole numbers in the order of the scores, above REMOVED; zeros of both signs are equal.

    NaN ranks as minus infinity.
    """
    clean = np.where(np.isnan(scores), np.float32(-np.inf), scores)
    clean = np.where(clean == 0, np.float32(0), clean)
    bits = np.ascontiguousarray(clean).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -1 - bits, bits + 2**31)


def kept_groups(ranks: Ranks, routing: Routing) -> npt.NDArray[np.bool_]:
    """Which groups are kept: bool [T, groups]."""
    members = ranks.reshape(len(ranks), routing.groups, routing.group_size)
    best = -np.sort(-members, axis=2)
    scores = best[:, :, 0]
    if routing.group_score == "top2_sum":
        scores = rank(_add(score_of(best[:, :, 0]), score_of(best[:, :, 1])))
    order = np.argsort(-scores, axis=1, kind="stable")[:, : routing.top_groups]
    kept = np.zeros(scores.shape, bool)
    np.put_along_axis(kept, order, True, axis=1)
    return kept


def score_of(ranks: Ranks) -> Singles:
    """The score of a rank."""
    bits = np.where(ranks < 2**31, -1 - ranks, ranks - 2**31)
    return bits.astype(np.int32).view(np.float32)


def weights_of(x: Singles, scores: Singles, experts: Integers, routing: Routing) -> Singles:
    """Weights of the chosen experts: float32 [T, top_k]."""
    with np.errstate(all="ignore"):
        if routing.kind == "sigmoid_grouped":
            weights = np.take_along_axis(scores, experts, axis=1)
            if routing.renormalise:
                weights = weights / (lane_sum(weights) + SUM_FLOOR)[:, None]
        elif routing.renormalise:
            weights = _softmax(np.take_along_axis(x, experts, axis=1))
        else:
            weights = np.take_along_axis(_softmax(x), experts, axis=1)
        if routing.scaling != 1:
            weights = weights * np.float32(routing.scaling)
    return np.asarray(weights)


def dispatch(
    experts: Array, weights: Array, routing: Routing, shared_weight: Array | None = None
) -> Routed:
    """Sort tokens by the experts that somebody chose for them.

    `experts` [T, top_k] are int32 or int64, without repeats in a row; `weights` [T, top_k] float32,
    bfloat16 or float16, and so is `shared_weight` [T]. Raises LaunchError for others, and for an
    expert that does not exist.
    """
    shape = (None, routing.top_k)
    ids = _array("experts", experts, ("int32", "int64"), shape)
    check_experts(ids, routing)
    tokens = len(ids)
    given = _array("weights", weights, tuple(ELEMENTS), (tokens, routing.top_k))
    chosen, weighed = ids.astype(np.int32), given.astype(np.float32)
    extra = np.ones(tokens, np.float32)
    if shared_weight is not None:
        extra = _array("shared_weight", shared_weight, tuple(ELEMENTS), (tokens,))
        extra = extra.astype(np.float32)
    everyone = np.arange(routing.experts, routing.experts + routing.shared, dtype=np.int32)
    every = np.concatenate([chosen, np.tile(everyone, (tokens, 1))], axis=1)
    scales = np.concatenate([weighed, np.tile(extra[:, None], (1, routing.shared))], axis=1)
    order = np.argsort(every.ravel(), kind="stable")
    slots = np.empty(order.size, np.int32)
    slots[order] = np.arange(order.size, dtype=np.int32)
    counts = np.bincount(every.ravel(), minlength=routing.experts + routing.shared)
    return Routed(
        experts=chosen,
        weights=weighed,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        selection=(order // routing.choices).astype(np.int32),
        scale=scales.ravel()[order],
        slots=slots.reshape(tokens, routing.choices),
    )


def combine(y: Array, slots: Array, scale: Array | None = None) -> npt.NDArray[Any]:
    """out[t] = y[slots[t, 0]] + y[slots[t, 1]] + ..., in float32 and in this order, rounded once.

    `y` [slots, H] is float32, bfloat16 or float16, `slots` [T, K] int32; out [T, H] is of the dtype
    of y. With `scale` float32 [slots], each row is multiplied by its own first, in float32.
    Raises LaunchError for others, and for a slot that does not exist.
    """
    rows = _array("y", y, tuple(ELEMENTS), (None, None))
    places = _array("slots", slots, ("int32",), (None, None))
    check_slots(places, len(rows))
    weights = None if scale is None else _array("scale", scale, ("float32",), (len(rows),))
    total = np.zeros((len(places), rows.shape[1]), np.float32)
    with np.errstate(all="ignore"):
        for column in range(places.shape[1]):
            part = rows[places[:, column]].astype(np.float32)
            if weights is not None:
                part = weights[places[:, column], None] * part
            total = part if column == 0 else total + part
        return total.astype(rows.dtype)


def check_experts(ids: npt.NDArray[Any], routing: Routing) -> None:
    """Refuse ids [T, top_k] of experts that do not exist or that a token has twice."""
    bad = np.argwhere((ids < 0) | (ids >= routing.experts))
    if len(bad):
        token, choice = bad[0]
        raise LaunchError(
            f"experts[{token}, {choice}] is {ids[token, choice]}, "
            f"experts are 0 to {routing.experts - 1}",
            remedy="choose experts that exist",
        )
    ordered = np.sort(ids, axis=1)
    twice = np.argwhere(ordered[:, 1:] == ordered[:, :-1])
    if len(twice):
        token, at = twice[0]
        raise LaunchError(
            f"token {token} has expert {ordered[token, at]} twice",
            remedy="choose each expert once and add up its weights",
        )


def check_slots(slots: npt.NDArray[Any], rows: int) -> None:
    """Refuse slots [T, K] that are none of so many rows."""
    bad = np.argwhere((slots < 0) | (slots >= rows))
    if len(bad):
        token, choice = bad[0]
        raise LaunchError(
            f"slots[{token}, {choice}] is {slots[token, choice]}, y has {rows} rows",
            remedy="combine with the slots that y was computed for",
        )


def _softmax(x: Singles) -> Singles:
    """Softmax of the rows: exponentials of the distance to the largest, over their sum."""
    with np.errstate(all="ignore"):
        largest = score_of(rank(x).max(axis=1, keepdims=True, initial=0))
        powers = exponential(x - largest)
        return np.asarray(powers / lane_sum(powers)[:, None])


def _add(a: Singles, b: Singles) -> Singles:
    with np.errstate(all="ignore"):
        return np.asarray(a + b)


def _array(
    name: str, value: Array, kinds: tuple[str, ...], shape: tuple[int | None, ...]
) -> npt.NDArray[Any]:
    """The numpy array of an argument, of one of these dtypes and this shape; LaunchError."""
    if not is_tensor(value) and not isinstance(value, np.ndarray):
        raise LaunchError(
            f"{name} is a {type(value).__name__}, but a numpy array or torch tensor is required",
            remedy=f"pass {kinds[0]} values in an array",
        )
    array: npt.NDArray[Any] = np.asarray(to_numpy(value))
    fits = len(shape) == array.ndim and all(
        want in (None, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if array.dtype.name not in kinds or not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise LaunchError(
            f"{name} is {array.dtype.name} {list(array.shape)}, but {' or '.join(kinds)} "
            f"[{wanted}] is required",
            remedy=f"convert or reshape {name}",
        )
    return array
