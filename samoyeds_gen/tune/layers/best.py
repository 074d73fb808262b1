"""The fastest known dense peer of a case: published measurements, carried to this run.

A file holds what several libraries reached on one GPU. Its times are multiplied by what the one
peer that is timed again, grouped_mm, takes now over what it took then: both the smaller of launches
from the host and graph replay.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from samoyeds_gen.tune.layers.configs import Case

FILE: Final = "2026-11-21-h200-peers-moe.csv"
ANCHOR: Final = "grouped_mm"
"""The peer that is in the file and in every run."""

SAME_ROUTING: Final = "uniform"
"""The routing that the file's cases were measured with; others have no best peer."""


@dataclass(frozen=True, slots=True)
class Best:
    """The quickest peer of a case in the file, with its time and the anchor's, in microseconds."""

    peer: str
    us: float
    anchor_us: float

    def carried(self, anchor_us: float) -> float:
        """Its time in a run where the anchor takes `anchor_us`."""
        return self.us * anchor_us / self.anchor_us


class Peers:
    """The peers of a file by (layer name, tokens)."""

    def __init__(self, rows: Iterable[Mapping[str, str]] = ()) -> None:
        self._times: dict[tuple[str, int], dict[str, float]] = {}
        for row in rows:
            times = [float(row[each]) for each in ("us", "us_graph") if row[each]]
            if times:
                at = self._times.setdefault((row["config"], int(row["T"])), {})
                at[row["peer"]] = min(times)

    def best(self, case: Case) -> Best | None:
        """The quickest peer of a case; None where the file has none or no anchor."""
        found = self._times.get((case.config.name, case.tokens), {})
        if case.routing != SAME_ROUTING or ANCHOR not in found:
            return None
        peer = min(found, key=lambda each: found[each])
        return Best(peer, found[peer], found[ANCHOR])


def read_peers(path: Path | None = None) -> Peers:
    """The peers of a file; of the project's own one without `path`, and none where that is not."""
    place = path or Path(__file__).parents[3] / "docs" / "measurements" / FILE
    if path is None and not place.is_file():
        return Peers()
    with place.open(newline="") as file:
        return Peers(csv.DictReader(file))
