"""CTA barriers: who has arrived, who waits, and what to say when nobody can go on.

A barrier counts threads in whole warps (PTX ISA, "bar, barrier"). `sync` arrives and waits,
`arrive` only arrives; either way the warps that complete a barrier are joined in the race clocks.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.fault import SimulationFault
from samoyeds_gen.simulator.program import Site
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine


@dataclass(slots=True)
class _Barrier:
    """One barrier of one CTA since its last completion; warps by number inside the CTA."""

    expected: int
    known: Array
    arrived: list[int] = field(default_factory=list)
    waiting: dict[int, tuple[int, Site]] = field(default_factory=dict)


class Barriers:
    """The sixteen barriers of every CTA of a batch."""

    def __init__(self, ctas: int, warps: int) -> None:
        self.ctas = ctas
        self.warps = warps
        self.open: dict[tuple[int, int], _Barrier] = {}

    def sync_everyone(self, m: "Machine") -> bool:
        """Pass all warps of the batch through barrier 0 at once, when nothing is in the way."""
        if not m.whole or self.open:
            return False
        m.clocks.join_all()
        m.counters.barriers += self.ctas
        return True

    def arrive(
        self, m: "Machine", number: Array, threads: Array, site: Site, resume: int, *, wait: bool
    ) -> None:
        """Let the whole warps of the running group arrive.

        `number` and `threads` are registers over the lanes; 0 threads means the whole CTA.
        Warps that only arrive go on at `resume` at once; the others when the barrier completes.
        """
        active = m.whole_warps(site)
        warps = np.arange(m.lanes >> 5)[active]
        lane = warps * 32
        numbers = number[lane] if len(number) > 1 else np.broadcast_to(number, lane.shape)
        counts = threads[lane] if len(threads) > 1 else np.broadcast_to(threads, lane.shape)
        for warp, which, count in zip(
            warps.tolist(), numbers.tolist(), counts.tolist(), strict=True
        ):
            self._arrive(m, warp, which, count or self.warps * 32, site, resume, wait)
        if not wait:
            m.go(resume, m.mask)

    def _arrive(
        self, m: "Machine", warp: int, number: int, count: int, site: Site, resume: int, wait: bool
    ) -> None:
        cta, mine = divmod(warp, self.warps)
        if number > 15 or count % 32:
            raise m.fault(
                "divergent barrier", f"barrier {number} of {count} threads", site, warp * 32
            )
        barrier = self.open.get((cta, number))
        if barrier is None:
            barrier = self.open[cta, number] = _Barrier(count // 32, np.zeros(self.warps, np.int64))
        if barrier.expected != count // 32 or mine in barrier.waiting:
            raise m.fault(
                "divergent barrier",
                f"barrier {number} was begun for {barrier.expected * 32} threads "
                f"and meets {count}, or one warp twice",
                site,
                warp * 32,
            )
        barrier.known = np.maximum(barrier.known, m.clocks.arrive(cta, mine))
        barrier.arrived.append(mine)
        if wait:
            barrier.waiting[mine] = (resume, site)
        if len(barrier.arrived) == barrier.expected:
            del self.open[cta, number]
            self._complete(m, cta, barrier)

    def _complete(self, m: "Machine", cta: int, barrier: _Barrier) -> None:
        m.counters.barriers += 1
        m.clocks.learn(cta, np.array(sorted(barrier.waiting), np.intp), barrier.known)
        released: dict[int, Array] = {}
        for warp, (resume, _) in barrier.waiting.items():
            mask = released.setdefault(resume, np.zeros(m.lanes, bool))
            start = (cta * self.warps + warp) * 32
            mask[start : start + 32] = True
        for resume, mask in released.items():
            m.go(resume, mask)

    def refuse_waiting(self, m: "Machine") -> None:
        """Raise a deadlock that lists which warps wait where, if any do."""
        waits = [
            (cta, number, warp, site)
            for (cta, number), barrier in sorted(self.open.items())
            for warp, (_, site) in sorted(barrier.waiting.items())
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
