"""Warpgroups and their asynchronous matrix work: groups, completion, what becomes ordered.

Operands are read and sums formed at issue; sums reach their registers at the wait that covers them
(PTX ISA, "wgmma.commit_group", "wgmma.wait_group"). Instructions of a warpgroup wait here until all
four warps have come.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator import agent_races
from samoyeds_gen.simulator.accumulators import Held, Watched, gathered, scattered
from samoyeds_gen.simulator.clocks import merged
from samoyeds_gen.simulator.program import Site
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine

WARPS = 4
LANES = 128


@dataclass(slots=True)
class Sums:
    """The sums of one tuple of accumulator registers in flight: [64, n] float32.

    `group` is the newest group that adds to them, `shape` that of its instructions.
    """

    values: Array
    group: int
    shape: str
    fenced: bool = False


@dataclass(slots=True)
class Warpgroup:
    """One warpgroup of a batch; `first` is its first lane. Groups are counted from 1."""

    first: int
    committed: int = 0
    done: int = 0
    sums: dict[tuple[int, ...], Sums] = field(default_factory=dict)
    operands: dict[int, int] = field(default_factory=dict)
    known: dict[int, Array] = field(default_factory=dict)

    @property
    def bits(self) -> int:
        """Its warps, as bits of a set of the batch's warps."""
        return 15 << (self.first >> 5)

    @property
    def warps(self) -> Array:
        """Numbers of its warps in the batch."""
        return np.arange(WARPS) + (self.first >> 5)


class Warpgroups:
    """All warpgroups of a batch, made when they first do matrix work."""

    def __init__(self, watched: Watched) -> None:
        self.held = Held(watched)
        self._groups: dict[int, Warpgroup] = {}
        self._early: dict[int, tuple[Array, Site]] = {}

    def gather(self, m: "Machine", place: int, site: Site) -> bool:
        """Make the complete warpgroups at a place the running group; the others wait for their
        missing warps. False if none is complete.
        """
        m.whole_warps(site, full=True)
        if m.whole and m.warps % WARPS == 0:
            return True
        early = self._early.pop(place, None)
        mask = m.mask if early is None else m.mask | early[0]
        active = mask.reshape(m.ctas, m.warps, 32)[:, :, 0]
        whole = m.warps // WARPS * WARPS
        if active[:, whole:].any():
            lane = int(np.argwhere(active[:, whole:])[0] @ (m.warps, 1) + whole) * 32
            what = "its warp is not one of four that make a warpgroup"
            raise m.fault("divergent barrier", what, site, lane)
        complete = active.copy()
        quads = active[:, :whole].reshape(m.ctas, -1, WARPS)
        complete[:, :whole] = quads.all(axis=2).repeat(WARPS, axis=1)
        go = complete.reshape(-1).repeat(32)
        if (mask & ~go).any():
            self._early[place] = mask & ~go, site
        if not go.any():
            return False
        m.enter(m.live if np.array_equal(go, m.live) else go)
        return True

    def refuse_early(self, m: "Machine") -> None:
        """Raise if a warpgroup instruction still waits for some of its warps."""
        for mask, site in self._early.values():
            lane = int(mask.argmax())
            count = int(mask[m.cta_of == m.cta_of[lane]].sum()) // 32
            what = f"only {count} warps of a warpgroup reach it"
            raise m.fault("divergent barrier", what, site, lane)

    def running(self, m: "Machine") -> list[Warpgroup]:
        """The warpgroups of the running group."""
        lanes = np.flatnonzero(m.mask[::32]) * 32
        firsts = lanes.reshape(-1, WARPS)[:, 0].tolist()
        return [self._groups.setdefault(first, Warpgroup(first)) for first in firsts]

    def fence(self, m: "Machine") -> None:
        """wgmma.fence by the running warpgroups."""
        self.held.fence(m.warp_bits)
        for group in self.running(m):
            for sums in group.sums.values():
                sums.fenced = True

    def sums(
        self, m: "Machine", group: Warpgroup, registers: tuple[int, ...], shape: str, site: Site
    ) -> Sums:
        """The sums in flight for these accumulators; begun from the registers if need be."""
        found = group.sums.get(registers)
        if found is not None and found.shape != shape and not found.fenced:
            what = f"accumulators in flight of shape {found.shape} need a wgmma.fence"
            raise m.fault("race", what, site, group.first)
        if found is None:
            numbers = set(registers)
            for other in group.sums:
                if not numbers.isdisjoint(other):
                    what = "part of its accumulators belongs to another wgmma in flight"
                    raise m.fault("race", what, site, group.first)
            slots = [self.held.watched.slots[number] for number in registers]
            found = Sums(gathered(m, slots, group.first), 0, shape)
            group.sums[registers] = found
        found.group, found.shape, found.fenced = group.committed + 1, shape, False
        return found

    def agent(self, m: "Machine", group: Warpgroup, site: int) -> agent_races.Agent:
        """The group being built, as the race detector knows it."""
        member = int(m.member_of[group.first])
        column = m.clocks.agent(f"matrix work of warps {member}-{member + 3}")
        return agent_races.Agent(
            column, group.committed + 1, group.warps, group.first, site, alone=False
        )

    def commit(self, m: "Machine") -> None:
        """Close the present group of the running warpgroups."""
        for group in self.running(m):
            group.committed += 1
            known = np.zeros(0, np.int64)
            for warp in group.warps.tolist():
                known = merged(known, m.clocks.arrive(warp))
            group.known[group.committed] = known

    def wait(self, m: "Machine", allowed: int) -> None:
        """Finish all but the newest `allowed` groups of the running warpgroups."""
        finished: dict[tuple[int, ...], list[tuple[int, Array]]] = {}
        for group in self.running(m):
            done = group.committed - allowed
            if done <= group.done:
                continue
            group.done = done
            self._order(m, group)
            for registers in [r for r, sums in group.sums.items() if sums.group <= done]:
                sums = group.sums.pop(registers)
                finished.setdefault(registers, []).append((group.first, sums.values))
                for number in registers:
                    self.held.flying[number] &= ~group.bits
            for number in [n for n, last in group.operands.items() if last <= done]:
                del group.operands[number]
                self.held.reading[number] &= ~group.bits
        for registers, blocks in finished.items():
            scattered(m, [self.held.watched.slots[number] for number in registers], blocks)

    def _order(self, m: "Machine", group: Warpgroup) -> None:
        """The warps learn that their work is done, and what each had done before it."""
        m.clocks.learn(group.warps, group.known[group.done])
        for number in [number for number in group.known if number <= group.done]:
            del group.known[number]
        member = int(m.member_of[group.first])
        column = m.clocks.agents.get(f"matrix work of warps {member}-{member + 3}")
        if column is not None:
            m.clocks.learn_agent(group.warps, column, group.done)
