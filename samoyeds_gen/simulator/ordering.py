"""Which CTAs of a launch are ordered: a fence and an atomic on one side, the same on the other.

Kept per CTA and not per thread, so it accepts any fence of a CTA as covering all its threads
(PTX ISA, "Memory Consistency Model", release and acquire patterns).
"""

import numpy as np

from samoyeds_gen.simulator.scalars import Array


class CtaOrder:
    """Sets of CTAs as bit masks: what each CTA knows, has fenced, and has left at an address."""

    def __init__(self) -> None:
        self._knows: dict[int, int] = {}
        self._fenced: dict[int, int] = {}
        self._seen: dict[int, int] = {}
        self._left: dict[int, int] = {}

    def fence(self, ctas: Array) -> None:
        """A device-wide fence in these CTAs."""
        for cta in np.unique(ctas).tolist():
            known = self._knows.get(cta, 0) | self._seen.pop(cta, 0)
            self._knows[cta] = known
            self._fenced[cta] = known | 1 << cta

    def atomic(self, addresses: Array, ctas: Array) -> None:
        """Atomics, in this order; each leaves what its CTA fenced and sees what others left."""
        if not self._fenced and not self._left:
            return
        for address, cta in zip(addresses.tolist(), ctas.tolist(), strict=True):
            seen = self._left.get(address, 0)
            self._seen[cta] = self._seen.get(cta, 0) | seen
            if cta in self._fenced:
                self._left[address] = seen | self._fenced[cta]

    def before(self, other: Array, mine: Array) -> Array:
        """Whether CTA `other` happened before CTA `mine`, entry by entry."""
        pairs = zip(other.tolist(), mine.tolist(), strict=True)
        return np.array([self._knows.get(me, 0) >> max(one, 0) & 1 for one, me in pairs], bool)
