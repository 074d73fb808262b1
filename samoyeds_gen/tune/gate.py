"""The gate before any timing: every element of an output on the GPU against a float64 product.

The bound is that of `reference.bound` without an epilogue, computed with torch on the GPU so that
full-size problems are compared in full.
"""

from dataclasses import dataclass

import torch

from samoyeds_gen.formats import SparseWeight

EPS = 2.0**-23
UNITS = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float32: 2.0**-24}
SUBNORMAL = {torch.float16: 2.0**-25, torch.bfloat16: 2.0**-134, torch.float32: 2.0**-150}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far the worst element is from the reference, in units of its own bound."""

    worst: float
    wrong: int
    unwritten: int
    elements: int

    @property
    def passed(self) -> bool:
        """Whether every element was written and lies inside its bound."""
        return self.wrong == 0 and self.unwritten == 0


def compare(
    out: torch.Tensor,
    dense: torch.Tensor,
    tokens: torch.Tensor,
    *,
    block_rows: int = 1,
    rows_at_once: int = 2048,
) -> Verdict:
    """Compare out [n, m] with tokens [n, k] @ dense [m, k]^T in float64, elementwise.

    `dense` is the decoded weight. `block_rows` is M for the prefix fold, whose error follows the
    running sum of a block, and 1 otherwise. NaN in `out` counts as unwritten: poison it first.
    """
    n, m = out.shape
    k = dense.shape[1]
    weight = dense.double()
    magnitude = weight.abs()
    if block_rows > 1:
        padded = torch.nn.functional.pad(magnitude, (0, 0, 0, -m % block_rows))
        sums = padded.view(-1, block_rows, k).sum(1)
        magnitude = sums.repeat_interleave(block_rows, 0)[:m]
    worst, wrong, unwritten = 0.0, 0, 0
    for first in range(0, n, rows_at_once):
        x = tokens[first : first + rows_at_once].double()
        y = out[first : first + rows_at_once].double()
        reference = x @ weight.T
        bound = (5 / 8 * k + 8) * EPS * (x.abs() @ magnitude.T)
        bound += UNITS[out.dtype] * (reference.abs() + bound) + SUBNORMAL[out.dtype]
        missing = torch.isnan(y)
        ratio = torch.where(missing, 0.0, (y - reference).abs() / (bound + 1e-300))
        worst = max(worst, float(ratio.max()))
        wrong += int((ratio > 1).sum())
        unwritten += int(missing.sum())
    return Verdict(worst, wrong, unwritten, n * m)


def decoded(w: SparseWeight, device: torch.device) -> torch.Tensor:
    """The dense matrix of a weight as a float32 tensor on `device`."""
    dense = w.decode()
    if isinstance(dense, torch.Tensor):
        return dense.to(device=device, dtype=torch.float32)
    return torch.from_numpy(dense.astype("float32")).to(device)
