"""Pictures of formats, plans and figures as SVG text: deterministic and without a dependency."""

from samoyeds_gen.pictures.expert_tiles import draw_expert_tiles
from samoyeds_gen.pictures.ladder import draw_ladder
from samoyeds_gen.pictures.layers import draw_layers, draw_models
from samoyeds_gen.pictures.measurements import draw_measurements
from samoyeds_gen.pictures.pipeline import draw_pipeline
from samoyeds_gen.pictures.shared_memory import draw_shared_memory
from samoyeds_gen.pictures.sparse_format import draw_format

__all__ = [
    "draw_expert_tiles",
    "draw_format",
    "draw_ladder",
    "draw_layers",
    "draw_measurements",
    "draw_models",
    "draw_pipeline",
    "draw_shared_memory",
]
