"""The compiler: a legal schedule becomes a plan, a plan becomes one readable CUDA file."""

from samoyeds_gen.compiler.dependence import mermaid
from samoyeds_gen.compiler.driver import compile_plan, passes
from samoyeds_gen.compiler.emit import emit, emit_routing
from samoyeds_gen.compiler.legality import RULES, check_legal, first_violation
from samoyeds_gen.compiler.plan import Box, Buffer, Packing, Parameter, Plan
from samoyeds_gen.compiler.print import print_plan
from samoyeds_gen.compiler.routing import (
    Combine,
    RoutingPlan,
    Step,
    lower_combine,
    lower_step,
    print_routing_plan,
)
from samoyeds_gen.compiler.warp_specialised import MAX_EXPERTS

__all__ = [
    "MAX_EXPERTS",
    "RULES",
    "Box",
    "Buffer",
    "Combine",
    "Packing",
    "Parameter",
    "Plan",
    "RoutingPlan",
    "Step",
    "check_legal",
    "compile_plan",
    "emit",
    "emit_routing",
    "first_violation",
    "lower_combine",
    "lower_step",
    "mermaid",
    "passes",
    "print_plan",
    "print_routing_plan",
]
