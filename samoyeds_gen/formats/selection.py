"""Selections: which rows of the tokens are multiplied, in which order.

Decides what a selection on the host may be; one on a device is never copied back to be checked.
"""

import numpy as np
import numpy.typing as npt

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.formats.arrays import Array, is_tensor, to_numpy


def host_selection(selection: Array | None, tokens: int) -> npt.NDArray[np.int64]:
    """Rows of `tokens` rows that `selection` picks, int64 [count]; every row in order for None.

    `selection` is a 1-D sequence, numpy array or torch tensor of integers in 0 .. tokens - 1, in
    any order; repeats and none at all are legal. Raises LaunchError for anything else.
    """
    if selection is None:
        return np.arange(tokens)
    array = np.asarray(to_numpy(selection) if is_tensor(selection) else selection)
    if array.size == 0 and array.dtype.kind == "f" and isinstance(selection, list | tuple):
        array = array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise LaunchError(
            f"selection is {array.dtype} {list(array.shape)}, but 1-D integers are required",
            remedy="pass row numbers, for example numpy.flatnonzero(mask)",
        )
    outside = (array < 0) | (array >= tokens)
    if outside.any():
        at = int(np.argmax(outside))
        raise LaunchError(
            f"selection[{at}] = {int(array[at])}, but tokens have rows 0..{tokens - 1}",
            remedy="select rows that exist",
        )
    return array.astype(np.int64)
