"""The shared memory of a kernel as a picture: who owns which bytes when, and where chunks lie.

Everything is read from the plan; the swizzle maps are drawn by swizzle_map.py.
"""

from collections.abc import Sequence
from itertools import groupby, pairwise

from samoyeds_gen.compiler import Buffer, Plan
from samoyeds_gen.compiler.storage import SECTIONS
from samoyeds_gen.pictures.palette import ABSENT, INK, MUTED, PAPER, buffer_colour
from samoyeds_gen.pictures.svg import Drawing, text_width
from samoyeds_gen.pictures.swizzle_map import Ring, draw_swizzles, swizzles_height

WIDTH = 880
MARGIN = 28
LABELS = 132  # pixels left of the tracks
TRACK = 58
LEAST = 14.0  # pixels of the smallest buffer


def draw_shared_memory(plan: Plan) -> str:
    """The shared-memory layout of a plan as SVG text.

    One track per span of the kernel's life shows the live buffers at their byte offsets, ring
    stages side by side; buffers that share bytes stand under each other. Below, one map per
    swizzled ring: eight rows by 16-byte chunks, coloured by bank group. Sizes are bytes.
    """
    shared = [each for each in plan.buffers if each.space == "shared"]
    spans = _spans(shared)
    rings = _rings(plan)
    tracks_end = 150 + len(spans) * (TRACK + 8)
    height = round(tracks_end + 66 + swizzles_height(rings, WIDTH - 2 * MARGIN) + 12)
    drawing = Drawing(WIDTH, height, f"Shared memory of {plan.entry}")
    _head(drawing, plan)
    edges = _pixels(shared, WIDTH - 2 * MARGIN - LABELS)
    for row, (title, live) in enumerate(spans):
        y = 150 + row * (TRACK + 8)
        drawing.text(MARGIN, y + 26, title, bold=True)
        drawing.text(MARGIN, y + 42, f"{_bytes(sum(b.bytes for b in live))} live", fill=MUTED)
        for buffer in live:
            _buffer(drawing, buffer, edges, y, title)
    _ticks(drawing, shared, edges, tracks_end)
    draw_swizzles(drawing, rings, MARGIN, tracks_end + 52, WIDTH - 2 * MARGIN)
    return drawing.svg()


def _head(drawing: Drawing, plan: Plan) -> None:
    limit = plan.target.shared_per_cta
    m, n, k = plan.tile
    drawing.text(MARGIN, 42, f"Shared memory of {plan.entry}", size=18, bold=True)
    facts = (
        f"format ({plan.problem.format}), {plan.problem.dtype.name}, tile {m} x {n} x {k}, "
        f"{plan.schedule.pipeline.stages} stages, {plan.threads} threads"
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
        Ring(each.name, each.swizzle, each.bytes // (each.shape[0] * each.shape[1]))
        for each in plan.buffers
        if each.swizzle is not None
    ]


def _stages(buffer: Buffer) -> int:
    """Ring slots of a buffer: its first axis when it is a swizzled ring, else one."""
    return buffer.shape[0] if buffer.swizzle is not None else 1


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
    _name(drawing, buffer, left, right, y)


def _name(drawing: Drawing, buffer: Buffer, left: float, right: float, y: float) -> None:
    """Name and size: on one line inside, on two, or above a buffer too narrow for its name."""
    middle, size = (left + right) / 2, _bytes(buffer.bytes)
    line = f"{buffer.name}  {size}"
    if right - left > text_width(line, 12.5):
        low = y + (24 if _stages(buffer) > 1 else 34)
        drawing.text(middle, low, line, size=12.5, anchor="middle", bold=True)
    elif right - left > max(text_width(buffer.name, 12.5), text_width(size, 11)):
        drawing.text(middle, y + 26, buffer.name, size=12.5, anchor="middle", bold=True)
        drawing.text(middle, y + 42, size, size=11, anchor="middle")
    else:
        anchor, x = ("end", right) if right > WIDTH - 160 else ("start", left)
        drawing.text(x, y - 5, f"{line} at {buffer.offset}", size=11, anchor=anchor)


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
