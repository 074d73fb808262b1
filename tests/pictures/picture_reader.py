"""Reads a picture back: shapes with their data-* attributes, and whether everything is inside."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass

from samoyeds_gen.compiler import compile_plan
from samoyeds_gen.formats import Format
from samoyeds_gen.language import load_schedule, make_ssmm
from samoyeds_gen.pictures.svg import text_width

SPACE = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Shape:
    tag: str
    attributes: dict[str, str]
    text: str

    def data(self, name: str) -> str | None:
        return self.attributes.get(f"data-{name}")

    def number(self, name: str) -> float:
        return float(self.attributes[name])

    @property
    def span(self) -> tuple[float, float]:
        return self.number("x"), self.number("x") + self.number("width")


def shapes(svg: str, tag: str, *having: str) -> list[Shape]:
    """Shapes of one tag that carry all these data attributes, in drawing order."""
    found = [
        Shape(tag, dict(each.attrib), "".join(each.itertext()))
        for each in ET.fromstring(svg).iter(f"{SPACE}{tag}")
    ]
    return [each for each in found if all(each.data(name) is not None for name in having)]


def texts(svg: str) -> list[str]:
    return [each.text for each in shapes(svg, "text")]


def box(text: Shape) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a text, a little smaller than it is."""
    size = text.number("font-size")
    wide = 0.9 * text_width(text.text, size)
    anchor = text.attributes.get("text-anchor", "start")
    left = text.number("x") - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
    return left, text.number("y") - 0.7 * size, left + wide, text.number("y")


def collisions(svg: str) -> list[tuple[str, str]]:
    """Pairs of texts that stand on each other."""
    boxes = [(text.text, box(text)) for text in shapes(svg, "text")]
    return [
        (one, other)
        for place, (one, a) in enumerate(boxes)
        for other, b in boxes[:place]
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]


def outside(svg: str) -> list[Shape]:
    """Shapes that reach beyond the card."""
    root = ET.fromstring(svg)
    width, height = float(root.get("width")), float(root.get("height"))
    lost = []
    for rect in shapes(svg, "rect"):
        left, right = rect.span
        bottom = rect.number("y") + rect.number("height")
        if left < 0 or right > width or bottom > height:
            lost.append(rect)
    for text in shapes(svg, "text"):
        left, _, right, bottom = box(text)
        if left < 0 or right > width or bottom > height:
            lost.append(text)
    return lost


def plan_of(text: str = "1,2,64", schedule: str = "ssmm_sm80"):
    problem = make_ssmm(Format.parse(text), "bfloat16")
    return compile_plan(load_schedule(schedule, problem.format, problem.dtype), problem)
