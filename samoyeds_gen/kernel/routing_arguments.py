"""Checks of the arguments of routing calls. Arrays on a GPU are never read for a check."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.kernel.routing_steps import DTYPES
from samoyeds_gen.language import Routed, Routing
from samoyeds_gen.reference.routing import check_experts
from samoyeds_gen.runtime import (
    ArrayView,
    common_place,
    describe,
    host_array,
    require_axes,
    require_dtype,
    require_rows,
)

FLOATS = ("float32", "bfloat16", "float16")
INDICES = ("int32", "int64")
Views = dict[str, ArrayView]


@dataclass(frozen=True, slots=True)
class RoutingCall:
    """The input arrays of a call by their kernel parameters, and what they say."""

    views: Views
    tokens: int
    values: str
    index: str
    chooses: bool

    @property
    def like(self) -> ArrayView:
        """The array whose library and place results are of."""
        return next(iter(self.views.values()))

    @property
    def gate(self) -> str | None:
        """The dtype of the weights of shared experts, if they have some."""
        found = self.views.get("shared_weight")
        return None if found is None else found.dtype

    @property
    def numbers(self) -> dict[str, int]:
        """Sizes that a launch needs besides its own."""
        if not self.chooses:
            return {}
        view = self.views["logits"]
        return {"logits_stride": view.strides[0] if self.tokens > 1 else view.shape[1]}


def route_call(routing: Routing, logits: Any, bias: Any, shared_weight: Any) -> RoutingCall:
    """Check the arguments of a routing. Raises LaunchError."""
    view = _view("logits", logits, FLOATS, (None, routing.experts))
    require_rows(view, "logits")
    if routing.bias != (bias is not None):
        raise LaunchError(
            f"bias is {'given' if bias is not None else 'missing'}, the routing has "
            f"bias={routing.bias}",
            remedy="give a bias where the routing has one, and only there",
        )
    views = {"logits": view}
    if bias is not None:
        views["bias"] = _packed("bias", _view("bias", bias, ("float32",), (routing.experts,)))
    tokens = view.shape[0]
    return RoutingCall(
        _with_gate(views, routing, shared_weight, tokens), tokens, view.dtype, "int32", True
    )


def sort_call(routing: Routing, experts: Any, weights: Any, shared_weight: Any) -> RoutingCall:
    """Check the arguments of a sort; experts on the host one by one. Raises LaunchError."""
    ids = _packed("experts", _view("experts", experts, INDICES, (None, routing.top_k)))
    tokens = ids.shape[0]
    given = _packed("weights", _view("weights", weights, FLOATS, (tokens, routing.top_k)))
    if ids.kind == "host":
        check_experts(host_array(ids), routing)
    views = {"given_experts": ids, "given_weights": given}
    return RoutingCall(
        _with_gate(views, routing, shared_weight, tokens), tokens, given.dtype, ids.dtype, False
    )


def _with_gate(views: Views, routing: Routing, shared_weight: Any, tokens: int) -> Views:
    """The views with the weights of shared experts, if given, all in one place."""
    if shared_weight is not None:
        if not routing.shared:
            raise LaunchError(
                "shared_weight is given, the routing has no shared experts",
                remedy="leave it out, or describe the routing with shared=1",
            )
        view = _view("shared_weight", shared_weight, FLOATS, (tokens,))
        views["shared_weight"] = _packed("shared_weight", view)
    common_place(views)
    return views


def combine_views(y: Any, slots: Any, scale: Any) -> tuple[ArrayView, ArrayView, ArrayView | None]:
    """Check the arguments of a combination. Raises LaunchError."""
    rows = _view("y", y, FLOATS, (None, None))
    require_rows(rows, "y")
    places = _packed("slots", _view("slots", slots, ("int32",), (None, None)))
    weights = None
    if scale is not None:
        weights = _packed("scale", _view("scale", scale, ("float32",), (rows.shape[0],)))
    common_place({"y": rows, "slots": places} | ({"scale": weights} if weights else {}))
    if not places.shape[1]:
        raise LaunchError(
            "slots have no columns, a token adds up at least one row",
            remedy="give the slots of a routing",
        )
    return rows, places, weights


def check_result(out: Routed, shapes: Mapping[str, tuple[int, ...]], like: ArrayView) -> Routed:
    """The views of given result arrays. Raises LaunchError where one does not fit."""
    views = [describe(each) for each in out]
    for name, view, dtype in zip(Routed._fields, views, DTYPES, strict=True):
        check_out(f"out.{name}", view, shapes[name], dtype, like)
    return Routed(*views)


def check_out(
    name: str, view: ArrayView, shape: tuple[int, ...], dtype: str, like: ArrayView
) -> None:
    """Refuse an array for results that has another shape, dtype or place, or gaps."""
    same = (view.shape, view.dtype, view.device) == (shape, dtype, like.device)
    if not same or not view.contiguous:
        place = "the host" if like.kind == "host" else f"device {like.device}"
        raise LaunchError(
            f"{name} is {view}, the result is a C-ordered {dtype} {list(shape)} on {place}",
            remedy="allocate it so, or leave out out",
        )


def _view(
    name: str, array: Any, dtypes: tuple[str, ...], shape: tuple[int | None, ...]
) -> ArrayView:
    view = describe(array)
    require_dtype(view, dtypes, name)
    require_axes(view, len(shape), name)
    for axis, (have, want) in enumerate(zip(view.shape, shape, strict=True)):
        if want is not None and have != want:
            raise LaunchError(
                f"{name} has shape {list(view.shape)}, axis {axis} must be {want}",
                remedy=f"give {name} that belong to this routing",
            )
    return view


def _packed(name: str, view: ArrayView) -> ArrayView:
    """A view without gaps; a copy of a torch tensor or a host array that has them."""
    if view.contiguous:
        return view
    if view.family == "torch":
        return describe(view.owner.contiguous())
    if view.kind == "host":
        return describe(host_array(view).copy())
    raise LaunchError(f"{name} is not contiguous", remedy="pass a contiguous copy")
