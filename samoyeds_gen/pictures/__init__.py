"""Pictures of formats and plans as SVG text: deterministic, no dependency, readable on any page."""

from samoyeds_gen.pictures.pipeline import draw_pipeline
from samoyeds_gen.pictures.shared_memory import draw_shared_memory
from samoyeds_gen.pictures.sparse_format import draw_format

__all__ = ["draw_format", "draw_pipeline", "draw_shared_memory"]
