"""The figures of compared layers: one row a contender and case, geometric means, CSV and JSON."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from samoyeds_gen.errors import TuneError
from samoyeds_gen.tune.layers.best import ANCHOR, Best
from samoyeds_gen.tune.layers.configs import Case
from samoyeds_gen.tune.results import geometric_mean
from samoyeds_gen.tune.timing import Timed, Timing

WORK: Final = (
    "2 * tokens * top * 3 * hidden * inner operations for every contender; the router's linear "
    "layer and its choice are left out on all sides, sorting and combining are inside; us is graph "
    "replay for ours and the smaller of eager and graph for peers; ratio is grouped_mm's us over "
    "the contender's, ratio_best that of the fastest peer in the file, carried by grouped_mm"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerContender:
    """One layer, checked and ready to be timed; `graph` None where it cannot be captured.

    `weight_bytes` is what a call streams of the experts it meets, `held_bytes` what the weights of
    all take, `peak_bytes` the most memory of a call beyond inputs and weights; `host_us`
    what a call takes of the host. `worst` is the largest error in units of its bound, `relative`
    the norm of the error over that of the output.
    """

    name: str
    eager: Timed
    graph: Timed | None
    replay: str
    weight_bytes: int
    held_bytes: int
    peak_bytes: int
    host_us: float
    worst: float
    relative: float
    format: str = ""
    schedules: str = ""
    experts_hit: int = 0
    rotated: str = ""

    @property
    def ours(self) -> bool:
        """Whether a layer of this package."""
        return bool(self.format)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One contender of one case. Times are medians in microseconds a call; see `WORK`."""

    group: str
    config: str
    hidden: int
    inner: int
    experts: int
    top: int
    tokens: int
    routing: str
    contender: str
    kind: str
    format: str
    schedules: str
    us: float
    us_eager: float
    us_graph: float | None
    least_us: float
    most_us: float
    replay: str
    tflops: float
    weight_tbs: float
    ratio: float | None
    ratio_best: float | None
    best: str
    best_us: float | None
    weight_bytes: int
    held_bytes: int
    share: float
    peak_bytes: int
    host_us: float
    experts_hit: int
    rotated: str
    worst: float
    relative: float

    @property
    def case(self) -> str:
        """The case in a few words."""
        skew = "" if self.routing == "uniform" else f" {self.routing}"
        return f"{self.config} {self.tokens}{skew}"

    def __str__(self) -> str:
        graph = "" if self.us_graph is None else f", {self.us_graph:.1f} us replayed"
        ratio = "" if self.ratio is None else f", {self.ratio:.2f}x"
        best = "" if self.ratio_best is None else f" ({self.ratio_best:.2f}x of best)"
        return (
            f"{self.case} {self.contender}: {self.us_eager:.1f} us{graph}, {self.tflops:.0f} "
            f"TFLOP/s{ratio}{best}, peak {self.peak_bytes / 1e6:.1f} MB, host {self.host_us:.0f} us"
        )


@dataclass(frozen=True, slots=True)
class LayerFailure:
    """A contender that did not take part in a case, and why."""

    config: str
    tokens: int
    contender: str
    error: str


@dataclass(frozen=True, slots=True)
class LayerMean:
    """Geometric means of a contender's ratios in a group, over `cases`; None without a peer."""

    group: str
    routing: str
    contender: str
    ratio: float | None
    least: float | None
    ratio_best: float | None
    least_best: float | None
    cases: int


def layer_rows(
    case: Case,
    contenders: Sequence[LayerContender],
    timings: Mapping[tuple[str, str], Timing],
    best: Best | None = None,
) -> list[LayerRow]:
    """The rows of one case; `timings` by (name, "eager" or "graph")."""
    taken = {each.name: timing_that_counts(each, timings) for each in contenders}
    anchor = taken.get(ANCHOR)
    best_us = best.carried(anchor.median_us) if best and anchor else None
    config = case.config
    rows = []
    for each in contenders:
        us = taken[each.name].median_us
        row = LayerRow(
            group=case.group,
            config=config.name,
            hidden=config.hidden,
            inner=config.inner,
            experts=config.experts,
            top=config.top,
            tokens=case.tokens,
            routing=case.routing,
            schedules=each.schedules,
            tflops=config.operations(case.tokens) / us * 1e-6,
            weight_tbs=each.weight_bytes / us * 1e-6,
            ratio_best=best_us / us if best_us else None,
            best=best.peer if best and best_us else "",
            best_us=best_us,
            weight_bytes=each.weight_bytes,
            share=each.held_bytes / config.dense_bytes,
            experts_hit=each.experts_hit,
            rotated=each.rotated,
            **figures_of(each, taken, timings),
        )
        rows.append(row)
    return rows


def figures_of(
    each: LayerContender,
    taken: Mapping[str, Timing],
    timings: Mapping[tuple[str, str], Timing],
) -> dict[str, Any]:
    """What every row says of a contender: who it is, its times, memory and errors.

    `taken` has the timing that counts of each contender, of whom one may be the anchor.
    """
    timing, graph, anchor = taken[each.name], timings.get((each.name, "graph")), taken.get(ANCHOR)
    return {
        "contender": each.name,
        "kind": "ours" if each.ours else "peer",
        "format": each.format,
        "us": timing.median_us,
        "us_eager": timings[each.name, "eager"].median_us,
        "us_graph": graph.median_us if graph else None,
        "least_us": timing.least_us,
        "most_us": timing.most_us,
        "replay": each.replay,
        "ratio": anchor.median_us / timing.median_us if anchor else None,
        "held_bytes": each.held_bytes,
        "peak_bytes": each.peak_bytes,
        "host_us": each.host_us,
        "worst": each.worst,
        "relative": each.relative,
    }


def timing_that_counts(each: LayerContender, timings: Mapping[tuple[str, str], Timing]) -> Timing:
    """Graph replay for ours, the better one for peers."""
    eager, graph = timings[each.name, "eager"], timings.get((each.name, "graph"))
    if graph is None:
        return eager
    return graph if each.ours or graph.median_us < eager.median_us else eager


def layer_means(rows: Sequence[LayerRow]) -> list[LayerMean]:
    """Means by group, routing and contender, in the order of their first rows."""
    parts: dict[tuple[str, str, str], list[LayerRow]] = {}
    for row in rows:
        parts.setdefault((row.group, row.routing, row.contender), []).append(row)
    means = []
    for (group, routing, name), part in parts.items():
        dense = [row.ratio for row in part if row.ratio is not None]
        best = [row.ratio_best for row in part if row.ratio_best is not None]
        means.append(LayerMean(group, routing, name, *_mean(dense), *_mean(best), len(part)))
    return means


def _mean(values: Sequence[float]) -> tuple[float | None, float | None]:
    return (geometric_mean(values), min(values)) if values else (None, None)


def layers_json(
    rows: Sequence[LayerRow], failed: Sequence[LayerFailure], about: Mapping[str, object]
) -> str:
    """Everything: what made the figures, rows, means, and what did not take part."""
    record = {
        **about,
        "work": WORK,
        "rows": [asdict(row) for row in rows],
        "means": [asdict(mean) for mean in layer_means(rows)],
        "failed": [asdict(each) for each in failed],
    }
    return json.dumps(record, indent=1) + "\n"


def read_rows(path: Path, kind: type, suite: str) -> tuple[list[Any], dict[str, Any]]:
    """The rows of dataclass `kind` in a file of a suite, and what made them.

    Without the file there are no rows. Raises TuneError for any other file.
    """
    if not path.is_file():
        return [], {}
    try:
        record = json.loads(path.read_text())
        if record["suite"] != suite:
            raise ValueError(record["suite"])
        rows = [kind(**row) for row in record.pop("rows")]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TuneError(
            f"{path.name} does not hold the figures of the suite {suite}",
            remedy=f"write it with samoyeds-gen bench --suite {suite} -o {path.name}",
        ) from None
    return rows, record


def rows_csv(rows: Sequence[object], kind: type) -> str:
    """Rows of a dataclass `kind` with a header line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [each.name for each in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)  # type: ignore[call-overload]
    return text.getvalue()
