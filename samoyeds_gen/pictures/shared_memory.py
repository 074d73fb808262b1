"""The shared memory of a kernel as a picture: who owns which bytes when, and where chunks lie.

Everything is read from the plan; the swizzle maps are drawn by swizzle_map.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import prod

from samoyeds_gen.compiler import Buffer, Plan
from samoyeds_gen.compiler.storage import SECTIONS
from samoyeds_gen.pictures.palette import ABSENT, INK, MUTED, PAPER, buffer_colour
from samoyeds_gen.pictures.svg import Drawing, text_width
from samoyeds_gen.pictures.swizzle_map import RING, Ring, draw_swizzles, swizzles_height

WIDTH = 880
MARGIN = 28
LABELS = 132  # pixels left of the tracks
TRACK = 58
LEAST = 14.0  # pixels of the smallest buffer
LINE = 16.0  # pixels of a name above a track


def draw_shared_memory(plan: Plan) -> str:
    """The shared-memory layout of a plan as SVG text.

    One track per span of the kernel's life shows the live buffers at their byte offsets, ring
    stages side by side; buffers that share bytes stand under each other. Below, one map per
    swizzled ring: eight rows by 16-byte chunks, coloured by bank group. Sizes are bytes.
    """
    shared = [each for each in plan.buffers if each.space == "shared"]
    rings = _rings(plan)
    edges = _pixels(shared, WIDTH - 2 * MARGIN - LABELS)
    tracks = _tracks(shared, edges)
    bottom = tracks[-1].y + TRACK + 8
    height = round(bottom + 66 + swizzles_height(rings, WIDTH - 2 * MARGIN) + 12)
    drawing = Drawing(WIDTH, height, f"Shared memory of {plan.entry}")
    _head(drawing, plan)
    for track in tracks:
        drawing.text(MARGIN, track.y + 26, track.title, bold=True)
        live = _bytes(sum(each.bytes for each in track.live))
        drawing.text(MARGIN, track.y + 42, f"{live} live", fill=MUTED)
        for buffer in track.live:
            _buffer(drawing, buffer, edges, track.y, track.title)
        for level, buffer in enumerate(track.narrow, start=1):
            _name_above(drawing, buffer, edges, track.y, level)
    _ticks(drawing, shared, edges, bottom)
    draw_swizzles(drawing, rings, MARGIN, bottom + 52, WIDTH - 2 * MARGIN)
    return drawing.svg()


@dataclass(frozen=True, slots=True)
class Track:
    """A span of the kernel's life at pixel `y`; names of `narrow` buffers stand above it."""

    title: str
    live: tuple[Buffer, ...]
    narrow: tuple[Buffer, ...]
    y: float


def _tracks(buffers: Sequence[Buffer], edges: dict[int, float]) -> list[Track]:
    y, tracks = 136.0, []
    for title, live in _spans(buffers):
        narrow = tuple(each for each in live if _lines(each, edges) == 0)
        y += LINE * len(narrow)
        tracks.append(Track(title, tuple(live), narrow, y))
        y += TRACK + 8
    return tracks


def _head(drawing: Drawing, plan: Plan) -> None:
    limit = plan.target.shared_per_cta
    m, n, k = plan.tile
    drawing.text(MARGIN, 42, f"Shared memory of {plan.entry}", size=18, bold=True)
    facts = (
        f"format ({plan.problem.format}), {plan.problem.dtype.name}, tile {m} x {n} x {k}, "
        f"{plan.ring_depth} stages, {plan.threads} threads"
    )
    drawing.text(MARGIN, 64, facts, fill=MUTED, size=13)
    full = WIDTH - 2 * MARGIN
    drawing.rect(MARGIN, 80, full, 10, fill=ABSENT, radius=5)
    used = full * plan.shared_bytes / limit
    drawing.rect(MARGIN, 80, used, 10, fill=INK, radius=5, opacity=0.75, data={"role": "used"})
    share = (
        f"{_bytes(plan.shared_bytes)} of the {_bytes(limit)} that {plan.target.name} gives a CTA"
    )
    drawing.text(MARGIN, 110, share, size=12.5)


def _spans(buffers: Sequence[Buffer]) -> list[tuple[str, list[Buffer]]]:
    """Neighbouring sections with the same live buffers, as (title, buffers)."""

    def live(section: str) -> tuple[str, ...]:
        now = SECTIONS.index(section)
        return tuple(
            each.name
            for each in buffers
            if SECTIONS.index(each.first) <= now <= SECTIONS.index(each.last)
        )

    spans = []
    for names, sections in groupby(SECTIONS, live):
        title = " and ".join(sections)
        spans.append((title, [each for each in buffers if each.name in names]))
    return spans


def _rings(plan: Plan) -> list[Ring]:
    """The buffers whose last axis is a swizzled row."""
    return [
        Ring(each.name, each.swizzle, each.bytes // prod(each.shape[:-1]))
        for each in plan.buffers
        if each.swizzle is not None
    ]


def _stages(buffer: Buffer) -> int:
    """Slots of a ring, which are its first axis; one of any other buffer."""
    return buffer.shape[0] if buffer.name.endswith(RING) else 1


def _pixels(buffers: Sequence[Buffer], width: float) -> dict[int, float]:
    """Pixel of every byte where a buffer or stage begins or ends: in order, none too narrow."""
    places = {0}
    for each in buffers:
        step = each.bytes // _stages(each)
        places |= {each.offset + step * i for i in range(_stages(each) + 1)}
    edges = sorted(places)
    total = edges[-1]
    spans = [max(LEAST, (b - a) / total * width) for a, b in pairwise(edges)]
    scale = width / sum(spans)
    pixels, x = {edges[0]: 0.0}, 0.0
    for edge, span in zip(edges[1:], spans, strict=True):
        x += span * scale
        pixels[edge] = x
    return {edge: MARGIN + LABELS + pixel for edge, pixel in pixels.items()}


def _buffer(drawing: Drawing, buffer: Buffer, edges: dict[int, float], y: float, span: str) -> None:
    stages = _stages(buffer)
    step = buffer.bytes // stages
    for stage in range(stages):
        first = buffer.offset + stage * step
        x, end = edges[first], edges[first + step]
        data = {"span": span, "buffer": buffer.name, "first": first, "last": first + step}
        drawing.rect(x, y, end - x, TRACK, fill=buffer_colour(buffer.name), radius=0, data=data)
        if stages > 1:
            label = f"stage {stage}" if end - x >= text_width("stage 00", 10.5) else str(stage)
            data = {"buffer": buffer.name, "stage": stage}
            drawing.text((x + end) / 2, y + 47, label, size=10.5, anchor="middle", data=data)
        if stage:
            drawing.line(x, y + 34, x, y + TRACK, stroke=PAPER, width=1.5)
    left, right = edges[buffer.offset], edges[buffer.end]
    drawing.line(right, y, right, y + TRACK, stroke=PAPER, width=2)
    middle, size = (left + right) / 2, _bytes(buffer.bytes)
    match _lines(buffer, edges):
        case 1:
            low = y + (24 if stages > 1 else 34)
            line = f"{buffer.name}  {size}"
            drawing.text(middle, low, line, size=12.5, anchor="middle", bold=True)
        case 2:
            drawing.text(middle, y + 26, buffer.name, size=12.5, anchor="middle", bold=True)
            drawing.text(middle, y + 42, size, size=11, anchor="middle")


def _lines(buffer: Buffer, edges: dict[int, float]) -> int:
    """Lines that name and size take inside the buffer; 0 if they find no room there."""
    width, size = edges[buffer.end] - edges[buffer.offset], _bytes(buffer.bytes)
    if width > text_width(f"{buffer.name}  {size}", 12.5):
        return 1
    fits = width > max(text_width(buffer.name, 12.5), text_width(size, 11))
    return 2 if fits and _stages(buffer) == 1 else 0


def _name_above(
    drawing: Drawing, buffer: Buffer, edges: dict[int, float], y: float, level: int
) -> None:
    """Name and size on their own line above the track, at a stroke to the buffer's middle."""
    x = (edges[buffer.offset] + edges[buffer.end]) / 2
    line = f"{buffer.name}  {_bytes(buffer.bytes)} at {buffer.offset}"
    top = y - LINE * level
    left = x - 5 - text_width(line, 11) < MARGIN
    drawing.line(x, top + 3, x, y - 2)
    drawing.text(
        x + (5 if left else -5), top + 10, line, size=11, anchor="start" if left else "end"
    )


def _ticks(drawing: Drawing, buffers: Sequence[Buffer], edges: dict[int, float], y: float) -> None:
    """Byte offsets under the tracks: the end, buffer bounds, then stages where they find room."""
    bounds = {place for each in buffers for place in (each.offset, each.end)}
    last = max(edges)
    taken: list[tuple[float, float]] = []
    for edge in sorted(edges, key=lambda place: (place != last, place not in bounds, place)):
        x, wide = edges[edge], text_width(f"{edge}", 10.5) + 6
        left = x - wide if edge == last else x - wide / 2
        if all(left + wide <= a or b <= left for a, b in taken):
            taken.append((left, left + wide))
            anchor = "end" if edge == last else "middle"
            data = {"offset": edge}
            drawing.line(x, y - 6, x, y + 2)
            drawing.text(
                x, y + 15, edge, size=10.5, anchor=anchor, fill=MUTED, mono=True, data=data
            )
    drawing.text(MARGIN, y + 15, "byte offset", size=10.5, fill=MUTED)


def _bytes(count: int) -> str:
    return f"{count:,} B"
