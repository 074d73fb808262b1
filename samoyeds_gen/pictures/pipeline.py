"""The copy ring over time as a picture: which stage is filled, and read, in which iteration.

Everything is read from the plan's loop: the place of its copy, its wait and its fragment loads.
How long an operation takes is not known here; loads and matrix work are drawn longest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from samoyeds_gen.compiler import Plan
from samoyeds_gen.compiler.ops import AdvanceStage, CopyTile, Multiply, Op, Wait
from samoyeds_gen.pictures.palette import COPY, MUTED, READ
from samoyeds_gen.pictures.svg import Drawing, text_width
from samoyeds_gen.pictures.swizzle_map import RING
from samoyeds_gen.pictures.warpgroups import draw_warpgroups, is_specialised

WIDTH = 880
MARGIN = 28
LABELS = 66
ROW = 34
TOP = 118


@dataclass(frozen=True, slots=True)
class Timing:
    """When the ring's work on tile 0 happens, in iterations; tile t follows t iterations later."""

    issue: float
    arrival: float
    first_read: float
    last_read: float
    wait: float
    ahead: int
    pending: int


def one_tile(loop: Sequence[Op]) -> Sequence[Op]:
    """The part of a loop body that belongs to one tile of the ring; all parts are alike."""
    tiles = sum(isinstance(op, AdvanceStage) for op in loop)
    return loop[: len(loop) // tiles]


def ring_timing(loop: Sequence[Op]) -> Timing:
    """Read copy, wait and fragment loads off a loop body."""
    lengths = [_length(op) for op in loop]
    ends = [end / sum(lengths) for end in accumulate(lengths)]
    place = {id(op): end for op, end in zip(loop, [0.0, *ends], strict=False)}
    copy = next(op for op in loop if isinstance(op, CopyTile))
    wait = next(op for op in loop if isinstance(op, Wait))
    # Groups committed when iteration 0 reaches its wait, less those that may still be in flight.
    committed = copy.ahead + (place[id(copy)] < place[id(wait)])
    arrived = committed - wait.pending - 1
    reads = [
        (place[id(op)] - access.ahead, end - access.ahead)
        for op, end in zip(loop, ends, strict=True)
        for access in op.reads
        if access.buffer.endswith(RING)
    ]
    return Timing(
        issue=place[id(copy)] - copy.ahead,
        arrival=place[id(wait)] - arrived,
        first_read=min(first for first, _ in reads),
        last_read=max(last for _, last in reads),
        wait=place[id(wait)],
        ahead=copy.ahead,
        pending=wait.pending,
    )


def _length(op: Op) -> float:
    if isinstance(op, Multiply):
        return 3.0
    return 1.5 if any(access.buffer.endswith(RING) for access in op.reads) else 0.5


def draw_pipeline(plan: Plan) -> str:
    """The ring pipeline of a plan as SVG text: one row a stage, one column a loop iteration.

    A copy is drawn from its issue to the wait that covers it; a stage is read from the first to
    the last load of its fragments. Warp-specialised plans have a picture of their own.
    """
    if is_specialised(plan):
        return draw_warpgroups(plan)
    stages, timing = plan.ring_depth, ring_timing(one_tile(plan.loop))
    tiles = stages + 3
    drawing = Drawing(WIDTH, TOP + stages * ROW + 92, f"Pipeline of {plan.entry}")
    drawing.text(MARGIN, 42, f"Pipeline of {plan.entry}", size=18, bold=True)
    facts = (
        f"{stages} stages of k = {plan.tile[2]}; iteration t multiplies tile t "
        f"and copies tile t + {timing.ahead}"
    )
    drawing.text(MARGIN, 64, facts, fill=MUTED, size=13)
    column = (WIDTH - 2 * MARGIN - LABELS) / (tiles + 1)
    axis = Axis(MARGIN + LABELS + column, column, tiles)
    for stage in range(stages):
        drawing.text(MARGIN, TOP + stage * ROW + 22, f"stage {stage}", size=12.5)
    _draw_axis(drawing, axis, stages, timing)
    for tile in range(tiles + timing.ahead):
        issue = -1.0 if tile < timing.ahead else tile + timing.issue
        _bar(drawing, axis, "copy", tile, stages, (issue, tile + timing.arrival))
        _bar(
            drawing, axis, "read", tile, stages, (tile + timing.first_read, tile + timing.last_read)
        )
    _legend(drawing, TOP + stages * ROW + 66, timing.pending)
    return drawing.svg()


@dataclass(frozen=True, slots=True)
class Axis:
    """Iteration 0 begins at pixel `start`, each is `column` wide; the prologue lies before it."""

    start: float
    column: float
    tiles: int

    def pixel(self, time: float) -> float:
        """Where a time in iterations lies; times outside the picture lie on its edge."""
        return self.start + min(max(time, -1.0), float(self.tiles)) * self.column


def _bar(
    drawing: Drawing, axis: Axis, work: str, tile: int, stages: int, span: tuple[float, float]
) -> None:
    x, end = axis.pixel(span[0]), axis.pixel(span[1])
    if end - x < 3:
        return
    data = {"work": work, "tile": tile, "stage": tile % stages, "from": x, "to": end}
    y = TOP + tile % stages * ROW + 4
    fill = COPY if work == "copy" else READ
    drawing.rect(x + 1, y, end - x - 2, ROW - 8, fill=fill, radius=4, data=data)
    labels = (f"{work} {tile}", f"{tile}")
    for label in labels:
        if end - x > text_width(label, 11) + 2:
            drawing.text((x + end) / 2, y + 17, label, size=11, anchor="middle")
            return


def _draw_axis(drawing: Drawing, axis: Axis, stages: int, timing: Timing) -> None:
    """Iterations above, a dashed line at each wait and barrier, time below."""
    bottom = TOP + stages * ROW + 4
    middle = axis.pixel(-0.5)
    drawing.text(middle, TOP - 12, "prologue", size=11, anchor="middle", fill=MUTED)
    for tile in range(axis.tiles):
        x = axis.pixel(tile)
        narrow = axis.column < text_width("loop 00 ", 11)
        label = str(tile) if narrow else f"loop {tile}"
        drawing.line(x, TOP - 8, x, TOP - 2)
        drawing.text(
            x + axis.column / 2,
            TOP - 12,
            label,
            size=11,
            anchor="middle",
            fill=MUTED,
            data={"iteration": tile},
        )
        wait = axis.pixel(tile + timing.wait)
        drawing.line(wait, TOP - 2, wait, bottom, dashed=True)
    y = bottom + 20
    drawing.arrow(axis.pixel(-1), y, axis.pixel(axis.tiles), y)
    drawing.text(MARGIN, y + 4, "time", size=11, fill=MUTED)


def _legend(drawing: Drawing, y: float, pending: int) -> None:
    copies = "copy" if pending == 1 else "copies"
    entries = (
        (COPY, "copy in flight, global to shared"),
        (READ, "fragments are loaded from it"),
    )
    x = float(MARGIN)
    for fill, words in entries:
        drawing.rect(x, y - 11, 14, 14, fill=fill, radius=3)
        drawing.text(x + 20, y, words, size=11.5)
        x += 44 + text_width(words, 11.5)
    drawing.line(x + 2, y - 12, x + 2, y + 4, dashed=True)
    words = f"wait for at most {pending} {copies} in flight, barrier"
    drawing.text(x + 10, y, words, size=11.5)
