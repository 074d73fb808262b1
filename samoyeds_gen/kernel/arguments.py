"""Checks of one call's arguments, and the numbers the kernel is launched with.

Every refusal is a LaunchError of one sentence. Arrays on a GPU are never read for a check.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.formats import Format, SparseWeight
from samoyeds_gen.runtime import ArrayView, describe, require_axes, require_dtype, require_rows

INDEX_TYPES = ("int32", "int64")
MAX_TOKENS = 2**31 - 1  # kernels count rows in 32 bits


@dataclass(frozen=True, slots=True)
class Call:
    """The arrays of one call as views, and its sizes: n outputs of m features from k columns."""

    w: SparseWeight
    tokens: ArrayView
    selection: ArrayView | None
    bias: ArrayView | None
    scale: ArrayView | None
    m: int
    n: int
    k: int


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
