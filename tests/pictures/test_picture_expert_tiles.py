"""The walk over experts: every row of every expert has one tile, in the kernel's order."""

import re
from collections import Counter
from dataclasses import astuple
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_reader import collisions, outside, shapes, texts

from samoyeds_gen.pictures.expert_tiles import draw_expert_tiles, expert_tiles

KERNEL = Path(__file__).parents[2] / "generated" / "experts_sm90_down.cu"
COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=6)
EXAMPLE = ((200, 0, 37, 144, 300), 1024, (256, 144), 2, 6)


@given(COUNTS, st.integers(1, 40), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
def test_tiles_cover_what_there_is_once(counts, m, tile_m, tile_n, group):
    tiles = list(expert_tiles(counts, m, (tile_m, tile_n), group))
    assert [each.number for each in tiles] == list(range(len(tiles)))
    assert [each.expert for each in tiles] == sorted(each.expert for each in tiles)
    covered = Counter(
        (row, at)
        for each in tiles
        for row in range(each.row * tile_m, min((each.row + 1) * tile_m, m))
        for at in range(each.first, each.first + each.rows)
    )
    assert covered == Counter(product(range(m), range(sum(counts))))
    starts = [sum(counts[: each.expert]) for each in tiles]
    for each, start in zip(tiles, starts, strict=True):
        assert start <= each.first
        assert each.first + each.rows <= start + counts[each.expert]


def test_a_group_is_walked_column_by_column():
    walk = [(each.row, each.first) for each in expert_tiles((20,), 30, (10, 10), 2)]
    assert walk == [(0, 0), (1, 0), (0, 10), (1, 10), (2, 0), (2, 10)]


def kernels_walk(counts, m, tile, group):
    """What the emitted kernel's own arithmetic says of each tile: C read as Python."""
    text = KERNEL.read_text()
    body = re.search(r"const int tiles_n = \(.*?last_row = [^;]*;", text, re.DOTALL)[0]
    lines = [line.strip().removeprefix("const int ").rstrip(";") for line in body.splitlines()]
    program = "\n".join(lines).replace("/", "//").replace("kTileN", str(tile[1]))
    program = program.replace("kRasterGroup", str(group))
    tiles_m = -(-m // tile[0])
    tiles, rows = [0], [0]
    for count in counts:
        tiles.append(tiles[-1] + -(-count // tile[1]) * tiles_m)
        rows.append(rows[-1] + count)
    for number in range(tiles[-1]):
        expert = max(each for each in range(len(counts)) if tiles[each] <= number)
        known = {"expert": expert, "expert_tiles": tiles, "expert_rows": rows, "tile": number}
        exec(program, known | {"tiles_m": tiles_m, "min": min}, known)
        left = known["last_row"] - known["first_row"]
        yield number, expert, known["tile_m"], known["first_row"], min(left, tile[1])


@given(COUNTS, st.integers(1, 40), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
def test_the_walk_is_the_kernels(counts, m, tile_m, tile_n, group):
    walk = [astuple(each) for each in expert_tiles(counts, m, (tile_m, tile_n), group)]
    assert list(kernels_walk(counts, m, (tile_m, tile_n), group)) == walk


def test_the_picture_shows_every_tile_and_what_is_used():
    svg = draw_expert_tiles(*EXAMPLE)
    drawn = shapes(svg, "rect", "tile", "cta")
    tiles = list(expert_tiles(*EXAMPLE[:4]))
    assert [int(each.data("tile")) for each in drawn] == [each.number for each in tiles]
    assert [int(each.data("rows")) for each in drawn] == [each.rows for each in tiles]
    assert [int(each.data("cta")) for each in drawn] == [each.number % 6 for each in tiles]
    full = max(each.number("width") for each in drawn)
    for rect, each in zip(drawn, tiles, strict=True):
        assert rect.number("width") == pytest.approx(full * each.rows / 144, abs=0.02)
    assert "681 of 1008 rows of tiles have a token" in " ".join(texts(svg))


@pytest.mark.parametrize("counts", [(1,), (0, 0), (5, 0, 900), (144,) * 8])
def test_everything_stays_on_the_card(counts):
    svg = draw_expert_tiles(counts, *EXAMPLE[1:])
    assert outside(svg) == []
    assert collisions(svg) == []
