"""The stream: weights straight from memory to registers beside resident tokens, for small n."""

from samoyeds_gen.compiler.stream.constants import name_constants
from samoyeds_gen.compiler.stream.geometry import StreamGeometry, StreamPlan
from samoyeds_gen.compiler.stream.legality import RULES
from samoyeds_gen.compiler.stream.lower import add_buffers, lower
from samoyeds_gen.compiler.stream.pipeline import (
    add_operations,
    order_loop,
    verify_synchronisation,
)
from samoyeds_gen.compiler.stream.text import StreamText

__all__ = [
    "RULES",
    "StreamGeometry",
    "StreamPlan",
    "StreamText",
    "add_buffers",
    "add_operations",
    "lower",
    "name_constants",
    "order_loop",
    "verify_synchronisation",
]
