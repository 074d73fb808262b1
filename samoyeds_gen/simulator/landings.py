"""Copies that land by themselves: bulk copies on an mbarrier, and arrivals that cp.async triggers.

They land when no lane can run otherwise, one per CTA at a time and in order of issue: the latest
moment that the hardware allows. Until then the destination holds poison.
"""

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from samoyeds_gen.simulator.clocks import merged
from samoyeds_gen.simulator.mbarriers import MBarrier
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine

ITEM = 16
_POISON = np.frombuffer(b"\xff" * ITEM, np.complex128)


class Landing(Protocol):
    """Something under way to a CTA of the batch."""

    cta: int
    lane: int
    site: int

    def land(self, m: "Machine") -> None:
        """Arrive."""


@dataclass(slots=True)
class BulkCopy:
    """`data` in items of 16 bytes on the way to byte `index` of shared memory.

    `phase` is that of `barrier` when lane `lane` issued the copy; it must still be when it lands.
    """

    cta: int
    lane: int
    site: int
    index: Array
    data: Array
    barrier: MBarrier
    phase: int

    def land(self, m: "Machine") -> None:
        """Write, and complete the transaction."""
        barrier, bytes_ = self.barrier, len(self.data) * ITEM
        if barrier.phase != self.phase:
            raise m.fault(
                "divergent barrier",
                f"a copy issued in phase {self.phase} of {barrier} comes later: that phase "
                f"expected fewer bytes than were copied",
                m.site(self.site),
                self.lane,
            )
        m.shared.store(self.index, ITEM, self.data)
        if m.shadow is not None:
            column = agent_of(m, barrier)
            m.shadow.land(self.index, ITEM, column, self.phase + 1, self.site)
        m.mbarriers.complete(m, barrier, bytes_)


@dataclass(slots=True)
class CopyArrival:
    """The arrival that cp.async.mbarrier.arrive leaves behind: one per lane, after its copies."""

    cta: int
    lane: int
    site: int
    lanes: Array
    ticket: int
    barrier: MBarrier

    def land(self, m: "Machine") -> None:
        """Deliver the lanes' copies, then arrive."""
        column = agent_of(m, self.barrier)
        m.transfers.land(m, self.ticket, column, self.barrier.phase + 1)
        site = m.site(self.site)
        m.mbarriers.arrive(m, self.barrier, self.lanes, 1, site, hand=False)


def agent_of(m: "Machine", barrier: MBarrier) -> int:
    """The clocks' column of an mbarrier's copies; its phases count their events.

    Whoever sees the present phase over learns that its copies have come.
    """
    rank = f" of cluster rank {barrier.cta % m.cluster}" if m.cluster > 1 else ""
    column = m.clocks.agent(f"copies on mbarrier {barrier.address:#x}{rank}")
    news = np.zeros(column + 1, np.int64)
    news[column] = barrier.phase + 1
    barrier.known = merged(barrier.known, news)
    return column


class Landings:
    """What is under way to each CTA of a batch."""

    def __init__(self) -> None:
        self.queues: dict[int, deque[Landing]] = {}

    def add(self, landing: Landing) -> None:
        """Start one."""
        self.queues.setdefault(landing.cta, deque()).append(landing)

    def start(self, m: "Machine", copy: BulkCopy) -> None:
        """Start a bulk copy; its destination is poison until it lands."""
        m.shared.store(copy.index, ITEM, np.broadcast_to(_POISON, len(copy.data)))
        self.add(copy)

    def land_one(self, m: "Machine") -> bool:
        """Land the oldest of every CTA; False if there is none."""
        if not self.queues:
            return False
        for cta in sorted(self.queues):
            queue = self.queues[cta]
            queue.popleft().land(m)
            if not queue:
                del self.queues[cta]
        return True

    def refuse_orphans(self, m: "Machine") -> None:
        """A CTA must not end while something is under way to its shared memory."""
        for cta, queue in self.queues.items():
            if not m.live[m.cta_of == cta].any():
                raise m.fault(
                    "race",
                    "the CTA ended with this copy into its shared memory still under way",
                    m.site(queue[0].site),
                    queue[0].lane,
                )
