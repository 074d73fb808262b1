"""Kernels of routing: choose experts, sort tokens by expert, and combine what experts computed.

They have no schedule: a step of a routing becomes a plan directly, and a plan one CUDA file.
"""

from samoyeds_gen.compiler.routing.combine import combine_blocks, lower_combine
from samoyeds_gen.compiler.routing.lower import MOST_ALONE, chunk_of, lower_step
from samoyeds_gen.compiler.routing.plan import RoutingPlan, print_routing_plan
from samoyeds_gen.compiler.routing.problem import Combine, Step, StepKind
from samoyeds_gen.compiler.routing.text import RoutingText

__all__ = [
    "MOST_ALONE",
    "Combine",
    "RoutingPlan",
    "RoutingText",
    "Step",
    "StepKind",
    "chunk_of",
    "combine_blocks",
    "lower_combine",
    "lower_step",
    "print_routing_plan",
]
