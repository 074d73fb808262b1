"""The race detector of shared memory: who wrote and read each granule, and was it ordered.

A copy in flight is ordered with nothing until its wait (PTX ISA, "cp.async"). What is ordered is
`clocks`' business; global buffers are `global_races`'.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.clocks import Clocks
from samoyeds_gen.simulator.fault import Kind, SimulationFault
from samoyeds_gen.simulator.program import Site
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine

# A stamp is clock << 32 | thread << 20 | site. Copies in flight carry a clock no barrier reaches.
CLOCK_SHIFT, THREAD_SHIFT = 32, 20
THREADS, SITES = (1 << (CLOCK_SHIFT - THREAD_SHIFT)) - 1, (1 << THREAD_SHIFT) - 1
_IN_FLIGHT = (1 << 31) - 1
_NEVER = -1
# Lane number of a read that a warp does as one, such as ldmatrix; a mark is clock << 6 | lane.
_COLLECTIVE, _LANE_SHIFT = 32, 6
_LANES = (1 << _LANE_SHIFT) - 1


def stamps(m: "Machine", clock: Array | int, lanes: Array, site: int) -> Array:
    """Stamps of accesses of these lanes at these clocks."""
    made: Array = (np.int64(clock) << CLOCK_SHIFT) | (m.thread_of[lanes] << THREAD_SHIFT) | site
    return made


def known_of(m: "Machine", lanes: Array, thread: Array) -> Array:
    """What the warp of each lane knows of the warp of the corresponding `thread`."""
    other = np.minimum(thread >> 5, m.warps - 1)
    known: Array = m.clocks.known[m.cta_of[lanes], m.warp_of[lanes] % m.warps, other]
    return known


def first(bad: Array) -> int:
    """Position of the first true entry."""
    return int(np.flatnonzero(bad)[0])


def spread(index: Array, size: int, granule: int) -> Array:
    """Granules of accesses of `size` bytes at byte `index`: the first of each, then the second."""
    start = index >> (granule.bit_length() - 1)
    if size <= granule:
        return start
    granules: Array = (np.arange(size // granule)[:, None] + start).reshape(-1)
    return granules


def tile(values: Array, granules: Array) -> Array:
    """Repeat values of lanes so that they stand beside their granules."""
    count = len(granules) // len(values)
    return values if count == 1 else np.concatenate([values] * count)


@dataclass(slots=True)
class _Access:
    """Granules that an instruction touches, as `spread` has them; `lanes` and `site` say who."""

    granules: Array
    lanes: Array
    site: int

    def tiled(self, values: Array) -> Array:
        return tile(values, self.granules)

    def lane(self, at: int) -> int:
        return int(self.lanes[at % len(self.lanes)])


class SharedShadow:
    """Last writer and last readers of each `granule` bytes of every CTA's shared memory."""

    def __init__(self, clocks: Clocks, size: int, granule: int) -> None:
        ctas, self.warps = clocks.now.shape
        self.clocks = clocks
        self.granule = granule
        self.writer = np.full(ctas * size // granule, _NEVER, np.int64)
        # One mark per granule and warp, [granules, warps] flattened.
        self.readers = np.zeros(len(self.writer) * self.warps, np.int32)
        self.reader_site = np.zeros(len(self.writer), np.int32)

    def _access(self, index: Array, size: int, lanes: Array, site: int) -> _Access:
        return _Access(spread(index, size, self.granule), lanes, site)

    def read(
        self, m: "Machine", index: Array, size: int, lanes: Array, site: int, *, warp: bool = False
    ) -> None:
        """Check and record reads; `warp` marks those whose data reach every lane of the warp."""
        access = self._access(index, size, lanes, site)
        last = self.writer.take(access.granules)
        if last.max() > _limit(self.clocks.floor) or last.min() < 0:
            self._check_read(m, access, last, warp)
        lane = _COLLECTIVE if warp else lanes & 31
        mark = ((self.clocks.of_lanes(lanes) << _LANE_SHIFT) | lane).astype(np.int32)
        column = access.tiled(m.warp_of[lanes] % self.warps)
        self.readers[access.granules * self.warps + column] = access.tiled(mark)
        self.reader_site[access.granules] = site

    def write(self, m: "Machine", index: Array, size: int, lanes: Array, site: int) -> None:
        """Check and record writes that are done when the instruction is."""
        made = stamps(m, self.clocks.of_lanes(lanes), lanes, site)
        self._write(m, self._access(index, size, lanes, site), made)

    def issue(self, m: "Machine", index: Array, size: int, lanes: Array, site: int) -> None:
        """Check and record writes in flight: from now on nobody may touch the bytes."""
        made = stamps(m, _IN_FLIGHT, lanes, site)
        self._write(m, self._access(index, size, lanes, site), made)

    def arrive(self, m: "Machine", index: Array, size: int, lanes: Array, site: int) -> None:
        """Turn writes in flight into writes of the waiting thread, done now."""
        access = self._access(index, size, lanes, site)
        made = stamps(m, self.clocks.of_lanes(lanes), lanes, site)
        self.writer[access.granules] = access.tiled(made)

    def _write(self, m: "Machine", access: _Access, made: Array) -> None:
        last = self.writer.take(access.granules)
        if last.max() > _limit(self.clocks.floor):
            self._check_write(m, access, last)
        readers = self.readers.reshape(-1, self.warps).take(access.granules, axis=0)
        if readers.max() > (self.clocks.floor << _LANE_SHIFT | _LANES):
            self._check_readers(m, access, readers)
        made = access.tiled(made)
        self.writer[access.granules] = made
        kept = self.writer.take(access.granules)
        if not np.array_equal(kept, made):
            at = first(kept != made)
            raise self._race(m, access, at, "write", "written", int(kept[at]))

    def _ordered(self, m: "Machine", access: _Access, last: Array, mine_counts: bool) -> Array:
        """Whether each last write happened before this access."""
        lanes = access.tiled(access.lanes)
        thread, clock = (last >> THREAD_SHIFT) & THREADS, last >> CLOCK_SHIFT
        before: Array = clock <= known_of(m, lanes, thread)
        if mine_counts:
            before |= thread == m.thread_of[lanes]
        return before & (clock < _IN_FLIGHT)

    def _check_read(self, m: "Machine", access: _Access, last: Array, warp: bool) -> None:
        good = (last >= 0) & self._ordered(m, access, last, not warp)
        if good.all():
            return
        at = first(~good)
        stamp = int(last[at])
        if stamp == _NEVER:
            what = "shared memory that nothing wrote"
            raise self._fault(m, access, at, "uninitialised read", what, None)
        if stamp >> CLOCK_SHIFT == _IN_FLIGHT:
            other = m.site(stamp & SITES)
            what = (
                f"bytes of a copy that thread {(stamp >> THREAD_SHIFT) & THREADS} issued at "
                f"{other} and has not waited for"
            )
            raise self._fault(m, access, at, "read before arrival", what, other)
        raise self._race(m, access, at, "read", "written", stamp)

    def _check_write(self, m: "Machine", access: _Access, last: Array) -> None:
        good = (last < 0) | self._ordered(m, access, last, True)
        if not good.all():
            at = first(~good)
            raise self._race(m, access, at, "write", "written", int(last[at]))

    def _check_readers(self, m: "Machine", access: _Access, readers: Array) -> None:
        lanes = access.tiled(access.lanes)
        own = m.warp_of[lanes] % self.warps
        known = self.clocks.known[m.cta_of[lanes], own]
        same = np.arange(self.warps) == own[:, None]
        mine = same & ((readers & _LANES) == (lanes & 31)[:, None])
        good = mine | ((readers >> _LANE_SHIFT) <= known)
        if not good.all():
            at, warp = divmod(first(~good.reshape(-1)), self.warps)
            lane = int(readers[at, warp]) & _LANES
            thread = warp * 32 + (lane if lane < _COLLECTIVE else 0)
            stamp = thread << THREAD_SHIFT | int(self.reader_site[access.granules[at]])
            raise self._race(m, access, at, "write", "read", stamp)

    def _race(
        self, m: "Machine", access: _Access, at: int, act: str, done: str, stamp: int
    ) -> SimulationFault:
        other = m.site(stamp & SITES)
        if stamp >> CLOCK_SHIFT == _IN_FLIGHT:
            done = "being written by a copy in flight, issued"
        thread = (stamp >> THREAD_SHIFT) & THREADS
        what = f"a {act} of bytes {done} by thread {thread} at {other}, with no barrier between"
        return self._fault(m, access, at, "race", what, other)

    def _fault(
        self, m: "Machine", access: _Access, at: int, kind: Kind, what: str, other: Site | None
    ) -> SimulationFault:
        return m.fault(
            kind,
            what,
            m.site(access.site),
            access.lane(at),
            other=other,
            address=m.shared_address(int(access.granules[at]) * self.granule),
            buffer="shared memory",
        )


def _limit(floor: int) -> int:
    """The largest stamp of a write that every warp knows of."""
    return (min(floor, _IN_FLIGHT - 1) << CLOCK_SHIFT) | ((1 << CLOCK_SHIFT) - 1)
