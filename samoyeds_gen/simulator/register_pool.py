"""setmaxnreg: warpgroups hand registers to one another out of what their CTA was launched with.

A multiprocessor has 65536 registers; a CTA starts with an equal share per thread, in steps of 8,
unless the kernel says `.maxnreg` (PTX ISA, "setmaxnreg").
"""

from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.parking import Parked
from samoyeds_gen.simulator.program import Site
from samoyeds_gen.simulator.scalars import Array
from samoyeds_gen.simulator.warpgroups import LANES, WARPS

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine

REGISTERS, STEP, LARGEST = 65536, 8, 256


class RegisterPool:
    """Registers per thread of each warp, and what each CTA has left."""

    def __init__(self, ctas: int, warps: int, limit: int | None) -> None:
        share = REGISTERS // (warps * 32) // STEP * STEP
        start = min(limit or share, share, LARGEST)
        self.warps = warps
        self.held = np.full(ctas * warps, start, np.int64)
        self.free = np.zeros(ctas, np.int64)

    def change(self, m: "Machine", count: int, way: str, resume: int, site: Site) -> None:
        """Set the running warpgroups to `count` registers a thread; an increase may wait."""
        firsts = np.flatnonzero(m.mask[::32])[::WARPS]
        wrong = self.held[firsts] > count if way == "inc" else self.held[firsts] < count
        if wrong.any():
            first = int(firsts[wrong][0])
            what = f"setmaxnreg.{way} to {count} from {int(self.held[first])} registers"
            raise m.fault("divergent barrier", what, site, first * 32)

        def explain(m: "Machine", lane: int) -> str:
            need = (count - int(self.held[lane >> 5])) * LANES
            left = int(self.free[m.cta_of[lane]])
            return f"waits for {need} registers, and the CTA has {left} left"

        def ready(m: "Machine", mask: Array) -> Array:
            return self._take(mask, count)

        go = self._take(m.mask, count)
        rest = m.mask & ~go
        if rest.any():
            m.parking.park(m, Parked(rest, resume, site, ready, explain))
        if go.any():
            m.parking.progress += 1
            m.go(resume, go)

    def _take(self, mask: Array, count: int) -> Array:
        """The lanes of the warpgroups that get their registers."""
        go = np.zeros(len(mask), bool)
        for first in np.flatnonzero(mask[::32])[::WARPS].tolist():
            cta = first // self.warps
            need = (count - int(self.held[first])) * LANES
            if need <= self.free[cta]:
                self.free[cta] -= need
                self.held[first : first + WARPS] = count
                go[first * 32 : first * 32 + LANES] = True
        return go
