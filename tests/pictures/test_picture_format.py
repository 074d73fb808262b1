"""The format picture shows a weight that really is of the format."""

from collections import defaultdict

import pytest
from picture_reader import collisions, outside, shapes, texts

from samoyeds_gen.formats import Format
from samoyeds_gen.pictures import draw_format

FORMATS = [(1, 1, 16), (1, 2, 64), (2, 4, 32), (1, 4, 128), (4, 8, 32), (8, 16, 128), (3, 7, 48)]


@pytest.fixture(params=FORMATS, ids=str)
def format(request):
    return Format(*request.param)


def test_n_of_m_sub_rows_are_kept_and_two_of_four_inside(format):
    groups, rows = defaultdict(int), defaultdict(set)
    for cell in shapes(draw_format(format), "rect", "state"):
        block, row = int(cell.data("block")), int(cell.data("row"))
        column, state = int(cell.data("column")), cell.data("state")
        groups[block, row, column // 4] += state == "kept"
        if state != "absent":
            rows[block, row // format.m].add(row)
    assert {len(kept) for kept in rows.values()} == {format.n}
    assert set(groups.values()) == ({2} if format.plain else {0, 2})


def test_stored_values_are_as_many_as_kept_ones(format):
    svg = draw_format(format)
    kept = [cell for cell in shapes(svg, "rect", "state") if cell.data("state") == "kept"]
    stored = [cell for cell in shapes(svg, "rect", "array") if cell.data("array") == "data"]
    assert len(stored) == len(kept)


def test_indices_are_those_of_the_kept_rows(format):
    svg = draw_format(format)
    drawn = [cell for cell in shapes(svg, "rect", "array") if cell.data("array") == "indices"]
    assert bool(drawn) is not format.plain
    assert ("index" in texts(svg)) is not format.plain


def test_the_nibble_belongs_to_the_positions(format):
    (label,) = shapes(draw_format(format), "text", "nibble")
    first, second = (int(word.strip(",")) for word in label.text.split()[1:4:2])
    assert int(label.data("nibble")) == first | second << 2
    assert first < second


def test_words_fit_the_card_and_name_the_format(format):
    svg = draw_format(format)
    assert outside(svg) == []
    assert collisions(svg) == []
    assert f"Format ({format})" in texts(svg)
    assert f"{100 * format.density:g} %" in " ".join(texts(svg))
    assert svg == draw_format(format)
