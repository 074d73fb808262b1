"""The weight arrays a plan asks for, packed once per weight, padding and device."""

from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from samoyeds_gen.compiler import Packing, Plan
from samoyeds_gen.formats import (
    SparseWeight,
    expand_slots,
    fragment_data,
    fragment_metadata,
    paired_metadata,
    row_offsets,
    selector_words,
    swap_codes,
    take_rows,
    warpgroup_words,
)
from samoyeds_gen.formats.arrays import to_numpy
from samoyeds_gen.formats.fragments import round_up
from samoyeds_gen.formats.warpgroup import WordFold
from samoyeds_gen.runtime import ArrayView, describe, stage

Words = npt.NDArray[np.uint32] | npt.NDArray[np.uint8]
CHUNK_BYTES = 16  # what one asynchronous copy moves, and hence where weight rows must start


def packed(w: SparseWeight, plan: Plan, experts: int = 1) -> dict[str, Words]:
    """Every derived array of the plan, on the host; made once per weight.

    Of a stack of `experts` weights each one is packed by itself, and what is padded is so for each.
    """
    arrays: dict[str, Words] = {}
    for packing in _packings(plan, w, experts):
        build = partial(_build_stack, packing=packing, experts=experts)
        arrays |= w.derived(_on_host(packing, experts), build)
    return arrays


def _packings(plan: Plan, w: SparseWeight, experts: int) -> list[Packing]:
    """What the plan takes, with the padded rows of this weight for multiples of rows.

    The words are the same, and tiles of two heights pad many a weight to the same rows.
    """
    rows, form = w.shape[0] // experts, w.format
    counts = {"stored": form.stored_rows(rows), "output": form.bands(rows) * form.m}
    return [
        replace(each, row_multiple=round_up(counts[each.rows], each.row_multiple))
        for each in plan.packings
    ]


def _on_host(packing: Packing, experts: int) -> tuple[object, ...]:
    """The name under which a weight keeps a packing on the host."""
    return ("packing", packing, experts)


def _build_stack(w: SparseWeight, packing: Packing, experts: int) -> dict[str, Words]:
    w = w.with_host_metadata()
    if experts == 1:
        return _build(w, packing)
    rows = w.shape[0] // experts
    stacks: dict[str, Words] = {}
    for expert in range(experts):
        own = _build(take_rows(w, expert * rows, (expert + 1) * rows), packing)
        for name, words in own.items():
            if not expert:
                stacks[name] = np.empty((experts, *words.shape), words.dtype)
            stacks[name][expert] = words
    return {name: stack.reshape(-1, *stack.shape[2:]) for name, stack in stacks.items()}


def _build(w: SparseWeight, packing: Packing) -> dict[str, Words]:
    """The packing of one weight, whose values are read only for "weight.fragments"."""
    rows, columns = packing.row_multiple, packing.k_multiple
    match packing.source:
        case "weight.metadata":
            words = fragment_metadata(w, rows=packing.rows, row_multiple=rows, k_multiple=columns)
            return {"weight.metadata": words}
        case "weight.fragments":
            return {packing.source: fragment_data(w, row_multiple=rows, k_multiple=columns)}
        case "weight.metadata_pairs":
            return {packing.source: paired_metadata(w, row_multiple=rows, k_multiple=columns)}
        case "weight.offsets":
            return {packing.source: row_offsets(w, row_multiple=rows, k_multiple=columns)}
        case "weight.swaps":
            codes, placement = swap_codes(w, row_multiple=rows)
            return {"weight.swaps": codes, "weight.placement": placement}
        case "weight.selectors":
            return {"weight.selectors": selector_words(w, row_multiple=rows)}
        case "weight.slots":
            return {"weight.slots": expand_slots(w, row_multiple=rows)}
        case "weight.words":
            fold: WordFold = packing.fold  # type: ignore[assignment]
            blocks = warpgroup_words(w, fold=fold, row_multiple=rows, tile_k=packing.k_multiple)
            return {"weight.words": blocks}
    raise AssertionError(f"no packing makes {packing.source}")


def share_packings(source: SparseWeight, copy: SparseWeight, plan: Plan) -> None:
    """Let a copy of a weight take the derived arrays that its source has, instead of deriving them.

    The arrays on the host are shared; on a GPU each weight has its own.
    """
    for packing in _packings(plan, source, 1):
        key = _on_host(packing, 1)
        words = source.derived(key, partial(_build_stack, packing=packing, experts=1))
        copy.derived(key, partial(_taken, words=words))


def _taken(_: SparseWeight, words: dict[str, Words]) -> dict[str, Words]:
    return words


def streamed_bytes(w: SparseWeight, plan: Plan, device: int) -> int:
    """Bytes of the weight's arrays that a launch of the plan is handed: values, metadata and words
    of the fold.
    """
    arrays = on_device(w, plan, plan.packing_key, device)
    return sum(view.size * view.itemsize for name, view in arrays.items() if plan.takes(name))


def on_device(
    w: SparseWeight, plan: Plan, key: str, device: int, experts: int = 1
) -> dict[str, ArrayView]:
    """Every weight array that the plan takes in the memory of GPU `device`, uploaded once.

    `key` is `plan.packing_key`, which the caller keeps because a call may take only microseconds.
    Plans share what they take alike. Words made for the upload alone are not kept on the host.
    """

    def gather(w: SparseWeight) -> dict[str, ArrayView]:
        views: dict[str, ArrayView] = {}
        for packing in _packings(plan, w, experts):
            upload = partial(_upload, packing=packing, device=device, experts=experts)
            views |= w.derived(("uploaded", packing, experts, device), upload)
        if plan.takes("weight.data"):
            views["weight.data"] = w.derived(("data", device), partial(_data, device=device))
        return views

    return w.derived((key, device, experts), gather)


def _upload(w: SparseWeight, packing: Packing, device: int, experts: int) -> dict[str, ArrayView]:
    words = w.known(_on_host(packing, experts))
    if words is None:
        words = _build_stack(w, packing, experts)
    return {name: stage(array, device) for name, array in words.items()}


def _data(w: SparseWeight, device: int) -> ArrayView:
    """The stored values on a GPU: where they are, if they are there as kernels read them."""
    view = describe(w.data)
    there = view.kind == "device" and view.device == device
    if there and view.contiguous and view.pointer % CHUNK_BYTES == 0:
        return view
    return stage(to_numpy(w.data), device)
