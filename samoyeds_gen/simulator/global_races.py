"""The race detector of writable global buffers.

CTAs of one launch are unordered unless a fence and an atomic tie them together (`ordering`); inside
a CTA the vector clocks decide, as in shared memory.
"""

from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.fault import SimulationFault
from samoyeds_gen.simulator.races import (
    CLOCK_SHIFT,
    SITES,
    THREAD_SHIFT,
    THREADS,
    doer,
    first,
    known_of,
    spread,
    tile,
)
from samoyeds_gen.simulator.races import stamps as make_stamps
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine


class _Trace:
    """The last access of one sort to each granule: its stamp and its CTA, -1 for none."""

    def __init__(self, count: int, done: str) -> None:
        self.stamp = np.zeros(count, np.int64)
        self.cta = np.full(count, -1, np.int32)
        self.done = done


class GlobalShadow:
    """Last writer and reader of each `granule` bytes of one writable buffer called `name`."""

    def __init__(self, name: str, size: int, granule: int) -> None:
        count = -(-size // granule)
        self.name = name
        self.granule = granule
        self.writes = _Trace(count, "written")
        self.reads = _Trace(count, "read")

    def read(self, m: "Machine", offsets: Array, size: int, lanes: Array, site: int) -> None:
        """Check reads against earlier writes, then record them."""
        granules = spread(offsets, size, self.granule)
        self._check(m, self.writes, granules, lanes, site, "read")
        self._record(m, self.reads, granules, lanes, site)

    def write(self, m: "Machine", offsets: Array, size: int, lanes: Array, site: int) -> None:
        """Check writes against earlier accesses and against one another, and record them."""
        granules = spread(offsets, size, self.granule)
        self._check(m, self.writes, granules, lanes, site, "write")
        self._check(m, self.reads, granules, lanes, site, "write")
        made, ctas = self._record(m, self.writes, granules, lanes, site)
        lost = (self.writes.stamp[granules] != made) | (self.writes.cta[granules] != ctas)
        if lost.any():
            raise self._race(m, self.writes, granules, first(lost), lanes, site, "write")

    def _record(
        self, m: "Machine", trace: _Trace, granules: Array, lanes: Array, site: int
    ) -> tuple[Array, Array]:
        made = tile(make_stamps(m, m.clocks.of_lanes(lanes), lanes, site), granules)
        ctas = tile(m.grid_cta_of[lanes], granules)
        trace.stamp[granules] = made
        trace.cta[granules] = ctas
        return made, ctas

    def _check(
        self, m: "Machine", trace: _Trace, granules: Array, lanes: Array, site: int, act: str
    ) -> None:
        before = trace.cta.take(granules)
        if before.max() < 0:
            return
        who = tile(lanes, granules)
        last = trace.stamp[granules]
        thread = (last >> THREAD_SHIFT) & THREADS
        same = before == m.grid_cta_of[who]
        mine = thread == m.stamp_of[who]
        inside = same & (mine | ((last >> CLOCK_SHIFT) <= known_of(m, who, thread)))
        bad = (before >= 0) & ~inside
        if bad.any():
            bad &= same | ~m.space.order.before(before, m.grid_cta_of[who])
        if bad.any():
            raise self._race(m, trace, granules, first(bad), lanes, site, act)

    def _race(
        self,
        m: "Machine",
        trace: _Trace,
        granules: Array,
        at: int,
        lanes: Array,
        site: int,
        act: str,
    ) -> SimulationFault:
        granule = int(granules[at])
        stamp, cta = int(trace.stamp[granule]), int(trace.cta[granule])
        other = m.site(stamp & SITES)
        return m.fault(
            "race",
            f"a {act} of bytes {trace.done} by {doer(m, stamp)} of "
            f"CTA {m.coordinates(cta)} at {other}, which nothing orders",
            m.site(site),
            int(lanes[at % len(lanes)]),
            other=other,
            address=granule * self.granule,
            buffer=self.name,
        )
