"""The (N, M, V) format as a picture: a small weight, what is kept of it, and what is stored.

The weight is random but real: it is encoded by `formats.encode`, and everything drawn is read from
the encoded arrays.
"""

from dataclasses import dataclass

import numpy as np

from samoyeds_gen.formats import Format, SparseWeight, encode
from samoyeds_gen.pictures.palette import ABSENT, INK, KEPT, KEPT_ROW, MUTED, PAPER
from samoyeds_gen.pictures.svg import Drawing

WIDTH = 880
MARGIN = 28
TOP = 132
CELL = 13
SHOWN = 16  # columns of a V-block that are drawn
BLOCKS = 2
BLOCK_GAP = 16
BAND_GAP = 6
STORED = 552  # pixel where the stored arrays begin
SEED = 20


@dataclass(frozen=True, slots=True)
class Example:
    """An encoded weight with a few bands and two V-blocks."""

    weight: SparseWeight
    bands: int

    def kept(self, stored_row: int, column: int) -> tuple[bool, bool]:
        """Whether (first, second) entry of its group of four is at this dense column."""
        word = int(self.weight.metadata[stored_row, column // 32])
        nibble = word >> (column % 32 // 4 * 4) & 15
        return nibble & 3 == column % 4, nibble >> 2 == column % 4

    def stored_row(self, row: int, block: int) -> int | None:
        """The stored row that holds output row `row` in this V-block, None if it is not kept."""
        form = self.weight.format
        band, place = divmod(row, form.m)
        for j in range(form.n):
            stored = band * form.n + j
            if int(self.weight.positions[stored, block]) == place:
                return stored
        return None


def draw_format(format: Format) -> str:
    """The format as SVG text: dense blocks, kept sub-rows, 2:4 inside, and the stored arrays.

    At most 16 columns of every V-block are drawn.
    """
    example = _example(format)
    rows = example.bands * format.m
    body = rows * CELL + (example.bands - 1) * BAND_GAP
    height = round(TOP + body + 160)
    drawing = Drawing(WIDTH, height, f"Format ({format})")
    _head(drawing, format)
    _dense(drawing, example)
    _stored(drawing, example, body)
    _group(drawing, example, TOP + body + 52)
    return drawing.svg()


def _example(format: Format) -> Example:
    bands = max(1, 8 // format.m)
    shape = bands * format.m, BLOCKS * format.v
    dense = np.random.default_rng(SEED).standard_normal(shape)
    weight = encode(dense, n=format.n, m=format.m, v=format.v, dtype="float16")
    return Example(weight, bands)


def _head(drawing: Drawing, format: Format) -> None:
    n, m, v = format.n, format.m, format.v
    drawing.text(MARGIN, 42, f"Format ({format})", size=18, bold=True)
    if format.plain:
        kept = "Every sub-row is kept"
    else:
        kept = f"Of {m} sub-rows of {v} columns, {n} {'is' if n == 1 else 'are'} kept"
    share = f"{100 * format.density:g} % of the values are stored"
    drawing.text(
        MARGIN, 64, f"{kept}, and two of every four columns in it: {share}.", size=13, fill=MUTED
    )


def _columns(format: Format) -> int:
    return min(format.v, SHOWN)


def _y(format: Format, row: int) -> float:
    return TOP + row * CELL + row // format.m * BAND_GAP


def _dense(drawing: Drawing, example: Example) -> None:
    format = example.weight.format
    columns = _columns(format)
    drawing.text(MARGIN, TOP - 34, "Dense weight [m, k]", size=13, bold=True)
    for block in range(BLOCKS):
        left = MARGIN + block * (columns * CELL + BLOCK_GAP)
        note = f"V-block {block}" + (
            f", {columns} of {format.v} columns" if format.v > columns else ""
        )
        drawing.text(left, TOP - 10, note, size=11, fill=MUTED)
        for row in range(example.bands * format.m):
            stored = example.stored_row(row, block)
            y = _y(format, row)
            for column in range(columns):
                _dense_cell(drawing, example, stored, block, row, column, left + column * CELL, y)
    right = MARGIN + BLOCKS * columns * CELL + (BLOCKS - 1) * BLOCK_GAP + 6
    for band in range(example.bands):
        top, bottom = _y(format, band * format.m), _y(format, band * format.m + format.m - 1) + CELL
        drawing.line(right, top, right, bottom, width=1.5)
        if band == 0:
            drawing.text(right + 6, (top + bottom) / 2 + 4, f"M = {format.m}", size=11, fill=MUTED)


def _dense_cell(
    drawing: Drawing,
    example: Example,
    stored: int | None,
    block: int,
    row: int,
    column: int,
    x: float,
    y: float,
) -> None:
    fill, state = ABSENT, "absent"
    if stored is not None:
        kept = any(example.kept(stored, block * example.weight.format.v + column))
        fill, state = (KEPT, "kept") if kept else (KEPT_ROW, "dropped")
    inset = 1.5 if column % 4 == 3 else 0.5
    data = {"array": "dense", "block": block, "row": row, "column": column, "state": state}
    drawing.rect(x, y + 0.5, CELL - inset, CELL - 1, fill=fill, radius=2, data=data)


def _stored(drawing: Drawing, example: Example, body: float) -> None:
    """Stored rows beside the middle of the dense rows: values, and each block's index."""
    weight = example.weight
    format, rows = weight.format, example.bands * weight.format.n
    wide = _columns(format) // 2 * CELL
    drawing.text(STORED, TOP - 34, "Stored", size=13, bold=True)
    drawing.arrow(STORED - 34, TOP + body / 2, STORED - 12, TOP + body / 2)
    gap = BAND_GAP if format.n > 1 else 3
    tall = rows * (CELL + 3) + (example.bands - 1) * gap
    top = TOP + max(0.0, (body - tall) / 2)
    for block in range(BLOCKS):
        left = STORED + block * (wide + 52)
        drawing.text(left, top - 10, "data", size=11, fill=MUTED)
        if weight.indices is not None:
            drawing.text(left + wide + 8, top - 10, "index", size=11, fill=MUTED)
        for row in range(rows):
            y = top + row * (CELL + 3) + row // format.n * gap
            for value in range(_columns(format) // 2):
                inset = 1.5 if value % 2 else 0.5
                data = {"array": "data", "block": block, "row": row, "column": value}
                drawing.rect(left + value * CELL, y, CELL - inset, CELL, fill=KEPT, data=data)
            if weight.indices is not None:
                index = int(weight.indices[row, block])
                data = {"array": "indices", "block": block, "row": row}
                drawing.rect(left + wide + 8, y, 22, CELL, fill=PAPER, stroke=KEPT, data=data)
                drawing.text(
                    left + wide + 19, y + 10.5, index, size=10.5, anchor="middle", mono=True
                )


def _group(drawing: Drawing, example: Example, y: float) -> None:
    """One group of four, its two values and its metadata nibble; then the byte count."""
    weight = example.weight
    first, second = (next(c for c in range(4) if example.kept(0, c)[which]) for which in (0, 1))
    drawing.text(MARGIN, y, "One group of four", size=13, bold=True)
    top = y + 16
    side = 30.0
    for column in range(4):
        kept = column in (first, second)
        x = MARGIN + column * (side + 3)
        drawing.rect(x, top, side, side, fill=KEPT if kept else KEPT_ROW, radius=4)
        drawing.text(
            x + side / 2,
            top + 20,
            column,
            anchor="middle",
            fill=PAPER if kept else MUTED,
            mono=True,
        )
    drawing.arrow(MARGIN + 144, top + side / 2, MARGIN + 176, top + side / 2)
    for place, position in enumerate((first, second)):
        x = MARGIN + 192 + place * (side + 3)
        drawing.rect(x, top, side, side, fill=KEPT, radius=4)
        drawing.text(x + side / 2, top + 20, position, anchor="middle", fill=PAPER, mono=True)
    nibble = first | second << 2
    words = f"positions {first} and {second}, metadata nibble {first} | {second} << 2 = {nibble:#x}"
    drawing.text(MARGIN + 276, top + 14, words, size=12.5, data={"nibble": nibble})
    facts = "Positions increase; one 32-bit word holds 32 columns, the first in its low bits."
    drawing.text(MARGIN + 276, top + 31, facts, size=12, fill=MUTED)
    legend = ((KEPT, "stored"), (KEPT_ROW, "dropped by 2:4"), (ABSENT, "sub-row not kept"))
    x = float(MARGIN)
    for fill, word in legend[: 2 if weight.format.plain else 3]:
        drawing.rect(x, top + 58, 14, 14, fill=fill, radius=3)
        drawing.text(x + 20, top + 69, word, size=11.5, fill=INK)
        x += 44 + 7 * len(word)
