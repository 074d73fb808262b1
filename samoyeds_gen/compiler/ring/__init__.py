"""The cp.async ring: warp-level sparse matrix steps fed by a multistage ring, sm_80 and later."""

from samoyeds_gen.compiler.ring.constants import name_constants
from samoyeds_gen.compiler.ring.geometry import RingGeometry, RingPlan
from samoyeds_gen.compiler.ring.legality import RULES
from samoyeds_gen.compiler.ring.lower import add_buffers, lower
from samoyeds_gen.compiler.ring.pipeline import add_operations, order_loop, verify_synchronisation
from samoyeds_gen.compiler.ring.text import RingText

__all__ = [
    "RULES",
    "RingGeometry",
    "RingPlan",
    "RingText",
    "add_buffers",
    "add_operations",
    "lower",
    "name_constants",
    "order_loop",
    "verify_synchronisation",
]
