"""Bulk stores in flight: what cp.async.bulk reads from shared memory until a wait_group covers it.

Groups are counted per thread (PTX ISA, "cp.async.bulk.commit_group"). The bytes are moved at issue;
the race detector guards them until the wait.
"""

from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator import agent_races
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine


class BulkStores:
    """Per lane: groups committed, groups waited for, and the group of its newest store."""

    def __init__(self, lanes: int) -> None:
        self.committed = np.zeros(lanes, np.int64)
        self.waited = np.zeros(lanes, np.int64)
        self.newest = np.zeros(lanes, np.int64)
        self.sites = np.zeros(lanes, np.int64)

    def read(self, m: "Machine", lane: int, index: Array, size: int, site: int) -> None:
        """Record that a store of `lane` reads items of `size` bytes from now to its wait."""
        group = int(self.committed[lane]) + 1
        self.newest[lane], self.sites[lane] = group, site
        if m.shadow is not None:
            warps = np.array([lane >> 5])
            agent = agent_races.Agent(self._column(m, lane), group, warps, lane, site, alone=True)
            agent_races.read(m, m.shadow, index, size, agent)

    def _column(self, m: "Machine", lane: int) -> int:
        rank = f" of cluster rank {m.cta_of[lane] % m.cluster}" if m.cluster > 1 else ""
        return m.clocks.agent(f"bulk stores of thread {m.thread_of[lane]}{rank}")

    def commit(self, m: "Machine") -> None:
        """Close the present group of the running lanes."""
        self.committed = self.committed + m.mask

    def wait(self, m: "Machine", allowed: int) -> None:
        """Have all but the newest `allowed` groups of the running lanes done."""
        done = self.committed - allowed
        for lane in np.flatnonzero(m.mask & (done > self.waited) & (self.newest > self.waited)):
            self.waited[lane] = done[lane]
            warps = np.array([lane >> 5])
            m.clocks.learn_agent(warps, self._column(m, int(lane)), int(done[lane]))

    def refuse_outstanding(self, m: "Machine") -> None:
        """The running lanes end: shared memory must not be taken away under their stores."""
        left = np.flatnonzero(m.mask & (self.newest > self.waited))
        if len(left) and m.shadow is not None:
            lane = int(left[0])
            what = "the thread ended and this bulk store may still be reading shared memory"
            raise m.fault("race", what, m.site(int(self.sites[lane])), lane)
