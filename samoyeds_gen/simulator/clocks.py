"""Vector clocks: which accesses of which warps are ordered before which.

A warp's clock ticks at every barrier it passes (bar.warp.sync too); a barrier joins the clocks of
its warps. Accesses of one thread are ordered; accesses of two lanes of a warp only across a tick
(PTX ISA, "Memory Consistency Model").
"""

import numpy as np

from samoyeds_gen.simulator.scalars import Array


class Clocks:
    """Vector clocks of the warps of a batch.

    `now[c, w]` is the clock of warp w of CTA c; `known[c, w, v]` the last tick of warp v that
    happened before w's present. A warp knows its own accesses up to its last tick. `floor` is the
    least of `known`: what every warp knows of every other.
    """

    def __init__(self, ctas: int, warps: int) -> None:
        self.now = np.ones((ctas, warps), np.int64)
        self.known = np.zeros((ctas, warps, warps), np.int64)
        self.floor = 0

    def of_lanes(self, lanes: Array) -> Array:
        """Present clock of each lane's warp."""
        present: Array = self.now.reshape(-1)[lanes >> 5]
        return present

    def tick(self, cta: Array, warp: Array) -> None:
        """Order the lanes of each of these warps among themselves."""
        self.known[cta, warp, warp] = self.now[cta, warp]
        self.now[cta, warp] += 1
        self.floor = int(self.known.min())

    def arrive(self, cta: int, warp: int) -> Array:
        """Tick one warp and return what it knows: what whoever waits for it will learn."""
        self.known[cta, warp, warp] = self.now[cta, warp]
        self.now[cta, warp] += 1
        present: Array = self.known[cta, warp].copy()
        return present

    def learn(self, cta: int, warps: Array, known: Array) -> None:
        """Tell warps of one CTA what a barrier gathered."""
        self.known[cta, warps] = np.maximum(self.known[cta, warps], known)
        self.floor = int(self.known.min())

    def join_all(self) -> None:
        """Let all warps of each CTA meet."""
        self.known[:] = self.now[:, None, :]
        self.now += 1
        self.floor = int(self.known.min())

    def retire(self, cta: Array, warp: Array) -> None:
        """Warps that have ended need to know nothing more."""
        self.known[cta, warp] = np.iinfo(np.int64).max
        self.floor = int(self.known.min())
