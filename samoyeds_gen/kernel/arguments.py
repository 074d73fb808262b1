"""Checks of one call's arguments, and the numbers the kernel is launched with.

Every refusal is a LaunchError of one sentence. Arrays on a GPU are never read for a check.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.formats import Format, SparseWeight
from samoyeds_gen.runtime import (
    ArrayView,
    describe,
    host_array,
    require_axes,
    require_dtype,
    require_rows,
)

INDEX_TYPES = ("int32", "int64")
MAX_TOKENS = 2**31 - 1  # kernels count rows in 32 bits


@dataclass(frozen=True, slots=True)
class Call:
    """The arrays of one call as views, and its sizes: n outputs of m features from k columns.

    Of a stack of `experts` weights, m are the rows of one; the rows of out from offsets[e] to
    offsets[e + 1] are expert e's. `features` are those of out, half as many where it is gated.
    """

    w: SparseWeight
    tokens: ArrayView
    selection: ArrayView | None
    bias: ArrayView | None
    scale: ArrayView | None
    m: int
    n: int
    k: int
    features: int
    experts: int = 1
    offsets: ArrayView | None = None


def describe_call(
    w: SparseWeight,
    format: Format,
    dtype: str,
    tokens: Any,
    selection: Any,
    bias: Any,
    scale: Any,
) -> Call:
    """Check the arguments against the kernel and each other."""
    if not isinstance(w, SparseWeight):
        raise LaunchError(
            f"the weight is a {type(w).__name__}, not a SparseWeight",
            remedy="encode it with samoyeds_gen.encode",
        )
    if w.format != format or w.dtype != dtype:
        raise LaunchError(
            f"the weight is ({w.format}) {w.dtype}, the kernel takes ({format}) {dtype}",
            remedy="compile the schedule for the weight's format and dtype",
        )
    m, k = w.shape
    view = _view("tokens", tokens, (w.dtype,), 2)
    require_rows(view, "tokens")
    if view.shape[1] != k:
        raise LaunchError(
            f"tokens are [{view.shape[0]}, {view.shape[1]}], the weight has k={k} columns",
            remedy=f"give tokens [T, {k}]",
        )
    if view.shape[0] > MAX_TOKENS:
        raise LaunchError(
            f"tokens have {view.shape[0]} rows, at most {MAX_TOKENS} are allowed",
            remedy="split the tokens",
        )
    chosen = None if selection is None else _selection(selection, view)
    n = view.shape[0] if chosen is None else chosen.shape[0]
    return Call(
        w,
        view,
        chosen,
        None if bias is None else _vector("bias", bias, m),
        None if scale is None else _vector("scale", scale, n),
        m,
        n,
        k,
        m,
    )


def describe_experts(
    call: Call, offsets: Any, gate_block: int, max_experts: int, *, check: bool = True
) -> Call:
    """The call of a grouped kernel: `offsets` [experts + 1] int32 cut the rows of out among the
    experts stacked in the weight; `gate_block` output rows of gate and of up alternate, 0 for none.

    `check` looks at the values of a host array: they start at 0, never fall, and end at n.
    """
    view = _view("offsets", offsets, ("int32",), 1)
    experts, (rows, _), form = view.shape[0] - 1, call.w.shape, call.w.format
    if not 1 <= experts <= max_experts:
        raise LaunchError(
            f"offsets have {view.shape[0]} entries, one more than experts is needed and there are "
            f"1 to {max_experts} experts",
            remedy="give the exclusive prefix sums of the experts' token counts, and their total",
        )
    if rows % experts or rows // experts % max(form.m, 2 * gate_block):
        unit = max(form.m, 2 * gate_block)
        raise LaunchError(
            f"the weight has {rows} rows for {experts} experts, each needs the same number of "
            f"rows, a multiple of {unit}",
            remedy="stack equal experts with stack_weights, gate and up with interleave_rows",
        )
    if check and view.kind == "host":
        _check_offsets(host_array(view), call.n)
    m = rows // experts
    features = m // 2 if gate_block else m
    return replace(call, m=m, features=features, experts=experts, offsets=view)


def _check_offsets(values: np.ndarray[Any, Any], n: int) -> None:
    falls = np.flatnonzero(np.diff(values) < 0)
    if values[0] != 0 or values[-1] != n or falls.size:
        at = f"offsets[{falls[0] + 1}] falls to {values[falls[0] + 1]}" if falls.size else ""
        ends = f"offsets go from {values[0]} to {values[-1]}"
        raise LaunchError(
            f"{at or ends}, they have to rise from 0 to n={n}",
            remedy="give the exclusive prefix sums of the experts' token counts, and their total",
        )


def check_rows(selection: ArrayView, tokens: ArrayView, rows: np.ndarray[Any, Any]) -> None:
    """Refuse a selected row outside the tokens. `rows` are the selection's values on the host."""
    bad = np.flatnonzero((rows < 0) | (rows >= tokens.shape[0]))
    if bad.size:
        raise LaunchError(
            f"selection[{bad[0]}] is {rows[bad[0]]}, {_rows_of(tokens)}",
            remedy="select only rows that exist",
        )


def _rows_of(tokens: ArrayView) -> str:
    count = tokens.shape[0]
    return f"tokens have rows 0 to {count - 1}" if count else "tokens have no rows"


def _selection(selection: Any, tokens: ArrayView) -> ArrayView:
    if isinstance(selection, list | tuple | range) and not isinstance(selection, ArrayView):
        selection = _integers(selection)
    if isinstance(selection, np.ndarray) and selection.dtype.kind in "iu":
        if selection.dtype == np.uint64 and selection.size and selection.max() > 2**63 - 1:
            raise LaunchError(
                f"selection holds {selection.max()}, {_rows_of(tokens)}",
                remedy="select only rows that exist",
            )
        if selection.dtype.name not in INDEX_TYPES:
            selection = selection.astype(np.int64)
    return _view("selection", selection, INDEX_TYPES, 1)


def _integers(selection: Sequence[Any]) -> np.ndarray[Any, Any]:
    """A Python sequence of rows as an array; an empty one is a legal selection."""
    try:
        rows = np.asarray(selection, dtype=None if len(selection) else np.int64)
    except ValueError:
        rows = np.empty(0, object)
    if rows.dtype.kind not in "iu":
        raise LaunchError(
            "selection is a sequence of something else than integers",
            remedy="give token rows, such as [3, 0, 3]",
        )
    return rows


def _vector(name: str, array: Any, size: int) -> ArrayView:
    view = _view(name, array, ("float32",), 1)
    if view.shape[0] != size:
        raise LaunchError(
            f"{name} has {view.shape[0]} entries, {size} are needed", remedy=f"give {name} [{size}]"
        )
    return view


def _view(name: str, array: Any, dtypes: tuple[str, ...], axes: int) -> ArrayView:
    view = describe(array)
    require_dtype(view, dtypes, name)
    require_axes(view, axes, name)
    return view
