"""CTAs that run together: shared::cluster addresses, their barrier, and how long they must live.

An address of shared::cluster is an address of shared memory with, in bits 24 and up, one more than
the rank of its CTA, or zero for the CTA that uses it (PTX ISA, "State Spaces", "mapa").
"""

from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.clocks import merged
from samoyeds_gen.simulator.memory import SHARED_ORIGIN, WINDOW_SHIFT, check
from samoyeds_gen.simulator.parking import Parked
from samoyeds_gen.simulator.program import Site
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine

RANK_SHIFT = 24
LOCAL = (1 << RANK_SHIFT) - 1
_WINDOW = (1 << WINDOW_SHIFT) - 1


def located(
    m: "Machine", address: Array, size: int, lanes: Array, site: int
) -> tuple[Array, Array]:
    """CTA of the batch and address inside it, of shared or generic addresses of some lanes."""
    inner = address & _WINDOW
    rank = inner >> RANK_SHIFT
    local = inner & LOCAL
    first = m.cta_of[lanes] // m.cluster * m.cluster
    ctas = np.where(rank == 0, m.cta_of[lanes], first + rank - 1)
    outside = (local < SHARED_ORIGIN) | (local > m.shared_size + SHARED_ORIGIN - size)
    outside |= (rank > m.cluster) | (address >> WINDOW_SHIFT > 1)
    check(m, outside, local, size, m.site(site), lanes, "shared memory", m.shared_size)
    return ctas, local


def mapped(m: "Machine", address: Array, rank: Array, site: Site) -> Array:
    """The address of the same variable in the CTA of that rank; arrays over the running lanes."""
    if (rank >= m.cluster).any():
        at = int(np.flatnonzero(rank >= m.cluster)[0])
        what = f"rank {int(rank[at])} of a cluster of {m.cluster}"
        raise m.fault("out of bounds", what, site, int(m.indices[at]))
    step = (rank.astype(address.dtype) + address.dtype.type(1)) << address.dtype.type(RANK_SHIFT)
    placed: Array = (address & ~address.dtype.type(0xFF << RANK_SHIFT)) | step
    return placed


class Departures:
    """No CTA may end before what others of its cluster do to its shared memory has happened.

    `last` holds, by CTA and foreign warp, the newest such act: its clock, lane and instruction;
    `known` what the warps of a CTA that ended knew.
    """

    def __init__(self) -> None:
        self.last: dict[tuple[int, int], tuple[int, int, Site]] = {}
        self.known: dict[int, Array] = {}

    def visit(self, m: "Machine", lanes: Array, ctas: Array, site: Site) -> None:
        """Lanes act on these CTAs' shared memory, each on one."""
        foreign = ctas != m.cta_of[lanes]
        if not foreign.any():
            return
        pairs = (ctas[foreign] << 32) | lanes[foreign] & ~31
        for pair in np.unique(pairs).tolist():
            cta, lane = pair >> 32, pair & (2**32 - 1)
            if not m.live[m.cta_of == cta].any():
                raise _outlived(m, site, lane)
            clock = int(m.clocks.now[lane >> 5])
            self.last[cta, int(m.member_of[lane])] = clock, lane, site

    def leave(self, m: "Machine") -> None:
        """The running lanes have ended; refuse if their CTA did not wait for its visitors."""
        if not self.last:
            return
        for warp in np.unique(m.indices >> 5).tolist():
            cta = warp // m.warps
            before = self.known.get(cta, np.zeros(0, np.int64))
            self.known[cta] = merged(before, m.clocks.known[warp])
        for (cta, member), (clock, lane, site) in self.last.items():
            ended = not m.live[m.cta_of == cta].any()
            if ended and m.launch.races and self.known[cta][member] < clock:
                raise _outlived(m, site, lane)


def _outlived(m: "Machine", site: Site, lane: int) -> Exception:
    what = "the CTA that this names may have ended, with nothing that makes it wait"
    return m.fault("race", what, site, lane)


class ClusterBarriers:
    """barrier.cluster: every live thread of a cluster arrives, then waits, phase by phase."""

    def __init__(self, m: "Machine") -> None:
        self.arrivals = np.zeros(m.lanes, np.int64)
        self.waits = np.zeros(m.lanes, np.int64)
        self.phases = np.zeros(m.lanes // 32 // m.clocks.members, np.int64)
        self.known: dict[int, Array] = {}
        self.settled: dict[int, Array] = {}

    def arrive(self, m: "Machine", site: Site, *, hand: bool) -> None:
        """The running lanes arrive; `hand` says that they release."""
        early = m.mask & (self.arrivals > self.waits)
        if early.any():
            what = "a second barrier.cluster.arrive with no wait between"
            raise m.fault("divergent barrier", what, site, int(early.argmax()))
        self.arrivals = self.arrivals + m.mask
        if hand:
            for warp in np.unique(m.indices >> 5).tolist():
                cluster = warp // m.clocks.members
                chosen = m.mask[warp * 32 : warp * 32 + 32]
                before = self.known.get(cluster, np.zeros(0, np.int64))
                self.known[cluster] = merged(before, m.clocks.release(warp, chosen))
        self.settle(m)

    def settle(self, m: "Machine") -> None:
        """End the phase of every cluster whose live lanes have all arrived."""
        if not self.arrivals.any():
            return
        behind = m.live & (self.arrivals <= self.phases[m.cluster_of])
        waiting = behind.reshape(len(self.phases), -1).any(axis=1)
        begun = (self.arrivals > self.phases[m.cluster_of]).reshape(len(self.phases), -1)
        for cluster in np.flatnonzero(~waiting & begun.any(axis=1)).tolist():
            self.phases[cluster] += 1
            self.settled[cluster] = self.known.get(cluster, np.zeros(0, np.int64))
            m.parking.progress += 1

    def wait(self, m: "Machine", resume: int, site: Site) -> None:
        """The running lanes wait for the phase that they last arrived in."""
        idle = m.mask & (self.arrivals == self.waits)
        if idle.any():
            what = "a barrier.cluster.wait with no arrive before it"
            raise m.fault("divergent barrier", what, site, int(idle.argmax()))
        wanted = self.arrivals
        self.waits = np.where(m.mask, wanted, self.waits)

        def ready(m: "Machine", mask: Array) -> Array:
            over: Array = mask & (self.phases[m.cluster_of] >= wanted)
            return over

        def explain(m: "Machine", lane: int) -> str:
            mine = m.cluster_of == m.cluster_of[lane]
            missing = int((mine & m.live & (self.arrivals < wanted[lane])).sum())
            return f"waits at barrier.cluster for {missing} threads"

        wait = Parked(m.mask, resume, site, ready, explain, granted=self._learn)
        m.parking.park(m, wait)

    def _learn(self, m: "Machine") -> None:
        warps = np.unique(m.indices >> 5)
        for cluster in np.unique(warps // m.clocks.members).tolist():
            m.clocks.learn(warps[warps // m.clocks.members == cluster], self.settled[cluster])
