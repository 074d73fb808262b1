"""CTA barriers: who has arrived, who waits, and what to say when nobody can go on.

A barrier counts threads in whole warps (PTX ISA, "bar, barrier"). `sync` arrives and waits,
`arrive` only arrives; either way those who wait learn in the race clocks what the others did. A
warp that ended without arriving is missed: a barrier is for all threads it counts.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.clocks import merged
from samoyeds_gen.simulator.fault import SimulationFault
from samoyeds_gen.simulator.program import Site
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine

NUMBERS = 16


@dataclass(frozen=True, slots=True)
class Arrival:
    """What an instruction asks of a barrier.

    `resume` is the block where its lanes go on, at once unless they `wait`. `deliver(m, yes, all)`
    runs for those who waited: how many threads voted yes, and how many voted.
    """

    site: Site
    resume: int
    wait: bool
    deliver: Callable[["Machine", int, int], None] | None = None


@dataclass(slots=True)
class _Barrier:
    """One barrier of one CTA since its last completion; warps by number inside the CTA."""

    expected: int
    known: Array
    arrived: list[int] = field(default_factory=list)
    waiting: dict[int, Arrival] = field(default_factory=dict)
    yes: int = 0
    votes: int = 0


class Barriers:
    """The barriers of every CTA of a batch."""

    def __init__(self, ctas: int, warps: int) -> None:
        self.ctas = ctas
        self.warps = warps
        self.open: dict[tuple[int, int], _Barrier] = {}

    def sync_everyone(self, m: "Machine") -> bool:
        """Pass all warps of the batch through barrier 0 at once, when nothing is in the way."""
        if not m.whole or self.open:
            return False
        m.clocks.join_all()
        m.parking.progress += 1
        m.counters.barriers += self.ctas
        return True

    def arrive(
        self,
        m: "Machine",
        number: Array,
        threads: Array,
        arrival: Arrival,
        vote: Array | None = None,
    ) -> None:
        """Let the whole warps of the running group arrive.

        `number`, `threads` and `vote` are registers over the lanes; 0 threads means the whole CTA.
        """
        active = m.whole_warps(arrival.site)
        first = np.arange(0, m.lanes, 32)[active]
        numbers, counts = (np.broadcast_to(r, (m.lanes,))[first] for r in (number, threads))
        voted = np.zeros(m.lanes, bool) if vote is None else vote & m.mask
        yes = voted.reshape(-1, 32).sum(axis=1)
        votes = m.mask.reshape(-1, 32).sum(axis=1)
        if not arrival.wait:
            m.go(arrival.resume, m.mask)
        for lane, which, count in zip(
            first.tolist(), numbers.tolist(), counts.tolist(), strict=True
        ):
            barrier = self._open(m, lane, which, count or self.warps * 32, arrival)
            barrier.yes += int(yes[lane >> 5])
            barrier.votes += int(votes[lane >> 5])
            if len(barrier.arrived) == barrier.expected:
                cta = lane // 32 // self.warps
                del self.open[cta, which]
                self._complete(m, cta, barrier)

    def _open(self, m: "Machine", lane: int, number: int, count: int, arrival: Arrival) -> _Barrier:
        """The barrier of a warp's CTA, with the warp added to it."""
        cta, warp = divmod(lane >> 5, self.warps)
        if number >= NUMBERS or count % 32:
            what = f"barrier {number} of {count} threads"
            raise m.fault("divergent barrier", what, arrival.site, lane)
        barrier = self.open.get((cta, number))
        if barrier is None:
            barrier = self.open[cta, number] = _Barrier(count // 32, np.zeros(0, np.int64))
        if barrier.expected != count // 32 or warp in barrier.waiting:
            raise m.fault(
                "divergent barrier",
                f"barrier {number} was begun for {barrier.expected * 32} threads "
                f"and meets {count}, or one warp twice",
                arrival.site,
                lane,
            )
        barrier.known = merged(barrier.known, m.clocks.arrive(lane >> 5))
        barrier.arrived.append(warp)
        if arrival.wait:
            barrier.waiting[warp] = arrival
        return barrier

    def _complete(self, m: "Machine", cta: int, barrier: _Barrier) -> None:
        m.counters.barriers += 1
        m.parking.progress += 1
        waiting = np.array(sorted(barrier.waiting), np.intp) + cta * self.warps
        m.clocks.learn(waiting, barrier.known)
        groups: dict[Arrival, list[int]] = {}
        for warp, arrival in barrier.waiting.items():
            groups.setdefault(arrival, []).append(cta * self.warps + warp)
        for arrival, warps in groups.items():
            mask = np.zeros((m.lanes >> 5, 32), bool)
            mask[warps] = True
            mask = mask.reshape(-1) & m.live
            if arrival.deliver is not None:
                deliver, yes, votes = arrival.deliver, barrier.yes, barrier.votes
                m.within(mask, lambda m: deliver(m, yes, votes))  # noqa: B023 - runs at once
            m.go(arrival.resume, mask)

    def refuse_waiting(self, m: "Machine") -> None:
        """Raise a deadlock that lists which warps wait where, if any do."""
        waits = [
            (cta, number, warp, arrival.site)
            for (cta, number), barrier in sorted(self.open.items())
            for warp, arrival in sorted(barrier.waiting.items())
        ]
        if not waits:
            return
        cta, _, warp, site = waits[0]
        mine = [(n, w, s) for c, n, w, s in waits if c == cta]
        lines = ", ".join(f"warp {w} at barrier {n} ({s})" for n, w, s in mine[:8])
        have = self.open[cta, waits[0][1]]
        first = int(m.grid_cta_of[cta * self.warps * 32])
        raise SimulationFault(
            "deadlock",
            f"{len(have.arrived)} of {have.expected} warps arrived and no other will: {lines}",
            site=site,
            cta=m.coordinates(first),
            thread=warp * 32,
        )
