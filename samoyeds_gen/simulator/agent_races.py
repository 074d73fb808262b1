"""The race detector for asynchronous agents: bulk copies, bulk stores, matrix groups.

An agent reads from issue until the wait that covers it, and writes until its mbarrier's phase ends;
the rest of `races` then sees it as a column of the clocks.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.fault import Kind, SimulationFault
from samoyeds_gen.simulator.program import Site
from samoyeds_gen.simulator.races import (
    CLOCK_SHIFT,
    COLLECTIVE,
    IN_FLIGHT,
    LANE_SHIFT,
    SITES,
    THREAD_SHIFT,
    THREADS,
    SharedShadow,
    collision,
    doer,
    first,
    spread,
)
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine


@dataclass(frozen=True, slots=True)
class Agent:
    """Who acts: event `clock` of a column, begun by `lane` (for messages) at instruction `site`.

    `warps` must all know of what the act depends on; a bulk operation of one thread counts that
    thread's own earlier accesses too (`alone`).
    """

    column: int
    clock: int
    warps: Array
    lane: int
    site: int
    alone: bool


def read(m: "Machine", shadow: SharedShadow, index: Array, size: int, agent: Agent) -> None:
    """Check and record that an agent reads items of `size` bytes from now to its completion."""
    granules = spread(index, size, shadow.granule)
    last = shadow.writer.take(granules)
    good = (last >= 0) & _ordered(m, last, agent)
    if not good.all():
        at = first(~good)
        raise _fault(
            m, shadow, int(granules[at]), agent, collision(m, int(last[at]), "read", "written")
        )
    _refuse_unfenced(m, shadow, granules, agent, "a read through the async proxy")
    shadow.marks()
    mark = agent.clock << LANE_SHIFT | COLLECTIVE
    shadow.readers[granules * shadow.columns + agent.column] = mark
    shadow.reader_site[granules] = agent.site


def issue(m: "Machine", shadow: SharedShadow, index: Array, size: int, agent: Agent) -> None:
    """Check and record that an agent will write items of `size` bytes at a time of its own."""
    granules = spread(index, size, shadow.granule)
    last = shadow.writer.take(granules)
    good = (last < 0) | _ordered(m, last, agent)
    if not good.all():
        at = first(~good)
        raise _fault(
            m, shadow, int(granules[at]), agent, collision(m, int(last[at]), "write", "written")
        )
    _refuse_readers(m, shadow, granules, agent)
    _refuse_unfenced(m, shadow, granules, agent, "a write through the async proxy")
    thread = int(m.stamp_of[agent.lane])
    shadow.writer[granules] = IN_FLIGHT << CLOCK_SHIFT | thread << THREAD_SHIFT | agent.site


def _ordered(m: "Machine", last: Array, agent: Agent) -> Array:
    known = m.clocks.known[agent.warps].min(axis=0)
    thread, clock = (last >> THREAD_SHIFT) & THREADS, last >> CLOCK_SHIFT
    before = clock <= known[np.minimum(thread >> 5, len(known) - 1)]
    if agent.alone:
        before |= thread == m.stamp_of[agent.lane]
    ordered: Array = before & (clock < IN_FLIGHT)
    return ordered


def _refuse_readers(m: "Machine", shadow: SharedShadow, granules: Array, agent: Agent) -> None:
    readers = shadow.marks().take(granules, axis=0)
    known = m.clocks.known[agent.warps].min(axis=0)
    good = (readers >> LANE_SHIFT) <= known
    if agent.alone:
        own = int(m.member_of[agent.lane])
        good[:, own] |= (readers[:, own] & (2 * COLLECTIVE - 1)) == agent.lane & 31
    if good.all():
        return
    at, column = divmod(first(~good.reshape(-1)), shadow.columns)
    lane = int(readers[at, column]) & (2 * COLLECTIVE - 1)
    thread = column * 32 + (lane if lane < COLLECTIVE else 0)
    stamp = thread << THREAD_SHIFT | int(shadow.reader_site[granules[at]])
    raise _fault(m, shadow, int(granules[at]), agent, collision(m, stamp, "write", "read"))


def _refuse_unfenced(
    m: "Machine", shadow: SharedShadow, granules: Array, agent: Agent, act: str
) -> None:
    if shadow.generic is None:
        return
    at = shadow.generic.first(granules)
    if at is not None:
        stamp = int(shadow.writer[granules[at]])
        other = m.site(stamp & SITES)
        what = f"{act} of bytes that {doer(m, stamp)} wrote at {other}, with no fence.proxy.async"
        kind: Kind = "read before arrival" if "read" in act else "race"
        raise _fault(m, shadow, int(granules[at]), agent, (kind, what, other))


def _fault(
    m: "Machine",
    shadow: SharedShadow,
    granule: int,
    agent: Agent,
    found: tuple[Kind, str, Site | None],
) -> SimulationFault:
    kind, what, other = found
    return m.fault(
        kind,
        what,
        m.site(agent.site),
        agent.lane,
        other=other,
        address=m.shared_address(granule * shadow.granule),
        buffer="shared memory",
    )


def fence(m: "Machine", shadow: SharedShadow) -> None:
    """fence.proxy.async by the running lanes."""
    if shadow.generic is None:
        return
    granules = np.flatnonzero(shadow.generic.unfenced)
    if len(granules):
        last = shadow.writer[granules]
        thread = (last >> THREAD_SHIFT) & THREADS
        shadow.generic.fence(m, thread, last >> CLOCK_SHIFT, granules)
