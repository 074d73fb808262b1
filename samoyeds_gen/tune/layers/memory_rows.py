"""The table of what fits: tokens a call by layer and memory, dense and ours."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from samoyeds_gen.formats import Format
from samoyeds_gen.tune.layers.capacity import (
    ALLOWANCE,
    CAPACITIES,
    FORMULA,
    GB,
    dense_need,
    held,
    largest,
    sparse_need,
)
from samoyeds_gen.tune.layers.configs import LayerConfig
from samoyeds_gen.tune.machines import Machine

FEW_TOKENS = 16
"""The call for which weights are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRow:
    """One layer in one memory of `gb` GB: the most tokens a call, and bytes of weights.

    `share` is our stored weights' part of the dense ones, `resident_share` that of what lies in a
    GPU's memory; `tokens_ratio` is None where no dense call fits. The last four are what a GPU did:
    the most tokens that were seen to fit, None where it was not tried, and in words.
    """

    config: str
    format: str
    gb: int
    dense_bytes: int
    stored_bytes: int
    resident_bytes: int
    share: float
    resident_share: float
    dense_tokens: int
    tokens: int
    tokens_ratio: float | None
    dense_seen: int | None = None
    seen: int | None = None
    dense_measured: str = ""
    measured: str = ""

    @property
    def fits(self) -> tuple[int, int]:
        """The most tokens of a dense call and of ours: as seen, by formula where not tried."""
        dense = self.dense_tokens if self.dense_seen is None else self.dense_seen
        return dense, self.tokens if self.seen is None else self.seen


def memory_rows(
    config: LayerConfig, form: Format, machine: Machine, capacities: Sequence[int] = CAPACITIES
) -> list[MemoryRow]:
    """The rows of a layer by formula."""
    weights = held(config, form, FEW_TOKENS, machine)
    rows = []
    for gb in capacities:
        room = gb * GB - ALLOWANCE
        dense = largest(lambda tokens: dense_need(config, tokens), room)
        ours = largest(lambda tokens: sparse_need(config, tokens, form, machine), room)
        row = MemoryRow(
            config=config.name,
            format=str(form),
            gb=gb,
            dense_bytes=config.dense_bytes,
            stored_bytes=weights.stored,
            resident_bytes=weights.resident,
            share=weights.stored / config.dense_bytes,
            resident_share=weights.resident / config.dense_bytes,
            dense_tokens=dense,
            tokens=ours,
            tokens_ratio=ours / dense if dense else None,
        )
        rows.append(row)
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakRow:
    """Measured beside formula: `peak_bytes` of a call beyond inputs and weights."""

    config: str
    contender: str
    tokens: int
    peak_bytes: int
    formula_bytes: int


def memory_json(
    rows: Sequence[MemoryRow], peaks: Sequence[PeakRow], about: Mapping[str, object]
) -> str:
    """Everything: what made the figures, the formula, what fits, and what was measured."""
    record = {
        **about,
        "formula": FORMULA,
        "rows": [asdict(row) for row in rows],
        "peaks": [asdict(row) for row in peaks],
    }
    return json.dumps(record, indent=1) + "\n"
