"""The weight arrays a plan asks for, packed once per weight, padding and device."""

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
from samoyeds_gen.formats.warpgroup import WordFold
from samoyeds_gen.runtime import ArrayView, describe, stage

Words = npt.NDArray[np.uint32] | npt.NDArray[np.uint8]
CHUNK_BYTES = 16  # what one asynchronous copy moves, and hence where weight rows must start


def packed(w: SparseWeight, plan: Plan, experts: int = 1) -> dict[str, Words]:
    """Every derived array of the plan, on the host; made once per weight.

    Of a stack of `experts` weights each one is packed by itself, and what is padded is so for each.
    """
    arrays: dict[str, Words] = {}
    for packing in plan.packings:
        build = partial(_build_stack, packing=packing, experts=experts)
        arrays |= w.derived(("packing", packing, experts), build)
    return arrays


def _build_stack(w: SparseWeight, packing: Packing, experts: int) -> dict[str, Words]:
    if experts == 1:
        return _build(w, packing)
    host, rows = w.numpy(), w.shape[0] // experts
    built = [_build(take_rows(host, e * rows, (e + 1) * rows), packing) for e in range(experts)]
    return {name: np.concatenate([each[name] for each in built]) for name in built[0]}


def _build(w: SparseWeight, packing: Packing) -> dict[str, Words]:
    host = w.numpy()
    rows, columns = packing.row_multiple, packing.k_multiple
    match packing.source:
        case "weight.metadata":
            words = fragment_metadata(
                host, rows=packing.rows, row_multiple=rows, k_multiple=columns
            )
            return {"weight.metadata": words}
        case "weight.fragments":
            return {packing.source: fragment_data(host, row_multiple=rows, k_multiple=columns)}
        case "weight.metadata_pairs":
            return {packing.source: paired_metadata(host, row_multiple=rows, k_multiple=columns)}
        case "weight.offsets":
            return {packing.source: row_offsets(host, row_multiple=rows, k_multiple=columns)}
        case "weight.swaps":
            codes, placement = swap_codes(host, row_multiple=rows)
            return {"weight.swaps": codes, "weight.placement": placement}
        case "weight.selectors":
            return {"weight.selectors": selector_words(host, row_multiple=rows)}
        case "weight.slots":
            return {"weight.slots": expand_slots(host, row_multiple=rows)}
        case "weight.words":
            fold: WordFold = packing.fold  # type: ignore[assignment]
            blocks = warpgroup_words(host, fold=fold, row_multiple=rows, tile_k=packing.k_multiple)
            return {"weight.words": blocks}
    raise AssertionError(f"no packing makes {packing.source}")


def share_packings(source: SparseWeight, copy: SparseWeight, plan: Plan) -> None:
    """Let a copy of a weight take the derived arrays that its source has, instead of deriving them.

    The arrays on the host are shared; on a GPU each weight has its own.
    """
    for packing in plan.packings:
        key = ("packing", packing, 1)
        source.derived(key, partial(_build, packing=packing))
        copy.derived(key, partial(_taken, source=source, packing=packing))


def _taken(w: SparseWeight, source: SparseWeight, packing: Packing) -> dict[str, Words]:
    return source.derived(("packing", packing, 1), partial(_build, packing=packing))


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
    """

    def upload(w: SparseWeight) -> dict[str, ArrayView]:
        words = {name: stage(array, device) for name, array in packed(w, plan, experts).items()}
        if not plan.takes("weight.data"):
            return words
        data = describe(w.data)
        there = data.kind == "device" and data.device == device
        if not (there and data.contiguous and data.pointer % CHUNK_BYTES == 0):
            data = stage(w.numpy().data, device)
        return {"weight.data": data, **words}

    return w.derived((key, device, experts), upload)
