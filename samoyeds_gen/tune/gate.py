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

    def __str__(self) -> str:
        return (
            f"{self.elements} elements, {self.unwritten} unwritten, {self.wrong} wrong, "
            f"worst error {self.worst:.3f} of its bound"
        )


@dataclass(frozen=True, slots=True)
class Expected:
    """What out [n, m] must be: `values`, and |tokens| |weight|^T as `magnitude`, both float64."""

    values: torch.Tensor
    magnitude: torch.Tensor
    columns: int

    def compare(self, out: torch.Tensor, *, block_rows: int = 1, slack: float = 1.0) -> Verdict:
        """Hold every element against its bound. NaN in `out` counts as unwritten: poison it first.

        `block_rows` is M for the prefix fold, whose error follows the running sum of the M rows
        of a block, and 1 otherwise. `slack` times the bound is allowed: peers that split k may
        round partial sums to 16 bits.
        """
        wrong = unwritten = 0
        worst = 0.0
        for first in range(0, out.shape[0], 1024):
            rows = slice(first, first + 1024)
            actual, values = out[rows].double(), self.values[rows]
            bound = (5 / 8 * self.columns + 8) * EPS * self._spread(rows, block_rows)
            bound += UNITS[out.dtype] * (values.abs() + bound) + SUBNORMAL[out.dtype]
            missing = torch.isnan(actual)
            ratio = torch.where(missing, 0.0, (actual - values).abs() / bound)
            worst = max(worst, float(ratio.max()))
            wrong += int((ratio > slack).sum())
            unwritten += int(missing.sum())
        return Verdict(worst, wrong, unwritten, out.numel())

    def _spread(self, rows: slice, block_rows: int) -> torch.Tensor:
        part = self.magnitude[rows]
        if block_rows == 1:
            return part
        padded = torch.nn.functional.pad(part, (0, -part.shape[1] % block_rows))
        sums = padded.view(part.shape[0], -1, block_rows).sum(2)
        return sums.repeat_interleave(block_rows, 1)[:, : part.shape[1]]


def expected(w: SparseWeight, tokens: torch.Tensor) -> Expected:
    """The float64 product of tokens [n, k] (already selected) and the decoded weight [m, k]."""
    return expected_of(decoded(w, tokens.device), tokens)


def expected_of(dense: torch.Tensor, tokens: torch.Tensor) -> Expected:
    """The float64 product of tokens [n, k] and a dense weight [m, k]."""
    weight, x = dense.double(), tokens.double()
    return Expected(x @ weight.T, x.abs() @ weight.abs().T, dense.shape[1])


def decoded(w: SparseWeight, device: torch.device) -> torch.Tensor:
    """The dense matrix of a weight as a float32 tensor on `device`."""
    dense = w.decode()
    if isinstance(dense, torch.Tensor):
        return dense.to(device=device, dtype=torch.float32)
    return torch.from_numpy(dense.astype("float32")).to(device)
