"""Which generic writes of shared memory the async proxy cannot see yet.

Bulk stores and wgmma read through the async proxy; a write by st, stmatrix or cp.async reaches them
only past a fence.proxy.async (PTX ISA, "Async proxy"). Any such fence on the way from the writer to
the reader will do; whether there is a way is `races`' question.
"""

from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine


class GenericWrites:
    """One mark per granule: written by the generic proxy since the last fence that covers it."""

    def __init__(self, count: int) -> None:
        self.unfenced = np.zeros(count, bool)

    def add(self, granules: Array) -> None:
        """Record generic writes."""
        self.unfenced[granules] = True

    def first(self, granules: Array) -> int | None:
        """Position of the first of `granules` that the async proxy cannot see; None if all are."""
        hidden = self.unfenced.take(granules)
        return int(hidden.argmax()) if hidden.any() else None

    def fence(self, m: "Machine", threads: Array, clocks: Array, granules: Array) -> None:
        """fence.proxy.async by the running lanes: covers their writes and those they know of.

        `granules` are the unfenced ones; `threads` (counted through the cluster) and `clocks` say
        who wrote them and when.
        """
        per_cluster = m.clocks.members
        cluster = granules * m.kernel.granule // (m.shared_stride * m.cluster)
        own = m.mask.take(cluster * per_cluster * 32 + np.minimum(threads, per_cluster * 32 - 1))
        own &= threads < per_cluster * 32
        active: Array = m.mask.reshape(-1, per_cluster, 32).max(axis=2)
        known = m.clocks.known.reshape(len(active), per_cluster, -1)
        best = np.where(active[:, :, None], known, -1).max(axis=1)
        covered = own | (clocks <= best[cluster, threads >> 5])
        self.unfenced[granules[covered]] = False
