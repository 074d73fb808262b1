"""What sparsifying left of each layer: errors and bytes, as values and as a table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

HEADINGS = ("layer", "experts", "weight error", "output error", "unseen", "bytes", "of dense")


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One Mixture-of-Experts layer.

    - `experts`: routed experts and parts of a shared one.
    - `weight_error`: |W - P| / |W| over all its weights, in the Frobenius norm.
    - `output_error`: |y - y'| / |y| of the layer's output over the calibration's tokens, both with
      the inputs that reach the converted layer; None without calibration.
    - `unseen`: experts no calibration token was sent to; they took the tokens of the whole layer.
    - `nbytes` of the encoded weights, and `dense_bytes` of the dense ones in 16 bits.
    """

    name: str
    experts: int
    weight_error: float
    output_error: float | None
    unseen: int
    nbytes: int
    dense_bytes: int

    def row(self) -> tuple[str, ...]:
        """Cells below HEADINGS."""
        output = "-" if self.output_error is None else f"{self.output_error:.4f}"
        return (
            self.name,
            str(self.experts),
            f"{self.weight_error:.4f}",
            output,
            str(self.unseen),
            str(self.nbytes),
            f"{self.nbytes / self.dense_bytes:.1%}",
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What `sparsify` did to a model: format, dtype, method and one LayerReport per layer."""

    format: str
    dtype: str
    method: str
    layers: list[LayerReport] = field(default_factory=list)

    @property
    def weight_error(self) -> float:
        """Largest relative error of a layer's weights."""
        return max((each.weight_error for each in self.layers), default=0.0)

    @property
    def output_error(self) -> float | None:
        """Largest relative error of a layer's output; None without calibration."""
        found = [each.output_error for each in self.layers if each.output_error is not None]
        return max(found) if found else None

    def rows(self) -> list[tuple[str, ...]]:
        """The table's rows, below HEADINGS."""
        return [each.row() for each in self.layers]

    def __str__(self) -> str:
        table: Sequence[tuple[str, ...]] = [HEADINGS, *self.rows()]
        widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        return "\n".join([f"({self.format}) {self.dtype}, {self.method}", *lines])

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Report":
        """Read `to_json` back."""
        layers = [LayerReport(**each) for each in values["layers"]]
        return cls(values["format"], values["dtype"], values["method"], layers)
