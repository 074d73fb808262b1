"""The figures of a comparison: one row a contender and shape, geometric means, CSV and JSON."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import exp, log
from pathlib import Path
from typing import Final

from samoyeds_gen.errors import TuneError
from samoyeds_gen.formats import Format
from samoyeds_gen.tune.contender import CUBLAS, Contender
from samoyeds_gen.tune.machines import Machine
from samoyeds_gen.tune.suites import Shape
from samoyeds_gen.tune.timing import Timing

WORK: Final = (
    "2 m n k operations for every contender; ratio is the faster cuBLAS layout's time over the "
    "contender's"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One contender at one shape. Times are microseconds a launch, `median_us` over the rounds.

    `tflops` counts 2 m n k whatever the sparsity; `ratio` is cuBLAS's time over this one's, None
    without cuBLAS; `weight_tbs` is TB/s of weight bytes; `roof` the share of the measured roof,
    None where none was measured.
    """

    group: str
    m: int
    k: int
    n: int
    contender: str
    kind: str
    format: str
    schedule: str
    digest: str
    reason: str
    replay: str
    median_us: float
    least_us: float
    most_us: float
    tflops: float
    ratio: float | None
    weight_bytes: int
    weight_tbs: float
    roof: float | None
    verdict: str

    @property
    def shape(self) -> Shape:
        """(m, k, n)."""
        return self.m, self.k, self.n


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A contender that was not counted at one shape, and why."""

    group: str
    m: int
    k: int
    n: int
    contender: str
    error: str


@dataclass(frozen=True, slots=True)
class Mean:
    """The geometric mean of a contender's ratios in a group: over `shapes` of the group's `of`."""

    group: str
    contender: str
    ratio: float
    least: float
    shapes: int
    of: int


def rows_of(
    group: str,
    shape: Shape,
    contenders: Sequence[Contender],
    timings: Mapping[str, Timing],
    machine: Machine,
) -> list[Row]:
    """The rows of one shape; ratios are to the faster cuBLAS layout."""
    m, k, n = shape
    dense = [timings[each.name].median_us for each in contenders if each.name.startswith(CUBLAS)]
    best = min(dense, default=None)
    rows = []
    for each in contenders:
        timing = timings[each.name]
        us = timing.median_us
        schedule = each.choice.schedule if each.choice else None
        rows.append(
            Row(
                group,
                m,
                k,
                n,
                each.name,
                each.kind,
                each.format or "",
                schedule.name if schedule else "",
                schedule.digest if schedule else "",
                each.choice.reason if each.choice else "",
                each.replay,
                us,
                timing.least_us,
                timing.most_us,
                2 * m * n * k / us * 1e-6,
                best / us if best is not None else None,
                each.weight_bytes,
                each.weight_bytes / us * 1e-6,
                roof_share(each, shape, us, machine),
                each.verdict,
            )
        )
    return rows


def roof_share(each: Contender, shape: Shape, us: float, machine: Machine) -> float | None:
    """The least time that the measured rates allow, over the time taken; None without rates.

    The longer of two: the format's matrix work at its roof, and every byte that must be moved at
    the read bandwidth. The dense product's roof is what the library sustains.
    """
    m, k, n = shape
    if machine.roof is None:
        return None
    peak = machine.dense if each.format is None else machine.roof_tflops(Format.parse(each.format))
    assert peak is not None, "a machine with a roof has one for every format"
    moved = each.weight_bytes + 2 * n * (m + k)
    return max(2 * m * n * k / peak * 1e-6, moved / machine.dram * 1e-6) / us


def means(rows: Iterable[Row]) -> list[Mean]:
    """Geometric means by group and contender, in the order of their first rows."""
    rows = list(rows)
    shapes: dict[str, set[Shape]] = {}
    ratios: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        shapes.setdefault(row.group, set()).add(row.shape)
        if row.ratio is not None:
            ratios.setdefault((row.group, row.contender), []).append(row.ratio)
    return [
        Mean(group, name, geometric_mean(each), min(each), len(each), len(shapes[group]))
        for (group, name), each in ratios.items()
    ]


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product of n positive numbers."""
    return exp(sum(map(log, values)) / len(values))


def write_results(
    path: Path, rows: Sequence[Row], failed: Sequence[FailedRow], about: Mapping[str, object]
) -> None:
    """Write the figures by the file's suffix: .json whole, or .csv the rows alone.

    `about` says what machine, versions and options made them. Raises TuneError for another suffix.
    """
    require_suffix(path, (".json", ".csv"))
    text = as_csv(rows) if path.suffix == ".csv" else as_json(rows, failed, about)
    path.write_text(text)


def require_suffix(path: Path, allowed: Sequence[str]) -> None:
    """Refuse a file whose suffix is not one of `allowed`, with a TuneError."""
    if path.suffix not in allowed:
        names = ", ".join(allowed)
        raise TuneError(
            f"the output {path.name!r} does not end in one of {names}",
            remedy=f"name it with one of {names}",
        )


def as_json(rows: Sequence[Row], failed: Sequence[FailedRow], about: Mapping[str, object]) -> str:
    """Everything: what made the figures, rows, means, and what failed."""
    record = {
        **about,
        "work": WORK,
        "rows": [asdict(row) for row in rows],
        "means": [asdict(mean) for mean in means(rows)],
        "failed": [asdict(row) for row in failed],
    }
    return json.dumps(record, indent=1) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """The rows with a header line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [each.name for each in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()
