"""Vector clocks: which accesses of which warps and asynchronous agents are ordered before which.

A warp's clock ticks at every barrier it passes (bar.warp.sync too); a barrier joins the clocks of
its warps. Accesses of one thread are ordered; accesses of two lanes of a warp only across a tick
(PTX ISA, "Memory Consistency Model"). An agent is what moves data beside the warps: the copies of
one mbarrier, the matrix groups of one warpgroup, the bulk stores of one thread.
"""

from collections.abc import Hashable

import numpy as np

from samoyeds_gen.simulator.scalars import Array

_ROOM = 8


def merged(one: Array, two: Array) -> Array:
    """The union of what two parties know; either may lack the newest agents."""
    if len(one) > len(two):
        one, two = two, one
    result = two.copy()
    np.maximum(two[: len(one)], one, out=result[: len(one)])
    return result


class Clocks:
    """Vector clocks of the warps of a batch; `members` warps, those of a cluster, know each other.

    `now[w]` is the clock of warp w; `known[w, v]` the last tick of member v, or event of the agent
    of column v, that happened before w's present. A warp knows its own accesses up to its last
    tick. `floor` is the least of `known`: what every warp knows of every other. `loose` marks lanes
    with an access since their warp's last tick; None where no barrier takes single lanes. `lone`
    are the columns, as of agents, of threads that hand on their writes without their warp's.
    """

    def __init__(self, total: int, warps: int, members: int, *, single_lanes: bool) -> None:
        self.warps = warps
        self.members = members
        self.now = np.ones(total, np.int64)
        self.known = np.zeros((total, members), np.int64)
        self.floor = 0
        self.loose = np.zeros((total, 32), bool) if single_lanes else None
        self.agents: dict[Hashable, int] = {}
        self.lone = np.full(members * 32 + 1, -1, np.int64)  # the last one is nobody's

    def of_lanes(self, lanes: Array) -> Array:
        """Present clock of each lane's warp."""
        present: Array = self.now[lanes >> 5]
        return present

    def agent(self, key: Hashable) -> int:
        """Column of an agent; new ones are unknown to every warp."""
        column = self.agents.get(key)
        if column is None:
            column = self.agents[key] = self.members + len(self.agents)
            if column >= self.known.shape[1]:
                more = np.zeros((len(self.known), _ROOM), np.int64)
                self.known = np.concatenate((self.known, more), axis=1)
                self.floor = 0
        return column

    def agent_name(self, column: int) -> Hashable:
        """The key of the agent of a column."""
        return next(key for key, known in self.agents.items() if known == column)

    def tick(self, warps: Array) -> None:
        """Order the lanes of each of these warps among themselves."""
        self.known[warps, warps % self.members] = self.now[warps]
        self.now[warps] += 1
        self.floor = int(self.known.min())
        if self.loose is not None:
            self.loose[warps] = False

    def arrive(self, warp: int) -> Array:
        """Tick one warp and return what it knows: what whoever waits for it will learn."""
        self.known[warp, warp % self.members] = self.now[warp]
        self.now[warp] += 1
        if self.loose is not None:
            self.loose[warp] = False
        present: Array = self.known[warp].copy()
        return present

    def release(self, warp: int, lanes: Array) -> Array:
        """What some lanes of a warp (bool[32]) hand on: accesses of its other lanes are kept back.

        Those need a bar.warp.sync first. Of accesses of these lanes, their writes are handed on.
        """
        if self.loose is None or not (self.loose[warp] & ~lanes).any():
            return self.arrive(warp)
        member = warp % self.members
        for lane in np.flatnonzero(lanes).tolist():
            column = self.agent(("writes of a lane", member, lane))
            self.lone[member * 32 + lane] = column
            self.known[warp, column] = self.now[warp]
        self.now[warp] += 1
        present: Array = self.known[warp].copy()
        return present

    def of_lone_lanes(self, warps: Array, threads: Array) -> Array:
        """What each of these warps knows of writes that the corresponding thread handed on alone.

        Threads are counted through a cluster; those that did not, and agents, were never heard of.
        """
        columns = self.lone[np.minimum(threads, len(self.lone) - 1)]
        heard: Array = np.where(columns < 0, -1, self.known[warps, columns])
        return heard

    def learn(self, warps: Array, known: Array) -> None:
        """Tell warps what a barrier gathered; `known` may lack the newest agents."""
        count = len(known)
        self.known[warps, :count] = np.maximum(self.known[warps, :count], known)
        self.floor = int(self.known.min())

    def learn_agent(self, warps: Array, column: int, clock: int) -> None:
        """Tell warps that an agent has done everything up to `clock`."""
        self.known[warps, column] = np.maximum(self.known[warps, column], clock)
        self.floor = int(self.known.min())

    def join_all(self) -> None:
        """Let all warps of each CTA meet."""
        count = len(self.now) // self.warps
        known = self.known.reshape(count, self.warps, -1)
        if known.shape[2] > self.warps:
            known[:] = known.max(axis=1, keepdims=True)
        now = self.now.reshape(count, 1, self.warps)
        for rank in range(self.members // self.warps):
            place = slice(rank * self.warps, (rank + 1) * self.warps)
            known[rank :: self.members // self.warps, :, place] = now[
                rank :: self.members // self.warps
            ]
        self.now += 1
        self.floor = int(self.known.min())
        if self.loose is not None:
            self.loose[:] = False

    def retire(self, warps: Array) -> None:
        """Warps that have ended need to know nothing more."""
        self.known[warps] = np.iinfo(np.int64).max
        self.floor = int(self.known.min())
