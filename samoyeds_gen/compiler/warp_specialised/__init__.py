"""The warp-specialised pipeline: a TMA producer feeds warpgroups of sparse wgmma, on sm_90a."""

from samoyeds_gen.compiler.warp_specialised.constants import name_constants
from samoyeds_gen.compiler.warp_specialised.geometry import (
    MAX_EXPERTS,
    SpecialisedGeometry,
    SpecialisedPlan,
)
from samoyeds_gen.compiler.warp_specialised.legality import RULES
from samoyeds_gen.compiler.warp_specialised.lower import add_buffers, lower
from samoyeds_gen.compiler.warp_specialised.pipeline import (
    add_operations,
    order_loop,
    verify_synchronisation,
)
from samoyeds_gen.compiler.warp_specialised.text import SpecialisedText

__all__ = [
    "MAX_EXPERTS",
    "RULES",
    "SpecialisedGeometry",
    "SpecialisedPlan",
    "SpecialisedText",
    "add_buffers",
    "add_operations",
    "lower",
    "name_constants",
    "order_loop",
    "verify_synchronisation",
]
