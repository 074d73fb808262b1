"""Atomics on shared memory: plain reads of what they changed come after them, by some barrier.

Atomics are not ordered among one another and need not be.
"""

from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine

_LANE_SHIFT = 6
_LANES = (1 << _LANE_SHIFT) - 1
_THREAD_SHIFT = 16


class Changes:
    """The last atomic of each warp on each granule: clock << 6 | lane, 0 for none."""

    def __init__(self, granules: int, warps: int) -> None:
        self._marks = np.zeros((granules, warps), np.int32)
        self._site = np.zeros(granules, np.int32)

    def add(self, m: "Machine", granules: Array, lanes: Array, site: int) -> None:
        """Record atomics of these lanes."""
        marks = (m.clocks.of_lanes(lanes) << _LANE_SHIFT) | (lanes & 31)
        self._marks[granules, m.member_of[lanes]] = marks
        self._site[granules] = site

    def unordered(self, m: "Machine", granules: Array, lanes: Array) -> tuple[int | None, int]:
        """The stamp of an atomic that nothing orders before an access, and which access it is."""
        marks = self._marks[granules]
        warps = marks.shape[1]
        known = m.clocks.known[m.warp_of[lanes], :warps]
        same = np.arange(warps) == m.member_of[lanes][:, None]
        mine = same & ((marks & _LANES) == (lanes & 31)[:, None])
        bad = ~mine & ((marks >> _LANE_SHIFT) > known)
        if not bad.any():
            return None, 0
        at, column = divmod(int(np.flatnonzero(bad.reshape(-1))[0]), warps)
        thread = column * 32 + (int(marks[at, column]) & _LANES)
        return thread << _THREAD_SHIFT | int(self._site[granules[at]]), at
