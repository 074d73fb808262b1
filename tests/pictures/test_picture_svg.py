"""The SVG writer: well-formed, escaped, deterministic."""

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st
from picture_reader import shapes

from samoyeds_gen.pictures.svg import Drawing

printable = st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), max_size=20)


@given(printable, st.floats(-500, 500), st.integers(-500, 500))
def test_what_is_written_can_be_read_back(content, x, y):
    drawing = Drawing(100, 50, content or "title")
    drawing.text(x, y, content, data={"note": content})
    (text,) = shapes(drawing.svg(), "text")
    assert text.text == content
    assert text.data("note") == content
    assert abs(text.number("x") - x) <= 0.005
    assert text.number("y") == y


@given(st.floats(0, 1000, allow_subnormal=False))
def test_numbers_are_short_and_plain(value):
    drawing = Drawing(10, 10, "numbers")
    drawing.rect(value, 0, 1, 1, fill="#000000")
    written = shapes(drawing.svg(), "rect")[1].attributes["x"]
    assert "e" not in written
    assert len(written.partition(".")[2]) <= 2


def test_the_file_has_a_title_for_readers_who_do_not_see_it():
    root = ET.fromstring(Drawing(10, 10, "Ring & bytes").svg())
    assert root.get("aria-label") == "Ring & bytes"
    assert root.get("role") == "img"
