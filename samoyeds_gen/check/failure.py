"""A failure as a person reads it: element, group, sub-row, token, expected, got, and a snippet."""

from dataclasses import asdict, dataclass
from typing import Any

from samoyeds_gen.check.cases import Case
from samoyeds_gen.check.snippet import snippet
from samoyeds_gen.check.subjects import Subject
from samoyeds_gen.check.trial import Finding, Origin

PLACES = {"cpu": "the simulator", "gpu": "the GPU"}


@dataclass(frozen=True, slots=True)
class Failure:
    """The simplest case on which a kernel failed. `case` is None if it could not be compiled."""

    subject: Subject
    device: str
    case: Case | None
    finding: Finding

    @property
    def kind(self) -> str:
        """What it is: "wrong value", "unwritten", "race", ..."""
        return self.finding.kind

    @property
    def snippet(self) -> str | None:
        """Python that reproduces it."""
        if self.case is None:
            return None
        origin = self.finding.origin
        element = None if origin is None else (origin.selected, origin.feature)
        return snippet(self.subject, self.case, self.device, element)

    def __str__(self) -> str:
        f, case = self.finding, self.case
        wrong = f" ({f.wrong} of {f.total} elements)" if f.total else ""
        lines = [f"{f.kind} on {PLACES[self.device]}: {f.sentence}{wrong}"]
        if f.origin is not None:
            lines += [f"  {line}" for line in origin_text(self.subject, f.origin)]
        if f.hint:
            lines.append(f"  hint: {f.hint}")
        sizes = ""
        if case is not None:
            sizes = f"; m={case.m}, k={case.k}, n={case.n(self.subject.problem)}"
            sizes += f", tokens of experts {list(case.counts)}" if case.counts else ""
        lines.append(f"  kernel {self.subject}{sizes}")
        text = "\n".join(lines)
        return text if case is None else f"{text}\n\n{self.snippet}"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "kind": self.kind,
            "device": self.device,
            "kernel": str(self.subject),
            "case": None if self.case is None else asdict(self.case),
            "finding": asdict(self.finding),
            "snippet": self.snippet,
        }


def origin_text(subject: Subject, origin: Origin) -> tuple[str, str]:
    """Two lines: where the weight row of an element is stored, and which token it belongs to."""
    f = subject.problem.format
    first = origin.group * f.m
    kept: dict[int, list[int]] = {}
    for block, row in enumerate(origin.stored):
        if row is not None:
            kept.setdefault(row, []).append(block)
    places = [f"stored row {row} in V-blocks {_spans(blocks)}" for row, blocks in kept.items()]
    stored = ", ".join(places) or "kept in no V-block"
    rows = f"{first}..{first + f.m - 1}"
    where = f"weight rows {rows} of expert {origin.expert}"
    where = f"features {rows}" if origin.expert is None else where
    chosen = f", selection[{origin.selected}]" if subject.problem.index else ""
    return (
        f"feature {origin.feature}: sub-row {origin.sub_row} of group {origin.group} "
        f"({where}), {stored}",
        f"token {origin.token}{chosen}",
    )


def _spans(numbers: list[int]) -> str:
    """1, 2, 3, 7 as "1..3, 7"."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][-1] == number - 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return ", ".join("..".join(map(str, span)) for span in spans)
