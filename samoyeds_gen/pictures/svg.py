"""A small SVG writer: shapes and attributes in a fixed order, so that a picture is always equal.

Decides how shapes and numbers are written. What is drawn where is decided by the pictures, what
colour means what by palette.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from samoyeds_gen.pictures.palette import BORDER, INK, MUTED, PAPER

SANS = "ui-sans-serif, 'Segoe UI', Helvetica, Arial, sans-serif"
MONO = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"
NO_DATA: Mapping[str, object] = {}


@dataclass(slots=True)
class Drawing:
    """A picture of `width` x `height` CSS pixels on a white card, built up shape by shape.

    `title` is its accessible name. Shapes may carry `data`, written as data-* attributes, so that
    a reader of the file finds what a shape stands for.
    """

    width: int
    height: int
    title: str
    _shapes: list[str] = field(default_factory=list, init=False, repr=False)

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str,
        stroke: str | None = None,
        radius: float = 2,
        opacity: float = 1,
        dashed: bool = False,
        data: Mapping[str, object] = NO_DATA,
    ) -> None:
        """A rectangle with its upper left corner at x, y."""
        self._add(
            "rect",
            {
                "x": x,
                "y": y,
                "width": width,
                "height": height,
                "rx": radius,
                "fill": fill,
                **({"stroke": stroke} if stroke else {}),
                **({"stroke-dasharray": "4 3"} if dashed else {}),
                **({"fill-opacity": opacity} if opacity != 1 else {}),
            },
            data,
        )

    def line(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        *,
        stroke: str = MUTED,
        width: float = 1,
        dashed: bool = False,
        data: Mapping[str, object] = NO_DATA,
    ) -> None:
        """A straight line from x1, y1 to x2, y2."""
        self._add(
            "line",
            {
                "x1": x1,
                "y1": y1,
                "x2": x2,
                "y2": y2,
                "stroke": stroke,
                "stroke-width": width,
                **({"stroke-dasharray": "3 3"} if dashed else {}),
            },
            data,
        )

    def text(
        self,
        x: float,
        y: float,
        content: object,
        *,
        size: float = 12,
        fill: str = INK,
        anchor: str = "start",
        bold: bool = False,
        mono: bool = False,
        data: Mapping[str, object] = NO_DATA,
    ) -> None:
        """One line of text whose baseline is at y; `anchor` is start, middle or end."""
        self._add(
            "text",
            {
                "x": x,
                "y": y,
                "font-size": size,
                "fill": fill,
                **({"text-anchor": anchor} if anchor != "start" else {}),
                **({"font-weight": 600} if bold else {}),
                **({"class": "mono"} if mono else {}),
            },
            data,
            str(content),
        )

    def arrow(self, x1: float, y1: float, x2: float, y2: float, *, stroke: str = MUTED) -> None:
        """A horizontal or vertical arrow whose head is at x2, y2."""
        self.line(x1, y1, x2, y2, stroke=stroke, width=1.5)
        across, along = (4, 6) if x1 != x2 else (6, 4)
        back = 1 if x2 > x1 or y2 > y1 else -1
        if x1 != x2:
            points = [(x2 - back * along, y2 - across), (x2, y2), (x2 - back * along, y2 + across)]
        else:
            points = [(x2 - along, y2 - back * across), (x2, y2), (x2 + along, y2 - back * across)]
        path = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        self._add("polygon", {"points": path, "fill": stroke}, NO_DATA)

    def svg(self) -> str:
        """The whole file, ending in a newline."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
            f'viewBox="0 0 {self.width} {self.height}" role="img" '
            f"aria-label={quoteattr(self.title)}>"
        )
        style = f"<style>text{{font-family:{SANS}}}.mono{{font-family:{MONO}}}</style>"
        card = (
            f'<rect x="0.5" y="0.5" width="{self.width - 1}" height="{self.height - 1}" rx="10" '
            f'fill="{PAPER}" stroke="{BORDER}"/>'
        )
        title = f"<title>{escape(self.title)}</title>"
        return "\n".join([head, title, style, card, *self._shapes, "</svg>"]) + "\n"

    def _add(
        self,
        tag: str,
        attributes: Mapping[str, object],
        data: Mapping[str, object],
        content: str | None = None,
    ) -> None:
        everything = {**attributes, **{f"data-{name}": value for name, value in data.items()}}
        words = " ".join(f"{name}={quoteattr(_plain(v))}" for name, v in everything.items())
        body = f">{escape(content)}</{tag}>" if content is not None else "/>"
        self._shapes.append(f"<{tag} {words}{body}")


def text_width(content: str, size: float) -> float:
    """About how wide a line of text is, in pixels; on the wide side for every common font."""
    return 0.61 * size * len(content)


def _plain(value: object) -> str:
    return _number(value) if isinstance(value, int | float) else str(value)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
