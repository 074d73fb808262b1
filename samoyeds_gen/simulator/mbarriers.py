"""mbarrier objects: pending arrivals, pending transaction bytes, phases (PTX ISA, "mbarrier").

A phase ends when no arrival and no transaction byte is pending. Arrivals hand on what the arriving
lanes did before; who sees the phase over learns it. Misuse of the counts is a fault: the hardware
leaves it undefined.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.clocks import merged
from samoyeds_gen.simulator.program import Site
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine

LARGEST = (1 << 20) - 1


def _nothing() -> Array:
    return np.zeros(0, np.int64)


@dataclass(slots=True, eq=False)
class MBarrier:
    """One object, at `address` of CTA `cta` of the batch; `phase` counts finished phases.

    `known` gathers what arrivals handed on, `settled` is what it was when the last phase ended.
    `lane` made it, when its warp's clock was `clock`; `visible` says that the async proxy knows.
    """

    cta: int
    address: int
    expected: int
    lane: int
    clock: int
    pending: int
    bytes: int = 0
    phase: int = 0
    visible: bool = False
    known: Array = field(default_factory=_nothing)
    settled: Array = field(default_factory=_nothing)

    def over(self, parity: int) -> bool:
        """Whether the phase of this parity has ended."""
        return (self.phase & 1) != parity

    def __str__(self) -> str:
        return (
            f"mbarrier {self.address:#x} (phase {self.phase}: {self.pending} of {self.expected} "
            f"arrivals and {self.bytes} bytes pending)"
        )


class MBarriers:
    """Every live mbarrier of a batch."""

    def __init__(self) -> None:
        self.live: dict[tuple[int, int], MBarrier] = {}
        # Per wait instruction: lanes whose last answer was no.
        self.spun: dict[int, Array] = {}

    def begin(self, m: "Machine", lane: int, address: int, count: int, site: Site) -> None:
        """mbarrier.init by one lane."""
        cta = int(m.cta_of[lane])
        if not 1 <= count <= LARGEST:
            raise _misuse(m, f"a count of {count}, which must be 1 to {LARGEST}", site, lane)
        if (cta, address) in self.live:
            raise _misuse(m, f"a second mbarrier at {address:#x}, still valid", site, lane)
        clock = int(m.clocks.now[lane >> 5])
        self.live[cta, address] = MBarrier(cta, address, count, lane, clock, count)

    def end(self, m: "Machine", lane: int, address: int, site: Site) -> None:
        """mbarrier.inval by one lane."""
        barrier = self.find(m, int(m.cta_of[lane]), address, lane, site)
        del self.live[barrier.cta, barrier.address]

    def find(self, m: "Machine", cta: int, address: int, lane: int, site: Site) -> MBarrier:
        """The object that `lane` names; a fault if there is none or its making is unordered."""
        barrier = self.live.get((cta, address))
        if barrier is None:
            raise m.fault(
                "uninitialised read",
                "no mbarrier was initialised here",
                site,
                lane,
                address=address,
                buffer="shared memory",
            )
        if barrier.lane != lane and m.launch.races:
            maker = int(m.member_of[barrier.lane])
            if m.clocks.known[lane >> 5, maker] < barrier.clock:
                what = f"mbarrier {address:#x} is made by thread {int(m.thread_of[barrier.lane])}"
                raise m.fault("race", f"{what}, with no barrier between", site, lane)
        return barrier

    def named(
        self, m: "Machine", addresses: Array, ctas: Array, site: Site
    ) -> Iterator[tuple[MBarrier, Array]]:
        """The objects that the running lanes name, each with its lanes."""
        lanes = m.indices
        keys = (ctas.astype(np.int64) << 32) | addresses
        if (keys == keys[0]).all():
            yield self.find(m, int(ctas[0]), int(addresses[0]), int(lanes[0]), site), lanes
            return
        for key in dict.fromkeys(keys.tolist()):
            mine = lanes[keys == key]
            yield self.find(m, key >> 32, key & (2**32 - 1), int(mine[0]), site), mine

    def arrive(
        self, m: "Machine", barrier: MBarrier, lanes: Array, count: int, site: Site, *, hand: bool
    ) -> None:
        """Each of these lanes arrives `count` times; `hand` says that they release."""
        if hand:
            for warp in dict.fromkeys((lanes >> 5).tolist()):
                chosen = np.zeros(32, bool)
                chosen[lanes[lanes >> 5 == warp] & 31] = True
                barrier.known = merged(barrier.known, m.clocks.release(warp, chosen))
        left = len(lanes) * count
        while left:
            taken = min(left, barrier.pending)
            if taken == 0 or (count > 1 and taken % count):
                raise _misuse(m, f"{left} arrivals too many at {barrier}", site, int(lanes[0]))
            barrier.pending -= taken
            left -= taken
            self._settle(m, barrier)

    def expect(self, m: "Machine", barrier: MBarrier, bytes_: int, site: Site, lane: int) -> None:
        """expect-tx: the phase also waits for that many bytes."""
        barrier.bytes += bytes_
        if not -LARGEST <= barrier.bytes <= LARGEST:
            raise _misuse(m, f"more bytes than a transaction count holds at {barrier}", site, lane)
        self._settle(m, barrier)

    def complete(self, m: "Machine", barrier: MBarrier, bytes_: int) -> None:
        """complete-tx: that many bytes have come."""
        barrier.bytes -= bytes_
        self._settle(m, barrier)

    def _settle(self, m: "Machine", barrier: MBarrier) -> None:
        if barrier.pending == 0 and barrier.bytes == 0:
            barrier.phase += 1
            barrier.pending = barrier.expected
            barrier.settled = barrier.known
            m.parking.progress += 1

    def fence(self, m: "Machine") -> None:
        """The async proxy now sees what the running lanes made, or know to be made."""
        for barrier in self.live.values():
            if barrier.visible or not m.mask.any():
                continue
            mine = m.mask[barrier.lane]
            cluster = m.cluster_of[barrier.lane]
            warps = np.unique(m.indices[m.cluster_of[m.indices] == cluster] >> 5)
            maker = int(m.member_of[barrier.lane])
            barrier.visible = bool(mine or (m.clocks.known[warps, maker] >= barrier.clock).any())


def _misuse(m: "Machine", what: str, site: Site, lane: int) -> Exception:
    return m.fault("divergent barrier", what, site, lane)
