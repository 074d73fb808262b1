"""The race detector of shared memory: who wrote and read each granule, and was it ordered.

A copy in flight is ordered with nothing until its wait (PTX ISA, "cp.async"). What is ordered is
`clocks`' business; global buffers are `global_races`'.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.clocks import Clocks
from samoyeds_gen.simulator.fault import SimulationFault
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine

# A stamp is clock << 32 | thread << 22 | site. Copies in flight carry a clock no barrier reaches.
CLOCK_SHIFT, THREAD_SHIFT = 32, 22
THREADS, SITES = 1023, (1 << THREAD_SHIFT) - 1
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
    """What each lane's warp knows of the warp of `thread` [lanes, n]."""
    own = m.warp_of[lanes] % m.warps
    other = np.minimum(thread >> 5, m.warps - 1)
    known: Array = m.clocks.known[m.cta_of[lanes][:, None], own[:, None], other]
    return known


def first(bad: Array) -> tuple[int, ...]:
    """Index of the first true entry."""
    return tuple(int(i) for i in np.argwhere(bad)[0])


@dataclass(slots=True)
class _Access:
    """Granules [lanes, n] that an instruction touches; `lanes` and `site` say who and where."""

    granules: Array
    lanes: Array
    site: int


class SharedShadow:
    """Last writer and last readers of each `granule` bytes of every CTA's shared memory."""

    def __init__(self, clocks: Clocks, size: int, granule: int) -> None:
        ctas, self.warps = clocks.now.shape
        self.clocks = clocks
        self.granule = granule
        self.writer = np.full(ctas * size // granule, _NEVER, np.int64)
        self.readers = np.zeros((len(self.writer), self.warps), np.int32)
        self.reader_site = np.zeros(len(self.writer), np.int32)

    def _access(self, index: Array, size: int, lanes: Array, site: int) -> _Access:
        granules = (index // self.granule)[:, None]
        count = max(size // self.granule, 1)
        return _Access(granules + np.arange(count) if count > 1 else granules, lanes, site)

    def read(
        self, m: "Machine", index: Array, size: int, lanes: Array, site: int, *, warp: bool = False
    ) -> None:
        """Check and record reads; `warp` marks those whose data reach every lane of the warp."""
        access = self._access(index, size, lanes, site)
        last = self.writer[access.granules]
        if last.max() > _limit(self.clocks.floor) or last.min() < 0:
            self._check_read(m, access, last, warp)
        lane = _COLLECTIVE if warp else lanes & 31
        mark = ((self.clocks.of_lanes(lanes) << _LANE_SHIFT) | lane).astype(np.int32)
        column = m.warp_of[lanes] % self.warps
        self.readers[access.granules, column[:, None]] = mark[:, None]
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
        made = stamps(m, self.clocks.of_lanes(lanes), lanes, site)
        self.writer[self._access(index, size, lanes, site).granules] = made[:, None]

    def _write(self, m: "Machine", access: _Access, made: Array) -> None:
        last = self.writer[access.granules]
        if last.max() > _limit(self.clocks.floor):
            self._check_write(m, access, last)
        readers = self.readers[access.granules]
        if readers.max() > (self.clocks.floor << _LANE_SHIFT | _LANES):
            self._check_readers(m, access, readers)
        self.writer[access.granules] = made[:, None]
        kept = self.writer[access.granules]
        if (kept != made[:, None]).any():
            at = first(kept != made[:, None])
            raise self._race(m, access, at, "write", "written", int(kept[at]))

    def _ordered(self, m: "Machine", access: _Access, last: Array, mine_counts: bool) -> Array:
        """Whether each last write happened before this access."""
        thread, clock = (last >> THREAD_SHIFT) & THREADS, last >> CLOCK_SHIFT
        before: Array = clock <= known_of(m, access.lanes, thread)
        if mine_counts:
            before |= thread == m.thread_of[access.lanes][:, None]
        return before & (clock < _IN_FLIGHT)

    def _check_read(self, m: "Machine", access: _Access, last: Array, warp: bool) -> None:
        good = (last >= 0) & self._ordered(m, access, last, not warp)
        if good.all():
            return
        at = first(~good)
        stamp = int(last[at])
        if stamp == _NEVER:
            raise m.fault(
                "uninitialised read",
                "shared memory that nothing wrote",
                m.site(access.site),
                int(access.lanes[at[0]]),
                address=self._address(m, access, at),
                buffer="shared memory",
            )
        if stamp >> CLOCK_SHIFT == _IN_FLIGHT:
            other = m.site(stamp & SITES)
            raise m.fault(
                "read before arrival",
                f"bytes of a copy that thread {(stamp >> THREAD_SHIFT) & THREADS} issued at "
                f"{other} and has not waited for",
                m.site(access.site),
                int(access.lanes[at[0]]),
                other=other,
                address=self._address(m, access, at),
                buffer="shared memory",
            )
        raise self._race(m, access, at, "read", "written", stamp)

    def _check_write(self, m: "Machine", access: _Access, last: Array) -> None:
        good = (last < 0) | self._ordered(m, access, last, True)
        if not good.all():
            at = first(~good)
            raise self._race(m, access, at, "write", "written", int(last[at]))

    def _check_readers(self, m: "Machine", access: _Access, readers: Array) -> None:
        own = m.warp_of[access.lanes] % self.warps
        known = self.clocks.known[m.cta_of[access.lanes], own][:, None, :]
        same = (np.arange(self.warps) == own[:, None])[:, None, :]
        mine = same & ((readers & _LANES) == (access.lanes & 31)[:, None, None])
        good = mine | ((readers >> _LANE_SHIFT) <= known)
        if not good.all():
            row, column, warp = first(~good)
            lane = int(readers[row, column, warp]) & _LANES
            thread = warp * 32 + (lane if lane < _COLLECTIVE else 0)
            site = int(self.reader_site[access.granules[row, column]])
            stamp = thread << THREAD_SHIFT | site
            raise self._race(m, access, (row, column), "write", "read", stamp)

    def _address(self, m: "Machine", access: _Access, at: tuple[int, ...]) -> int:
        return m.shared_address(int(access.granules[at]) * self.granule)

    def _race(
        self,
        m: "Machine",
        access: _Access,
        at: tuple[int, ...],
        act: str,
        done: str,
        stamp: int,
    ) -> SimulationFault:
        other = m.site(stamp & SITES)
        thread = (stamp >> THREAD_SHIFT) & THREADS
        if stamp >> CLOCK_SHIFT == _IN_FLIGHT:
            done = "being written by a copy in flight, issued"
        return m.fault(
            "race",
            f"a {act} of bytes {done} by thread {thread} at {other}, with no barrier between",
            m.site(access.site),
            int(access.lanes[at[0]]),
            other=other,
            address=self._address(m, access, at),
            buffer="shared memory",
        )


def _limit(floor: int) -> int:
    """The largest stamp of a write that every warp knows of."""
    return (min(floor, _IN_FLIGHT - 1) << CLOCK_SHIFT) | ((1 << CLOCK_SHIFT) - 1)
