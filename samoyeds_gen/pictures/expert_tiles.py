"""How one launch walks the tiles of all experts: which tile is which CTA's, and what is wasted.

The order is the kernel's (`place` in templates/_specialised_experts.cuh.jinja): expert by expert,
groups of tile rows column by column, CTA c takes tiles c, c + ctas, and so on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from samoyeds_gen.pictures.palette import ABSENT, BORDER, CONTENDERS, INK, MUTED, PAPER
from samoyeds_gen.pictures.svg import Drawing

WIDTH = 880
MARGIN = 28
LABELS = 92
TOP = 100
TILE_HEIGHT = 34
FOOT = 74


@dataclass(frozen=True, slots=True)
class ExpertTile:
    """Tile `number` of a launch: its expert, its row of tiles along the weight, its first output
    row and how many rows it has, of which those beyond a tile's height are nobody's.
    """

    number: int
    expert: int
    row: int
    first: int
    rows: int


def expert_tiles(
    counts: Sequence[int], m: int, tile: tuple[int, int], group: int
) -> Iterator[ExpertTile]:
    """The tiles of a launch in order, for `counts` tokens an expert and `m` weight rows each.

    `tile` is (m, n) of the schedule, `group` its raster's.
    """
    tiles_m, number, first = ceil(m / tile[0]), 0, 0
    for expert, count in enumerate(counts):
        columns = ceil(count / tile[1])
        for above in range(0, tiles_m, group):
            for column in range(columns):
                begin = column * tile[1]
                for row in range(above, min(above + group, tiles_m)):
                    rows = min(tile[1], count - begin)
                    yield ExpertTile(number, expert, row, first + begin, rows)
                    number += 1
        first += count


def draw_expert_tiles(
    counts: Sequence[int], m: int, tile: tuple[int, int], group: int, ctas: int
) -> str:
    """An SVG: output rows from left to right, rows of weight tiles from top to bottom.

    A tile has its CTA's colour and its own number; the hollow part of one are rows that its expert
    has no tokens for. Arguments are those of `expert_tiles`, and the number of CTAs.
    """
    tiles = list(expert_tiles(counts, m, tile, group))
    tiles_m = ceil(m / tile[0])
    # An expert is as wide as its tiles, so that what is wasted of its last one can be seen.
    wide = [max(ceil(count / tile[1]), 0.5) for count in counts]
    scale = (WIDTH - 2 * MARGIN - LABELS) / sum(wide)
    left = [MARGIN + LABELS + scale * sum(wide[:expert]) for expert in range(len(counts))]
    starts = [sum(counts[:expert]) for expert in range(len(counts))]
    drawing = Drawing(WIDTH, TOP + tiles_m * TILE_HEIGHT + FOOT, "Tiles of a launch over experts")
    drawing.text(MARGIN, 34, "One launch over all experts", size=16, bold=True)
    note = (
        f"{len(tiles)} tiles of {tile[0]} weight rows x {tile[1]} tokens, {ctas} CTAs: "
        f"colour is the CTA, the number says when"
    )
    drawing.text(MARGIN, 54, note, size=12.5, fill=MUTED)
    for row in range(tiles_m):
        y = TOP + row * TILE_HEIGHT
        drawing.text(MARGIN, y + 21, f"rows {row * tile[0]}..", size=11, fill=MUTED)
    for each in tiles:
        column = (each.first - starts[each.expert]) // tile[1]
        x, y = left[each.expert] + column * scale, TOP + each.row * TILE_HEIGHT
        data = {"tile": each.number, "expert": each.expert, "cta": each.number % ctas}
        drawing.rect(x, y, scale, TILE_HEIGHT, fill=ABSENT, stroke=PAPER)
        colour = CONTENDERS[each.number % ctas % len(CONTENDERS)]
        share = each.rows / tile[1]
        drawing.rect(
            x, y, scale * share, TILE_HEIGHT, fill=colour, stroke=PAPER,
            data=data | {"rows": each.rows, "row": each.row},
        )  # fmt: skip
        drawing.text(x + scale / 2, y + 21, each.number, size=11, anchor="middle")
    bottom = TOP + tiles_m * TILE_HEIGHT
    for expert, count in enumerate(counts):
        middle = left[expert] + wide[expert] * scale / 2
        drawing.text(middle, TOP - 10, f"expert {expert}", size=11, anchor="middle")
        drawing.text(
            middle, bottom + 18, count, size=11, anchor="middle", fill=INK if count else MUTED
        )
        if expert:
            drawing.line(left[expert], TOP - 22, left[expert], bottom + 24, stroke=BORDER)
    drawing.text(MARGIN, bottom + 18, "tokens", size=11, fill=MUTED)
    whole = sum(ceil(count / tile[1]) for count in counts) * tile[1]
    used = f"{sum(counts)} of {whole} rows of tiles have a token"
    drawing.text(MARGIN, bottom + 50, used, size=12, fill=MUTED)
    return drawing.svg()
