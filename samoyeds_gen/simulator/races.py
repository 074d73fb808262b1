"""The race detector of shared memory: who wrote and read each granule, and was it ordered.

A copy in flight is ordered with nothing until its wait (PTX ISA, "cp.async"). What is ordered is
`clocks`' business; global buffers are `global_races`'.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.changes import Changes
from samoyeds_gen.simulator.clocks import Clocks
from samoyeds_gen.simulator.fault import Kind, SimulationFault
from samoyeds_gen.simulator.program import Site
from samoyeds_gen.simulator.proxies import GenericWrites
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine

# A stamp is clock << 32 | thread << 16 | site. Threads are counted through a cluster, agents follow
# them. Copies in flight carry a clock no barrier reaches.
CLOCK_SHIFT, THREAD_SHIFT = 32, 16
THREADS, SITES = (1 << (CLOCK_SHIFT - THREAD_SHIFT)) - 1, (1 << THREAD_SHIFT) - 1
IN_FLIGHT = (1 << 31) - 1
NEVER = -1
# Lane number of a read that a warp does as one, such as ldmatrix; a mark is clock << 6 | lane.
COLLECTIVE, LANE_SHIFT = 32, 6
_LANES = (1 << LANE_SHIFT) - 1


def stamps(m: "Machine", clock: Array | int, lanes: Array, site: int) -> Array:
    """Stamps of accesses of these lanes at these clocks."""
    made: Array = (np.int64(clock) << CLOCK_SHIFT) | (m.stamp_of[lanes] << THREAD_SHIFT) | site
    return made


def known_of(m: "Machine", lanes: Array, thread: Array) -> Array:
    """What the warp of each lane knows of the warp or agent of the corresponding `thread`."""
    known = m.clocks.known
    found: Array = known[m.warp_of[lanes], np.minimum(thread >> 5, known.shape[1] - 1)]
    return found


def doer(m: "Machine", stamp: int) -> str:
    """Who made an access, for a message."""
    thread = (stamp >> THREAD_SHIFT) & THREADS
    if thread >> 5 >= m.clocks.members:
        return str(m.clocks.agent_name(thread >> 5))
    rank, own = divmod(thread, m.warps * 32)
    return f"thread {own}" + (f" of cluster rank {rank}" if m.cluster > 1 else "")


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


def collision(m: "Machine", stamp: int, act: str, done: str) -> tuple[Kind, str, Site | None]:
    """Kind, sentence and other instruction of an unordered `act` on bytes `done` by a stamp."""
    if stamp == NEVER:
        return "uninitialised read", "shared memory that nothing wrote", None
    other, who = m.site(stamp & SITES), doer(m, stamp)
    agent = (stamp >> THREAD_SHIFT) & THREADS >= m.clocks.members * 32
    kind: Kind = "read before arrival" if act == "read" else "race"
    if stamp >> CLOCK_SHIFT == IN_FLIGHT:
        if other.opcode.startswith("mbarrier"):
            return "race", f"a {act} of the mbarrier that {who} made at {other}", other
        if act == "read":
            what = f"bytes of a copy that {who} issued at {other} and has not waited for"
        else:
            what = f"a {act} of bytes being written by a copy in flight, issued by {who} at {other}"
    elif agent:
        what = f"a {act} of bytes {done} by the {who} at {other}, which nobody here waited for"
    else:
        kind = "race"
        what = f"a {act} of bytes {done} by {who} at {other}, with no barrier between"
    return kind, what, other


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

    def __init__(self, clocks: Clocks, size: int, granule: int, *, proxies: bool) -> None:
        self.clocks = clocks
        self.granule = granule
        self.writer = np.full(size // granule, NEVER, np.int64)
        self.columns = clocks.known.shape[1]
        # One mark per granule and column of the clocks, flattened.
        self.readers = np.zeros(len(self.writer) * self.columns, np.int32)
        self.reader_site = np.zeros(len(self.writer), np.int32)
        self.generic = GenericWrites(len(self.writer)) if proxies else None
        self.changes: Changes | None = None  # made by the first atomic

    def _access(self, index: Array, size: int, lanes: Array, site: int) -> _Access:
        return _Access(spread(index, size, self.granule), lanes, site)

    def read(
        self, m: "Machine", index: Array, size: int, lanes: Array, site: int, *, warp: bool = False
    ) -> None:
        """Check and record reads; `warp` marks those whose data reach every lane of the warp."""
        access = self._access(index, size, lanes, site)
        if self.changes is not None:
            self._check_changes(m, access)
        self._read(m, access, warp)

    def atomic(self, m: "Machine", index: Array, size: int, lanes: Array, site: int) -> None:
        """Check and record atomics: reads in that they may meet, but plain reads come after them.

        That plain writes come after them too, the marks of reads see to.
        """
        access = self._access(index, size, lanes, site)
        self._read(m, access, False)
        if self.changes is None:
            self.changes = Changes(len(self.writer), self.clocks.members)
        self.changes.add(m, access.granules, access.tiled(lanes), site)

    def _check_changes(self, m: "Machine", access: _Access) -> None:
        assert self.changes is not None
        stamp, at = self.changes.unordered(m, access.granules, access.tiled(access.lanes))
        if stamp is not None:
            raise self._race(m, access, at, "read", "changed", stamp)

    def _read(self, m: "Machine", access: _Access, warp: bool) -> None:
        lanes, site = access.lanes, access.site
        last = self.writer.take(access.granules)
        if last.max() > _limit(self.clocks.floor) or last.min() < 0:
            self._check_read(m, access, last, warp)
        lane = COLLECTIVE if warp else lanes & 31
        mark = ((self.clocks.of_lanes(lanes) << LANE_SHIFT) | lane).astype(np.int32)
        column = access.tiled(m.member_of[lanes])
        self.readers[access.granules * self.columns + column] = access.tiled(mark)
        self.reader_site[access.granules] = site
        self._loosen(lanes)

    def write(self, m: "Machine", index: Array, size: int, lanes: Array, site: int) -> None:
        """Check and record writes that are done when the instruction is."""
        made = stamps(m, self.clocks.of_lanes(lanes), lanes, site)
        access = self._access(index, size, lanes, site)
        self._write(m, access, made)
        if self.generic is not None:
            self.generic.add(access.granules)
        self._loosen(lanes)

    def issue(self, m: "Machine", index: Array, size: int, lanes: Array, site: int) -> None:
        """Check and record writes in flight: from now on nobody may touch the bytes."""
        made = stamps(m, IN_FLIGHT, lanes, site)
        self._write(m, self._access(index, size, lanes, site), made)

    def arrive(self, m: "Machine", index: Array, size: int, lanes: Array, site: int) -> None:
        """Turn writes in flight into writes of the waiting thread, done now."""
        access = self._access(index, size, lanes, site)
        made = stamps(m, self.clocks.of_lanes(lanes), lanes, site)
        self.writer[access.granules] = access.tiled(made)
        if self.generic is not None:
            self.generic.add(access.granules)
        self._loosen(lanes)

    def land(
        self, index: Array, size: int, column: int, clock: int, site: int, *, generic: bool = False
    ) -> None:
        """Turn writes in flight into writes of an agent: whoever waits for `clock` may read."""
        granules = spread(index, size, self.granule)
        self.writer[granules] = (clock << CLOCK_SHIFT) | (column << 5 << THREAD_SHIFT) | site
        if self.generic is not None and generic:
            self.generic.add(granules)

    def _loosen(self, lanes: Array) -> None:
        if self.clocks.loose is not None:
            self.clocks.loose.reshape(-1)[lanes] = True

    def marks(self) -> Array:
        """The readers, [granules, columns], wide enough for every agent there is."""
        columns = self.clocks.known.shape[1]
        if columns != self.columns:
            wide = np.zeros((len(self.writer), columns), np.int32)
            wide[:, : self.columns] = self.readers.reshape(-1, self.columns)
            self.columns, self.readers = columns, wide.reshape(-1)
        return self.readers.reshape(-1, columns)

    def _write(self, m: "Machine", access: _Access, made: Array) -> None:
        last = self.writer.take(access.granules)
        if last.max() > _limit(self.clocks.floor):
            self._check_write(m, access, last)
        readers = self.marks().take(access.granules, axis=0)
        if readers.max() > (self.clocks.floor << LANE_SHIFT | _LANES):
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
        if not before.all():
            before |= clock <= self.clocks.of_lone_lanes(m.warp_of[lanes], thread)
        if mine_counts:
            before |= thread == m.stamp_of[lanes]
        return before & (clock < IN_FLIGHT)

    def _check_read(self, m: "Machine", access: _Access, last: Array, warp: bool) -> None:
        good = (last >= 0) & self._ordered(m, access, last, not warp)
        if good.all():
            return
        at = first(~good)
        kind, what, other = collision(m, int(last[at]), "read", "written")
        raise self._fault(m, access, at, kind, what, other)

    def _check_write(self, m: "Machine", access: _Access, last: Array) -> None:
        good = (last < 0) | self._ordered(m, access, last, True)
        if not good.all():
            at = first(~good)
            raise self._race(m, access, at, "write", "written", int(last[at]))

    def _check_readers(self, m: "Machine", access: _Access, readers: Array) -> None:
        lanes = access.tiled(access.lanes)
        known = self.clocks.known[m.warp_of[lanes]]
        same = np.arange(self.columns) == m.member_of[lanes][:, None]
        mine = same & ((readers & _LANES) == (lanes & 31)[:, None])
        good = mine | ((readers >> LANE_SHIFT) <= known)
        if not good.all():
            raise self._read_race(m, access, good, readers)

    def _read_race(
        self, m: "Machine", access: _Access, good: Array, readers: Array
    ) -> SimulationFault:
        at, column = divmod(first(~good.reshape(-1)), self.columns)
        lane = int(readers[at, column]) & _LANES
        thread = column * 32 + (lane if lane < COLLECTIVE else 0)
        stamp = thread << THREAD_SHIFT | int(self.reader_site[access.granules[at]])
        return self._race(m, access, at, "write", "read", stamp)

    def _race(
        self, m: "Machine", access: _Access, at: int, act: str, done: str, stamp: int
    ) -> SimulationFault:
        kind, what, other = collision(m, stamp, act, done)
        return self._fault(m, access, at, kind, what, other)

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
    return (min(floor, IN_FLIGHT - 1) << CLOCK_SHIFT) | ((1 << CLOCK_SHIFT) - 1)
