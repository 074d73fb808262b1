"""A warp-specialised pipeline over time: stages that fill and are read, warpgroups that take turns.

Order and waiting are the plan's: ring depth, warpgroups, turns, parts and V-blocks. How long each
piece of work takes is not known here; the lengths below are for the eye.
"""

from dataclasses import dataclass

from samoyeds_gen.compiler import Plan
from samoyeds_gen.compiler.warp_specialised.geometry import SpecialisedGeometry
from samoyeds_gen.compiler.warp_specialised.ops import AddPrefix
from samoyeds_gen.pictures.palette import BUFFERS, COPY, KEPT_ROW, MUTED, READ
from samoyeds_gen.pictures.svg import Drawing, text_width

WIDTH = 880
MARGIN = 28
LABELS = 96
ROW = 34
TOP = 96

COPY_TIME = 1.6  # from a stage's first copy until all of its bytes are there
ISSUE_TIME = 0.25  # between the copies of one stage and of the next
MATRIX_TIME = 1.0
FOLD_TIME = 0.6

KINDS = {
    "copy": (COPY, "bytes on their way"),
    "read": (READ, "the stage is in use"),
    "matrix": (KEPT_ROW, "matrix work"),
    "fold": (BUFFERS["staging"], "additions of the fold"),
}
"""Colour and meaning of each kind of work."""


@dataclass(frozen=True, slots=True)
class Work:
    """Something that occupies a row from `start` to `end` for the k tile `tile`."""

    row: str
    kind: str
    tile: int
    start: float
    end: float


def is_specialised(plan: Plan) -> bool:
    """Whether producer and consumers of a plan are different warpgroups."""
    return isinstance(plan.geometry, SpecialisedGeometry)


def timeline(plan: Plan, tiles: int) -> list[Work]:
    """What happens to the first `tiles` k tiles: copies, matrix work and additions.

    In turns one warpgroup after the other has the matrix unit to itself; without turns they share
    it, and all add at once. Of additions to parts of the tokens only the last part's are not beside
    the same warpgroup's matrix work, and only those are shown.
    """
    g, depth, overlap = plan.geometry, plan.ring_depth, plan.schedule.overlap
    folds = any(isinstance(op, AddPrefix) for op in plan.loop)
    fold = FOLD_TIME / overlap.split if folds else 0.0
    works: list[Work] = []
    issued = unit = 0.0  # when the producer, and the matrix unit, are free again
    ready = [0.0] * g.consumers
    released: list[float] = []
    for tile in range(tiles):
        start = max(issued, released[tile - depth] if tile >= depth else 0.0)
        issued, full = start + ISSUE_TIME, start + COPY_TIME
        works.append(Work(f"stage {tile % depth}", "copy", tile, start, full))
        together = max(full, unit, *ready)
        spans = []
        for group in range(g.consumers):
            begin = max(full, unit, ready[group]) if overlap.turns else together
            end = begin + MATRIX_TIME * (1 if overlap.turns else g.consumers)
            unit, ready[group] = end, end + fold
            row = f"warpgroup {group}"
            works.append(Work(row, "matrix", tile, begin, end))
            if folds:
                works.append(Work(row, "fold", tile, end, end + fold))
            spans.append((begin, end))
        released.append(max(end for _, end in spans))
        first = min(begin for begin, _ in spans)
        works.append(Work(f"stage {tile % depth}", "read", tile, first, released[-1]))
    return works


def draw_warpgroups(plan: Plan) -> str:
    """The pipeline as SVG text: a row a stage of the ring, then a row a consumer warpgroup."""
    depth = plan.ring_depth
    works = timeline(plan, depth + 3)
    rows = [f"stage {i}" for i in range(depth)]
    rows += [f"warpgroup {i}" for i in range(plan.geometry.consumers)]
    drawing = Drawing(WIDTH, TOP + len(rows) * ROW + 84, f"Pipeline of {plan.entry}")
    drawing.text(MARGIN, 42, f"Pipeline of {plan.entry}", size=18, bold=True)
    how = "take turns at the matrix unit" if plan.schedule.overlap.turns else "share the unit"
    facts = f"{depth} stages of k = {plan.tile[2]}; warpgroups {how}; lengths are not to scale"
    drawing.text(MARGIN, 64, facts, fill=MUTED, size=13)
    left, end = MARGIN + LABELS, max(work.end for work in works)
    scale = (WIDTH - MARGIN - left) / end
    for place, row in enumerate(rows):
        y = TOP + place * ROW
        drawing.text(MARGIN, y + 22, row, size=12.5)
        for work in (each for each in works if each.row == row):
            _bar(drawing, work, left + work.start * scale, left + work.end * scale, y + 4)
    bottom = TOP + len(rows) * ROW + 18
    drawing.arrow(left, bottom, WIDTH - MARGIN, bottom)
    drawing.text(MARGIN, bottom + 4, "time", size=11, fill=MUTED)
    _legend(drawing, bottom + 40, {work.kind for work in works})
    return drawing.svg()


def _bar(drawing: Drawing, work: Work, x: float, end: float, y: float) -> None:
    data = {"row": work.row, "work": work.kind, "tile": work.tile, "from": x, "to": end}
    fill = KINDS[work.kind][0]
    drawing.rect(x + 1, y, end - x - 2, ROW - 8, fill=fill, radius=4, data=data)
    for label in (f"{work.kind} {work.tile}", f"{work.tile}"):
        if end - x > text_width(label, 11) + 2:
            drawing.text((x + end) / 2, y + 17, label, size=11, anchor="middle")
            return


def _legend(drawing: Drawing, y: float, kinds: set[str]) -> None:
    x = float(MARGIN)
    for kind, (fill, words) in KINDS.items():
        if kind in kinds:
            drawing.rect(x, y - 11, 14, 14, fill=fill, radius=3)
            drawing.text(x + 20, y, words, size=11)
            x += 36 + text_width(words, 11)
