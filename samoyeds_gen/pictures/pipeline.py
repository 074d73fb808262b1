"""The copy ring over time as a picture: which stage is filled, waits and is computed on when.

Everything is read from the plan's loop: how far ahead a tile is copied and how many copies may be
in flight at the wait.
"""

from samoyeds_gen.compiler import Plan
from samoyeds_gen.compiler.ops import CopyTile, Wait
from samoyeds_gen.pictures.palette import COMPUTE, COPY, MUTED
from samoyeds_gen.pictures.svg import Drawing, text_width

WIDTH = 880
MARGIN = 28
LABELS = 66
ROW = 34
TOP = 118


def draw_pipeline(plan: Plan) -> str:
    """The ring pipeline of a plan as SVG text: one row a stage, one column a loop iteration.

    A copy is drawn from its issue to the wait that covers it, matrix work in its own iteration.
    """
    stages = plan.schedule.pipeline.stages
    ahead = next(op.ahead for op in plan.loop if isinstance(op, CopyTile))
    pending = next(op.pending for op in plan.loop if isinstance(op, Wait))
    tiles = stages + 3
    height = TOP + stages * ROW + 92
    drawing = Drawing(WIDTH, height, f"Pipeline of {plan.entry}")
    drawing.text(MARGIN, 42, f"Pipeline of {plan.entry}", size=18, bold=True)
    facts = f"{stages} stages of k = {plan.tile[2]}; while tile t is computed, tile t + {ahead} is copied"
    drawing.text(MARGIN, 64, facts, fill=MUTED, size=13)
    column = (WIDTH - 2 * MARGIN - LABELS) / (tiles + 1)
    start = MARGIN + LABELS + column
    for stage in range(stages):
        y = TOP + stage * ROW + 22
        drawing.text(MARGIN, y, f"stage {stage}", size=12.5)
    _axis(drawing, tiles, stages, start, column)
    for tile in range(tiles + ahead):
        _tile(drawing, tile, tiles, stages, ahead, start, column)
    _legend(drawing, TOP + stages * ROW + 66, pending)
    return drawing.svg()


def _tile(
    drawing: Drawing, tile: int, tiles: int, stages: int, ahead: int, start: float, column: float
) -> None:
    """The copy of a tile, and its matrix work, in the row of its stage."""
    y = TOP + tile % stages * ROW + 4
    issued = -1.0 if tile < ahead else tile - ahead + 0.12
    landed = min(float(tile), float(tiles))
    data = {"work": "copy", "tile": tile, "stage": tile % stages, "from": issued, "to": landed}
    _bar(drawing, f"copy {tile}", start, column, issued, landed, y, COPY, data)
    if tile < tiles:
        began, ended = tile + 0.12, tile + 1.0
        data = {"work": "compute", "tile": tile, "stage": tile % stages, "from": began, "to": ended}
        _bar(drawing, f"tile {tile}", start, column, began, ended, y, COMPUTE, data)


def _bar(
    drawing: Drawing,
    label: str,
    start: float,
    column: float,
    first: float,
    last: float,
    y: float,
    fill: str,
    data: dict[str, object],
) -> None:
    x, wide = start + first * column, (last - first) * column - 2
    drawing.rect(x, y, wide, ROW - 8, fill=fill, radius=4, data=data)
    short = label if wide > text_width(label, 11) else label.split()[-1]
    if wide > text_width(short, 11):
        drawing.text(x + wide / 2, y + 17, short, size=11, anchor="middle")


def _axis(drawing: Drawing, tiles: int, stages: int, start: float, column: float) -> None:
    """Iterations above; a dashed line where each begins with its wait and barrier."""
    bottom = TOP + stages * ROW + 4
    narrow = column < text_width("tile 00 ", 11)
    drawing.text(start - column / 2, TOP - 10, "prologue", size=11, anchor="middle", fill=MUTED)
    for tile in range(tiles):
        x = start + tile * column
        drawing.line(x + column * 0.05, TOP - 2, x + column * 0.05, bottom, dashed=True)
        label = str(tile) if narrow else f"loop {tile}"
        drawing.text(
            x + column / 2, TOP - 10, label, size=11, anchor="middle", fill=MUTED,
            data={"iteration": tile},
        )
    y = bottom + 20
    drawing.arrow(start - column, y, start + tiles * column, y)
    drawing.text(MARGIN, y + 4, "time", size=11, fill=MUTED)


def _legend(drawing: Drawing, y: float, pending: int) -> None:
    copies = "copy" if pending == 1 else "copies"
    entries = (
        (COPY, "copy in flight, global to shared"),
        (COMPUTE, "ldmatrix and matrix steps"),
    )
    x = float(MARGIN)
    for fill, words in entries:
        drawing.rect(x, y - 11, 14, 14, fill=fill, radius=3)
        drawing.text(x + 20, y, words, size=11.5)
        x += 44 + text_width(words, 11.5)
    drawing.line(x + 2, y - 12, x + 2, y + 4, dashed=True)
    drawing.text(x + 10, y, f"wait until at most {pending} {copies} are in flight, barrier", size=11.5)
