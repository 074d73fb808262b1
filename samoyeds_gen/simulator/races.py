"""Who wrote and read each granule of memory, and which of those accesses are ordered.

One vector clock per warp. A warp's clock ticks at every barrier it passes (bar.warp.sync too); a
barrier joins the clocks of its warps. Accesses of one thread are ordered; accesses of two lanes of
a warp only across a tick. A copy in flight is ordered with nothing until its wait
(PTX ISA, "Memory Consistency Model" and "cp.async").
"""

from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.fault import SimulationFault
from samoyeds_gen.simulator.program import Site
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine

# A stamp is clock << 32 | thread << 22 | site. Copies in flight carry a clock no barrier reaches.
_CLOCK, _THREAD, _SITES = 32, 22, (1 << 22) - 1
_IN_FLIGHT = (1 << 31) - 1
_NEVER = -1
# Lane number of a read that is done by a warp as one, such as ldmatrix.
COLLECTIVE = 32


class Clocks:
    """Vector clocks of the warps of a batch.

    `now[c, w]` is the clock of warp w of CTA c; `known[c, w, v]` the last tick of warp v that
    happened before w's present. A warp knows its own accesses up to its last tick.
    """

    def __init__(self, ctas: int, warps: int) -> None:
        self.now = np.ones((ctas, warps), np.int64)
        self.known = np.zeros((ctas, warps, warps), np.int64)
        self.floor = 0

    def tick(self, cta: Array, warp: Array) -> None:
        """Order the lanes of these warps among themselves."""
        self.known[cta, warp, warp] = self.now[cta, warp]
        self.now[cta, warp] += 1
        self.floor = int(self.known.min())

    def arrive(self, cta: int, warp: int) -> Array:
        """Tick one warp and return what it knows: what whoever waits for it will learn."""
        self.known[cta, warp, warp] = self.now[cta, warp]
        self.now[cta, warp] += 1
        return self.known[cta, warp].copy()

    def learn(self, cta: int, warps: Array, known: Array) -> None:
        """Tell warps of one CTA what a barrier gathered."""
        self.known[cta, warps] = np.maximum(self.known[cta, warps], known)
        self.floor = int(self.known.min())

    def join_all(self, ctas: Array | slice) -> None:
        """Let all warps of each of these CTAs meet."""
        self.known[ctas] = self.now[ctas, None, :]
        self.now[ctas] += 1
        self.floor = int(self.known.min())


    def retire(self, cta: Array, warp: Array) -> None:
        """Warps that have ended need to know nothing more."""
        self.known[cta, warp] = np.iinfo(np.int64).max
        self.floor = int(self.known.min())


class SharedShadow:
    """Last writer and last readers of each `granule` bytes of every CTA's shared memory."""

    def __init__(self, clocks: Clocks, size: int, granule: int) -> None:
        ctas, warps = clocks.now.shape
        self.clocks = clocks
        self.warps = warps
        self.granule = granule
        self.writer = np.full(ctas * size // granule, _NEVER, np.int64)
        self.readers = np.zeros((len(self.writer), warps), np.int32)
        self.reader_site = np.zeros(len(self.writer), np.int32)

    def spread(self, index: Array, size: int) -> Array:
        """Granule numbers of accesses of `size` bytes at byte `index`, [lanes, size / granule]."""
        first = index // self.granule
        count = max(size // self.granule, 1)
        return first[:, None] + np.arange(count) if count > 1 else first[:, None]

    def stamp(self, m: "Machine", lanes: Array, site: int) -> Array:
        """Stamps of accesses made now by these lanes."""
        now = self.clocks.now.reshape(-1)[lanes >> 5]
        return (now << _CLOCK) | (m.thread_of[lanes] << _THREAD) | site

    def read(
        self, m: "Machine", index: Array, size: int, lanes: Array, site: int, *, warp: bool = False
    ) -> None:
        """Check and record reads; `warp` marks those whose data reach every lane of the warp."""
        granules = self.spread(index, size)
        last = self.writer[granules]
        if last.max() > _limit(self.clocks.floor) or last.min() < 0:
            self._check_read(m, last, granules, lanes, site, warp)
        now = self.clocks.now.reshape(-1)[lanes >> 5]
        lane = COLLECTIVE if warp else lanes & 31
        mark = ((now << 6) | lane).astype(np.int32)
        columns = m.warp_of[lanes] % self.warps
        self.readers[granules, columns[:, None]] = mark[:, None]
        self.reader_site[granules] = site

    def _check_read(
        self, m: "Machine", last: Array, granules: Array, lanes: Array, site: int, warp: bool
    ) -> None:
        thread = (last >> _THREAD) & 1023
        clock = last >> _CLOCK
        mine = (thread == m.thread_of[lanes][:, None]) & (not warp)
        cta, own = m.cta_of[lanes][:, None], m.warp_of[lanes][:, None] % self.warps
        known = self.clocks.known[cta, own, np.minimum(thread >> 5, self.warps - 1)]
        good = (last >= 0) & (clock < _IN_FLIGHT) & (mine | (clock <= known))
        if good.all():
            return
        at = tuple(int(i) for i in np.argwhere(~good)[0])
        stamp, lane = int(last[at]), int(lanes[at[0]])
        address = m.shared_address(int(granules[at]) * self.granule)
        if stamp < 0:
            raise m.fault(
                "uninitialised read",
                "shared memory that nothing wrote",
                m.site(site),
                lane,
                address=address,
                buffer="shared memory",
            )
        other = m.site(stamp & _SITES)
        writer = (stamp >> _THREAD) & 1023
        if stamp >> _CLOCK == _IN_FLIGHT:
            raise m.fault(
                "read before arrival",
                f"bytes of a copy that thread {writer} issued at {other} and has not waited for",
                m.site(site),
                lane,
                other=other,
                address=address,
                buffer="shared memory",
            )
        raise self._race(m, "read", site, lane, "written", writer, other, address)

    def write(self, m: "Machine", index: Array, size: int, lanes: Array, site: int) -> None:
        """Check and record writes that are done when the instruction is."""
        self._write(m, index, size, lanes, self.stamp(m, lanes, site), site)

    def issue(self, m: "Machine", index: Array, size: int, lanes: Array, site: int) -> None:
        """Check and record writes in flight: from now on nobody may touch the bytes."""
        stamps = (_IN_FLIGHT << _CLOCK) | (m.thread_of[lanes] << _THREAD) | site
        self._write(m, index, size, lanes, stamps, site)

    def arrive(self, m: "Machine", index: Array, size: int, lanes: Array, site: int) -> None:
        """Turn writes in flight into writes of the waiting thread, done now."""
        self.writer[self.spread(index, size)] = self.stamp(m, lanes, site)[:, None]

    def _write(
        self, m: "Machine", index: Array, size: int, lanes: Array, stamps: Array, site: int
    ) -> None:
        granules = self.spread(index, size)
        last = self.writer[granules]
        floor = self.clocks.floor
        if last.max() > _limit(floor):
            self._check_write(m, last, granules, lanes, site)
        readers = self.readers[granules]
        if readers.max() > ((floor << 6) | 63):
            self._check_readers(m, readers, granules, lanes, site)
        self.writer[granules] = stamps[:, None]
        lost = self.writer[granules] != stamps[:, None]
        if lost.any():
            at = tuple(int(i) for i in np.argwhere(lost)[0])
            winner = int(self.writer[granules[at]])
            raise self._race(
                m,
                "write",
                site,
                int(lanes[at[0]]),
                "written",
                (winner >> _THREAD) & 1023,
                m.site(site),
                m.shared_address(int(granules[at]) * self.granule),
            )

    def _check_write(
        self, m: "Machine", last: Array, granules: Array, lanes: Array, site: int
    ) -> None:
        thread = (last >> _THREAD) & 1023
        clock = last >> _CLOCK
        cta, own = m.cta_of[lanes][:, None], m.warp_of[lanes][:, None] % self.warps
        known = self.clocks.known[cta, own, np.minimum(thread >> 5, self.warps - 1)]
        mine = thread == m.thread_of[lanes][:, None]
        good = (last < 0) | ((clock < _IN_FLIGHT) & (mine | (clock <= known)))
        if good.all():
            return
        at = tuple(int(i) for i in np.argwhere(~good)[0])
        stamp = int(last[at])
        done = "being written by a copy in flight" if stamp >> _CLOCK == _IN_FLIGHT else "written"
        raise self._race(
            m,
            "write",
            site,
            int(lanes[at[0]]),
            done,
            (stamp >> _THREAD) & 1023,
            m.site(stamp & _SITES),
            m.shared_address(int(granules[at]) * self.granule),
        )

    def _check_readers(
        self, m: "Machine", readers: Array, granules: Array, lanes: Array, site: int
    ) -> None:
        cta, own = m.cta_of[lanes], m.warp_of[lanes] % self.warps
        known = self.clocks.known[cta, own][:, None, :]
        same = (np.arange(self.warps) == own[:, None])[:, None, :]
        mine = same & ((readers & 63) == (lanes & 31)[:, None, None])
        good = mine | ((readers >> 6) <= known)
        if good.all():
            return
        row, column, warp = (int(i) for i in np.argwhere(~good)[0])
        lane = int(readers[row, column, warp]) & 63
        thread = warp * 32 + (lane if lane < COLLECTIVE else 0)
        raise self._race(
            m,
            "write",
            site,
            int(lanes[row]),
            "read",
            thread,
            m.site(int(self.reader_site[granules[row, column]])),
            m.shared_address(int(granules[row, column]) * self.granule),
        )

    def _race(
        self,
        m: "Machine",
        act: str,
        site: int,
        lane: int,
        done: str,
        thread: int,
        other: Site,
        address: int,
    ) -> SimulationFault:
        return m.fault(
            "race",
            f"a {act} of bytes {done} by thread {thread} at {other}, with no barrier between",
            m.site(site),
            lane,
            other=other,
            address=address,
            buffer="shared memory",
        )


def _limit(floor: int) -> int:
    return (floor << _CLOCK) | ((1 << _CLOCK) - 1)


class GlobalShadow:
    """Last writer and reader of each granule of one writable global buffer.

    CTAs of one launch are unordered, unless a fence and an atomic tie them together; see
    `Machine.ordered_ctas`.
    """

    def __init__(self, size: int, granule: int) -> None:
        count = -(-size // granule)
        self.granule = granule
        self.writer = np.zeros(count, np.int64)
        self.writer_cta = np.full(count, -1, np.int32)
        self.reader = np.zeros(count, np.int64)
        self.reader_cta = np.full(count, -1, np.int32)

    def spread(self, offsets: Array, size: int) -> Array:
        """Granule numbers, [lanes, size / granule]."""
        count = max(size // self.granule, 1)
        return (offsets // self.granule)[:, None] + np.arange(count)

    def read(self, m: "Machine", name: str, offsets: Array, size: int, lanes: Array, site: int) -> None:
        """Check reads against earlier writes, then record them."""
        granules = self.spread(offsets, size)
        self._check(m, name, granules, lanes, site, self.writer, self.writer_cta, "read", "written")
        self.reader[granules] = self._stamp(m, lanes, site)[:, None]
        self.reader_cta[granules] = m.grid_cta_of[lanes][:, None]

    def write(
        self, m: "Machine", name: str, offsets: Array, size: int, lanes: Array, site: int
    ) -> None:
        """Check writes against earlier writes and reads, and against one another; record them."""
        granules = self.spread(offsets, size)
        self._check(m, name, granules, lanes, site, self.writer, self.writer_cta, "write", "written")
        self._check(m, name, granules, lanes, site, self.reader, self.reader_cta, "write", "read")
        stamps = self._stamp(m, lanes, site)[:, None]
        ctas = m.grid_cta_of[lanes][:, None]
        self.writer[granules] = stamps
        self.writer_cta[granules] = ctas
        lost = (self.writer[granules] != stamps) | (self.writer_cta[granules] != ctas)
        if lost.any():
            self._report(m, name, lost, granules, lanes, site, self.writer, self.writer_cta, "write", "written")

    def _stamp(self, m: "Machine", lanes: Array, site: int) -> Array:
        now = m.clocks.now.reshape(-1)[lanes >> 5]
        return (now << _CLOCK) | (m.thread_of[lanes] << _THREAD) | site

    def _check(
        self,
        m: "Machine",
        name: str,
        granules: Array,
        lanes: Array,
        site: int,
        stamps: Array,
        ctas: Array,
        act: str,
        done: str,
    ) -> None:
        before = ctas[granules]
        if before.max() < 0:
            return
        last = stamps[granules]
        thread = (last >> _THREAD) & 1023
        same = before == m.grid_cta_of[lanes][:, None]
        cta, own = m.cta_of[lanes][:, None], m.warp_of[lanes][:, None] % m.warps
        known = m.clocks.known[cta, own, np.minimum(thread >> 5, m.warps - 1)]
        mine = thread == m.thread_of[lanes][:, None]
        good = (before < 0) | (same & (mine | ((last >> _CLOCK) <= known)))
        if not good.all():
            bad = ~good & (same | ~m.ordered_ctas(before, lanes))
            if bad.any():
                self._report(m, name, bad, granules, lanes, site, stamps, ctas, act, done)

    def _report(
        self,
        m: "Machine",
        name: str,
        bad: Array,
        granules: Array,
        lanes: Array,
        site: int,
        stamps: Array,
        ctas: Array,
        act: str,
        done: str,
    ) -> None:
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        stamp, cta = int(stamps[granules[at]]), int(ctas[granules[at]])
        other = m.site(stamp & _SITES)
        raise m.fault(
            "race",
            f"a {act} of bytes {done} by thread {(stamp >> _THREAD) & 1023} of "
            f"CTA {m.coordinates(cta)} at {other}, which nothing orders",
            m.site(site),
            int(lanes[at[0]]),
            other=other,
            address=int(granules[at]) * self.granule,
            buffer=name,
        )
