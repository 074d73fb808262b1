"""Which bank group holds which 16-byte chunk, without and with a ring's swizzle."""

from collections.abc import Sequence
from dataclasses import dataclass

from samoyeds_gen.language import layouts
from samoyeds_gen.language.layouts import BANK_LINE, CHUNK, Swizzle
from samoyeds_gen.pictures.palette import BANK_GROUPS, MUTED, PAPER
from samoyeds_gen.pictures.svg import Drawing

RING = "_ring"  # how the name of a ring ends
ROWS = 8  # rows of one ldmatrix phase
CELL_HEIGHT = 22
ROW_LABELS = 34
BETWEEN_MAPS = 22
BETWEEN_RINGS = 40
HEADINGS = 48
WIDEST, NARROWEST = 28, 20


@dataclass(frozen=True, slots=True)
class Ring:
    """A ring buffer whose rows of `row_bytes` bytes are swizzled."""

    name: str
    swizzle: Swizzle
    row_bytes: int

    @property
    def chunks(self) -> int:
        """16-byte chunks of a row."""
        return self.row_bytes // CHUNK


def bank_group(swizzle: Swizzle, row_bytes: int, row: int, chunk: int) -> int:
    """The 16-byte bank group 0..7 in which this chunk of this row lies."""
    return swizzle(row * row_bytes + chunk * CHUNK) % BANK_LINE // CHUNK


def swizzles_height(rings: Sequence[Ring], width: float) -> float:
    """Pixels that `draw_swizzles` takes for these rings."""
    rows = len(_rows(rings, width))
    return 26 + rows * (HEADINGS + ROWS * CELL_HEIGHT + 20)


def draw_swizzles(
    drawing: Drawing, rings: Sequence[Ring], x: float, y: float, width: float
) -> None:
    """One pair of maps for each ring, row by row from x, y, and the legend."""
    drawing.text(x, y, "Where eight rows meet the eight bank groups", size=14, bold=True)
    note = "One ldmatrix phase reads one column; number and colour are its 16-byte bank group."
    drawing.text(x, y + 18, note, fill=MUTED)
    for number, row in enumerate(_rows(rings, width)):
        left = x
        top = y + 26 + number * (HEADINGS + ROWS * CELL_HEIGHT + 20)
        for ring in row:
            cell = _cell(ring, width)
            title = f"{ring.name}: rows of {ring.row_bytes} B, {ring.swizzle.name}"
            drawing.text(left, top + 22, title, size=12.5, bold=True)
            _map(drawing, ring, layouts.LINEAR, left, top, cell, "row by row")
            second = left + ROW_LABELS + ring.chunks * cell + BETWEEN_MAPS
            word = "swizzled" if ring.swizzle.bits else "not swizzled"
            _map(drawing, ring, ring.swizzle, second - ROW_LABELS, top, cell, word)
            left += _pair(ring, width) + BETWEEN_RINGS


def _map(
    drawing: Drawing,
    ring: Ring,
    swizzle: Swizzle,
    x: float,
    y: float,
    cell: float,
    word: str,
) -> None:
    """Eight rows by the chunks of a row; row labels only in front of the first map."""
    worst = max(swizzle.wavefronts(ring.row_bytes, chunk) for chunk in range(ring.chunks))
    caption = f"{word}, {worst} pass{'es' if worst > 1 else ''}"
    left, top = x + ROW_LABELS, y + HEADINGS
    drawing.text(left, top - 6, caption, size=11, fill=MUTED)
    for row in range(ROWS):
        if word == "row by row":
            drawing.text(x, top + row * CELL_HEIGHT + 15, f"row {row}", size=10.5, fill=MUTED)
        for chunk in range(ring.chunks):
            group = bank_group(swizzle, ring.row_bytes, row, chunk)
            data = {"ring": ring.name, "map": word, "row": row, "chunk": chunk, "group": group}
            cx, cy = left + chunk * cell, top + row * CELL_HEIGHT
            drawing.rect(
                cx, cy, cell, CELL_HEIGHT, fill=BANK_GROUPS[group], stroke=PAPER, data=data
            )
            drawing.text(cx + cell / 2, cy + 15, group, size=11, anchor="middle", mono=True)
    drawing.text(
        left, top + ROWS * CELL_HEIGHT + 14, f"chunk 0 to {ring.chunks - 1}", size=10.5, fill=MUTED
    )


def _cell(ring: Ring, width: float) -> float:
    room = (width - ROW_LABELS - BETWEEN_MAPS) / (2 * ring.chunks)
    return max(NARROWEST, min(WIDEST, room))


def _pair(ring: Ring, width: float) -> float:
    return ROW_LABELS + 2 * ring.chunks * _cell(ring, width) + BETWEEN_MAPS


def _rows(rings: Sequence[Ring], width: float) -> list[list[Ring]]:
    """The rings in rows that fit the width."""
    rows: list[list[Ring]] = []
    used = width + 1.0
    for ring in rings:
        need = _pair(ring, width)
        if used + BETWEEN_RINGS + need > width:
            rows.append([])
            used = -float(BETWEEN_RINGS)
        rows[-1].append(ring)
        used += BETWEEN_RINGS + need
    return rows
