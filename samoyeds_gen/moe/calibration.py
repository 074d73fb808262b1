"""What pruning knows of a layer's inputs: sums over tokens, gathered batch by batch.

Decides which inputs are accepted and in what precision they are summed; how the sums are used is
decided by each method.
"""

import math

import torch

from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats.arrays import Array, Device, is_tensor

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
SUMS = (torch.float64, torch.float32)

CHUNK = 1 << 24
"""Elements of a batch or a weight that are widened to the type of the sums at a time."""


class Calibration:
    """Sums over the inputs of one linear layer with `k` input features.

    - `tokens`: how many rows were seen.
    - `squares` [k]: sum of squares of every input feature; its root is Wanda's norm.
    - `hessian` [k, k]: sum of x^T x over tokens; None when made with `hessian=False`, which spares
      k * k elements and is enough for Wanda.

    Sums are of `dtype` (torch.float64, or torch.float32 for half the memory) on `device`. Splitting
    the same tokens into other batches changes them by rounding only.
    """

    def __init__(
        self,
        k: int,
        *,
        device: Device = "cpu",
        dtype: torch.dtype = torch.float64,
        hessian: bool = True,
    ) -> None:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ModelError(
                f"k={k!r} is not a positive integer", remedy="pass the layer's in_features"
            )
        if dtype not in SUMS:
            raise ModelError(
                f"sums of {dtype} are asked for, but {SUMS[0]} or {SUMS[1]} is required",
                remedy="leave dtype out",
            )
        self.k = k
        self.tokens = 0
        self.squares = torch.zeros(k, dtype=dtype, device=device)
        self.hessian = torch.zeros(k, k, dtype=dtype, device=device) if hessian else None

    def __repr__(self) -> str:
        kind = "norms" if self.hessian is None else "hessian"
        return f"Calibration(k={self.k}, {kind}, {self.tokens} tokens, {self.squares.device})"

    def update(self, inputs: Array) -> None:
        """Add a batch: `inputs` [..., k], float64, float32, float16 or bfloat16, on any device.

        Leading axes are all tokens, and there may be none. Raises ModelError, and changes nothing,
        for another width or type and for values that are not finite.
        """
        rows = self._rows(inputs)
        step = max(1, CHUNK // self.k)
        for first in range(0, rows.shape[0], step):
            part = rows[first : first + step].to(self.squares)
            self.squares += part.square().sum(0)
            if self.hessian is not None:
                self.hessian += part.T @ part
        self.tokens += rows.shape[0]

    def norms(self) -> Array:
        """Euclidean norm [k] of every input feature over all tokens seen."""
        return self.squares.sqrt()

    def require(self, k: int, device: torch.device, *, hessian: bool) -> None:
        """Raise ModelError unless these sums describe a weight with `k` columns on `device`."""
        if self.k != k:
            raise ModelError(
                f"the calibration has {self.k} features, but the weight has {k} columns",
                remedy="pass the calibration of this layer's own inputs",
            )
        if self.squares.device != device:
            raise ModelError(
                f"the calibration is on {self.squares.device}, but the weight is on {device}",
                remedy="move the weight there, or calibrate on its device",
            )
        if not bool(self.squares.any()):
            raise ModelError(
                f"the calibration saw {self.tokens} tokens and no input that is not zero",
                remedy="calibrate with more tokens, or prune with method='magnitude'",
            )
        if hessian and self.hessian is None:
            raise ModelError(
                "the calibration holds norms only, but a Hessian is required",
                remedy="make it without hessian=False",
            )

    def _rows(self, inputs: Array) -> Array:
        if not is_tensor(inputs):
            raise ModelError(
                f"inputs is a {type(inputs).__name__}, but a torch tensor is required",
                remedy="pass torch.as_tensor(inputs)",
            )
        if inputs.ndim < 1 or inputs.shape[-1] != self.k:
            raise ModelError(
                f"inputs has shape {list(inputs.shape)}, but [..., {self.k}] is required",
                remedy="pass what the layer itself is given",
            )
        if inputs.dtype not in FLOATS:
            raise ModelError(
                f"inputs has dtype {inputs.dtype}, but a floating-point type is required",
                remedy="convert it to float32",
            )
        rows = inputs.detach().reshape(-1, self.k)
        finite = rows.isfinite()
        if not bool(finite.all()):
            row, column = (int(each) for each in (~finite).nonzero()[0])
            raise ModelError(
                f"inputs[{row}, {column}] is {float(rows[row, column])}, "
                "but finite values are required",
                remedy="leave out the text whose activations overflow",
            )
        return rows


def layer_error(weight: Array, pruned: Array, calibration: Calibration) -> float:
    """Relative error of the layer's output over the calibration's tokens.

    sqrt(tr(D H D^T) / tr(W H W^T)) with D = weight - pruned, both [m, k] on the calibration's
    device, and H its Hessian: |X D^T| / |X W^T| in the Frobenius norm. 0.0 where nothing differs,
    infinity where only the pruned layer puts anything out. Raises ModelError when shapes or
    devices disagree, or the calibration has no Hessian.
    """
    if weight.ndim != 2 or weight.shape != pruned.shape:
        raise ModelError(
            f"the weight has shape {list(weight.shape)} and the pruned weight "
            f"{list(pruned.shape)}, but one shape [m, k] is required",
            remedy="compare a weight with its own pruned form",
        )
    for each in (weight, pruned):
        calibration.require(each.shape[1], each.device, hessian=True)
    lost = whole = 0.0
    step = max(1, CHUNK // calibration.k)
    for first in range(0, weight.shape[0], step):
        part = weight[first : first + step].detach().to(torch.float64)
        kept = pruned[first : first + step].detach().to(torch.float64)
        lost += _energy(part - kept, calibration.hessian)
        whole += _energy(part, calibration.hessian)
    if lost <= 0.0:
        return 0.0
    return math.sqrt(lost / whole) if whole > 0.0 else math.inf


def _energy(rows: Array, hessian: Array) -> float:
    return float(((rows @ hessian.to(rows.dtype)) * rows).sum())
