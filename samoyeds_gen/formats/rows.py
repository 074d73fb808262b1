"""Stacking, cutting and interleaving encoded weights along their output rows.

Decides which cuts fall between bands of M rows, so that stored rows only move and the encoded rows
stay what they were; nothing is decoded or encoded again.
"""

from collections.abc import Callable, Sequence

from samoyeds_gen.errors import FormatError
from samoyeds_gen.formats.arrays import Array, arrays_of
from samoyeds_gen.formats.format import Format
from samoyeds_gen.formats.weight import SparseWeight

UNIT_ROWS = 8
"""Accumulator rows that one matrix instruction gives to a thread's register pair at a time."""


def gate_block(form: Format) -> int:
    """Output rows of gate, then of up, that `interleave_rows` puts side by side for gated kernels.

    8 accumulator rows: with N = 1, M of 2 or 4 and V % 128 of 0, 32 or 64 an accumulator row is a
    stored row (the prefix fold of ssmm_sm90), hence 8 * M output rows; else 8 output rows. Raises
    FormatError for a format whose M is neither and does not divide 8.
    """
    if form.n == 1 and form.m in (2, 4) and form.v % 128 in (0, 32, 64):
        return UNIT_ROWS * form.m
    if UNIT_ROWS % form.m:
        raise FormatError(
            f"gate and up rows of format {form} cannot be interleaved, "
            f"since M = {form.m} does not divide {UNIT_ROWS}",
            remedy="choose M = 1, 2, 4 or 8",
        )
    return UNIT_ROWS


def stack_weights(weights: Sequence[SparseWeight]) -> SparseWeight:
    """One weight [sum of m, k] holding the rows of `weights` [m, k] one below the other.

    Decodes to the concatenation of the decoded weights. They share format, dtype, k, library and
    device, and each but the last ends with a whole band of M rows. Raises FormatError else.
    """
    if not weights:
        raise FormatError("no weights are given to stack", remedy="pass at least one")
    first = weights[0]
    for place, each in enumerate(weights):
        _same("weights[0]", first, f"weights[{place}]", each)
        if place < len(weights) - 1:
            _whole(f"weights[{place}]", each.shape[0], each.format)
    rows = sum(each.shape[0] for each in weights)
    return _rebuild(first, rows, lambda name: _join([getattr(each, name) for each in weights], 0))


def take_rows(w: SparseWeight, start: int, stop: int) -> SparseWeight:
    """Output rows start <= i < stop of `w` [m, k], as a weight [stop - start, k].

    Decodes to `w.decode()[start:stop]`; shares memory with `w`. Raises FormatError for an empty
    or outlying range, and for one that begins or ends inside a band of M rows.
    """
    m, _ = w.shape
    if not 0 <= start < stop <= m:
        raise FormatError(
            f"rows {start} to {stop} are asked for, but 0 <= start < stop <= {m} is required",
            remedy="take rows that exist",
        )
    form = w.format
    if start % form.m or (stop % form.m and stop != m):
        raise FormatError(
            f"rows {start} to {stop} cut a band of {form.m} rows",
            remedy=f"cut at multiples of {form.m}",
        )
    stored = slice(form.stored_rows(start), form.stored_rows(stop))
    return _rebuild(w, stop - start, lambda name: getattr(w, name)[stored])


def interleave_rows(gate: SparseWeight, up: SparseWeight, block: int) -> SparseWeight:
    """One weight [2 m, k]: `block` rows of `gate` [m, k], as many of `up` [m, k], and so on.

    `block` is a multiple of M and divides m; `gate_block` says which one kernels want. Raises
    FormatError for another block and for weights that differ in shape, format, dtype or place.
    """
    _same("gate", gate, "up", up)
    m, _ = gate.shape
    if up.shape[0] != m:
        raise FormatError(
            f"gate has {m} rows and up {up.shape[0]}, but as many are required",
            remedy="interleave the two halves of one layer",
        )
    stored = _block(gate.format, m, block)

    def woven(name: str) -> Array:
        parts = [getattr(each, name) for each in (gate, up)]
        columns = parts[0].shape[1]
        return _join([each.reshape(-1, stored, columns) for each in parts], 1).reshape(-1, columns)

    return _rebuild(gate, 2 * m, woven)


def deinterleave_rows(w: SparseWeight, block: int) -> tuple[SparseWeight, SparseWeight]:
    """The (gate, up) [m, k] that `interleave_rows` made `w` [2 m, k] of. Raises FormatError."""
    m, odd = divmod(w.shape[0], 2)
    if odd:
        raise FormatError(
            f"a weight of {w.shape[0]} rows is not two interleaved halves",
            remedy="pass what interleave_rows returned",
        )
    stored = _block(w.format, m, block)

    def half(which: int) -> SparseWeight:
        def part(name: str) -> Array:
            array = getattr(w, name)
            columns = array.shape[1]
            chosen = array.reshape(-1, 2, stored, columns)[:, which]
            return chosen.reshape(-1, columns)

        return _rebuild(w, m, part)

    return half(0), half(1)


def _block(form: Format, m: int, block: int) -> int:
    """Stored rows of a block of `block` output rows, which has to divide `m` rows."""
    if block < 1 or block % form.m or m % block:
        raise FormatError(
            f"{m} rows of format {form} cannot be interleaved by {block}, but a multiple of "
            f"{form.m} that divides {m} is required",
            remedy="pad the rows, or choose another block",
        )
    return form.stored_rows(block)


def _rebuild(like: SparseWeight, rows: int, array: Callable[[str], Array]) -> SparseWeight:
    return SparseWeight(
        format=like.format,
        dtype=like.dtype,
        shape=(rows, like.shape[1]),
        data=array("data"),
        metadata=array("metadata"),
        indices=None if like.indices is None else array("indices"),
    )


def _join(parts: list[Array], axis: int) -> Array:
    return arrays_of(parts[0]).join(parts, axis)


def _whole(name: str, rows: int, form: Format) -> None:
    if rows % form.m:
        raise FormatError(
            f"{name} has {rows} rows, but whole bands of {form.m} are required before another "
            "weight",
            remedy=f"pad it to a multiple of {form.m} rows",
        )


def _same(left: str, a: SparseWeight, right: str, b: SparseWeight) -> None:
    for what, mine, theirs in (
        ("format", a.format, b.format),
        ("dtype", a.dtype, b.dtype),
        ("k", a.shape[1], b.shape[1]),
        ("place", a.place, b.place),
    ):
        if mine != theirs:
            raise FormatError(
                f"{left} has {what} {mine} and {right} has {theirs}, but one {what} is required",
                remedy="encode them alike",
            )
