"""Lanes that wait for something other than their turn, and what happens when nobody can run.

Whether a parked group may go on is asked only when no other lane can run: whoever waits, waits as
long as possible. Then copies in flight land one by one, then waits that may time out do, then it is
a deadlock. Lanes whose warp waits at an earlier block stay behind, as compilers let the lanes of a
warp meet again after a branch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.program import Site
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine

Step = Callable[["Machine"], None]


@dataclass(slots=True, eq=False)
class Parked:
    """Lanes that wait at one instruction.

    `ready(m, mask)` gives those that may go on at block `resume`; `granted` runs for them. A wait
    with `expired` may also give up: then that runs instead. `explain(m, lane)` says in a deadlock
    what a lane waits for.
    """

    mask: Array
    resume: int
    site: Site
    ready: Callable[["Machine", Array], Array]
    explain: Callable[["Machine", int], str]
    granted: Step | None = None
    expired: Step | None = None


class Parking:
    """The parked lanes of a batch; `progress` counts events that may change an answer.

    `split` says that a warp may have lanes here and lanes elsewhere.
    """

    def __init__(self) -> None:
        self.parked: list[Parked] = []
        self.progress = 0
        self.split = False
        self._expired_at = -1
        self._behind: dict[int, Array] = {}

    def park(self, m: "Machine", wait: Parked) -> None:
        """Set lanes aside."""
        self.parked.append(wait)
        self._look(m)

    def _look(self, m: "Machine") -> None:
        """Find out whether a warp is split, and let those behind go on if none is."""
        here = np.zeros(m.lanes, bool)
        for wait in self.parked:
            here |= wait.mask
        warps = here.reshape(-1, 32).any(axis=1)
        elsewhere = (m.live & ~here).reshape(-1, 32).any(axis=1)
        self.split = bool((warps & elsewhere).any())

    def hold_back(self, m: "Machine", block: int, mask: Array) -> Array:
        """The lanes of `mask` whose warps do not wait before `block`; the others stay behind."""
        late = np.zeros(m.lanes >> 5, bool)
        for wait in self.parked:
            if wait.resume < block:
                late |= wait.mask.reshape(-1, 32).any(axis=1)
        behind = mask & late.repeat(32)
        if not behind.any():
            return mask
        before = self._behind.get(block)
        self._behind[block] = behind if before is None else before | behind
        return mask & ~behind

    def _catch_up(self, m: "Machine") -> bool:
        """Let everyone who stayed behind try again."""
        behind, self._behind = self._behind, {}
        for block, mask in behind.items():
            m.go(block, mask)
        return bool(behind)

    def stall(self, m: "Machine") -> bool:
        """Make some lane ready, if any can be; called when none is."""
        if not self.parked:
            return False
        while not self._release(m):
            if not m.landings.land_one(m):
                # Nothing else moves: those behind need not wait for their warps (PTX ISA,
                # independent thread scheduling).
                self.split = False
                return self._catch_up(m) or self._expire(m)
        self._look(m)
        self._catch_up(m)
        return True

    def _release(self, m: "Machine") -> bool:
        released = False
        for wait in list(self.parked):
            go = wait.ready(m, wait.mask)
            if go.any():
                released = True
                self._resume(m, wait, go, wait.granted)
        return released

    def _resume(self, m: "Machine", wait: Parked, go: Array, step: Step | None) -> None:
        wait.mask = wait.mask & ~go
        if not wait.mask.any():
            self.parked.remove(wait)
        if step is not None:
            m.within(go, step)
        m.go(wait.resume, go)

    def _expire(self, m: "Machine") -> bool:
        """Let timed waits fail once; a second time without progress in between is a deadlock."""
        if self._expired_at == self.progress:
            return False
        self._expired_at = self.progress
        waits = [wait for wait in self.parked if wait.expired is not None]
        for wait in waits:
            self._resume(m, wait, wait.mask, wait.expired)
        self._look(m)
        return bool(waits)

    def blame(self, m: "Machine", missing: Array) -> None:
        """Raise a deadlock if lanes that are missed somewhere (a mask) wait here."""
        if any((wait.mask & missing).any() for wait in self.parked):
            self.refuse_waiting(m)

    def refuse_waiting(self, m: "Machine") -> None:
        """Raise a deadlock that lists which warps wait where, if any do."""
        if not self.parked:
            return
        # A wait that cannot time out is nearer the cause than those that follow from it.
        wait = min(self.parked, key=lambda w: (w.expired is not None, int(w.mask.argmax())))
        lane = int(wait.mask.argmax())
        here = m.cta_of == m.cta_of[lane]
        mine = [other for other in self.parked if (other.mask & here).any()]
        mine.sort(key=lambda other: other is not wait)
        lines = [
            f"{_warps(m, other.mask & here)}: {other.explain(m, int((other.mask & here).argmax()))}"
            f" ({other.site})"
            for other in mine
        ]
        raise m.fault("deadlock", f"no thread can go on; {'; '.join(lines[:8])}", wait.site, lane)


def _warps(m: "Machine", mask: Array) -> str:
    """Numbers of the warps of one CTA with a lane in `mask`, ranges joined."""
    warps = np.unique(m.warp_of[mask] % m.warps).tolist()
    runs: list[list[int]] = []
    for warp in warps:
        if runs and runs[-1][1] == warp - 1:
            runs[-1][1] = warp
        else:
            runs.append([warp, warp])
    names = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    return f"warp{'s' if len(warps) > 1 else ''} {names}"
