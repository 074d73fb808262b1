"""The last rules of a warp-specialised schedule: it fits a CTA's registers and shared memory."""

from samoyeds_gen.compiler.rules import Case, Violation, ring_too_large
from samoyeds_gen.compiler.warp_specialised.geometry import MAX_EXPERTS, derive_geometry

RESERVED_BYTES = 2048  # barriers and token rows, at most


def warpgroup_registers(case: Case) -> Violation | None:
    """Accumulators fit the registers that the producer leaves."""
    g = derive_geometry(case.schedule, case.problem)
    there = min(g.consumer_registers, case.target.registers_per_thread)
    if g.registers <= there or case.schedule.resident.spills:
        return None
    return Violation(
        f"about {g.registers} registers a thread are needed, {there} are there for "
        f"{g.consumers} warpgroup{'s' * (g.consumers > 1)} beside a producer",
        "use a smaller tile n" + (", or fewer fragments" if g.fragment_buffers > 1 else ""),
        "tile",
    )


def warpgroup_shared(case: Case) -> Violation | None:
    """Ring and slices fit the shared memory of one CTA."""
    schedule, g = case.schedule, derive_geometry(case.schedule, case.problem)
    slices = g.slices * g.slice_bytes
    table = 8 * (MAX_EXPERTS + 1) if case.problem.grouped else 0
    limit = case.target.shared_per_cta - RESERVED_BYTES - table - slices
    needed = schedule.pipeline.stages * g.stage_bytes
    if needed < g.parts_bytes:
        return Violation(
            f"the parts of sums take {g.parts_bytes} bytes, the ring they lie in has {needed}",
            "use more stages, or a smaller tile n",
            "pipeline",
        )
    return ring_too_large(case, g.stage_bytes, limit, f"beside {slices} bytes of output slices")
