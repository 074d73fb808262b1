"""The state of a batch of CTAs while it runs, and the order in which its lanes run.

All lanes of all CTAs of the batch are one vector; a register is one array over it (or an array of
length 1 when every lane holds the same). Arrays in registers are never written in place. Lanes at
the same block run together, lowest block first, which lets diverged lanes catch up and meet again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.barriers import Barriers
from samoyeds_gen.simulator.bulk_stores import BulkStores
from samoyeds_gen.simulator.clocks import Clocks
from samoyeds_gen.simulator.clusters import ClusterBarriers, Departures
from samoyeds_gen.simulator.counters import Counters
from samoyeds_gen.simulator.fault import Kind, SimulationFault
from samoyeds_gen.simulator.fragment import Operands
from samoyeds_gen.simulator.landings import Landings
from samoyeds_gen.simulator.mbarriers import MBarriers
from samoyeds_gen.simulator.memory import SHARED_ORIGIN, GlobalSpace, Memory
from samoyeds_gen.simulator.parking import Parking
from samoyeds_gen.simulator.program import Site
from samoyeds_gen.simulator.races import SharedShadow
from samoyeds_gen.simulator.register_pool import RegisterPool
from samoyeds_gen.simulator.scalars import Array
from samoyeds_gen.simulator.tensor_maps import BoundMap
from samoyeds_gen.simulator.transfers import Transfers
from samoyeds_gen.simulator.warpgroups import Warpgroups

if TYPE_CHECKING:
    from samoyeds_gen.simulator.lowered import Lowered

# An endless loop of simulated code must end as a fault, not as a test that hangs.
MAX_BLOCKS = 1_000_000
# What memory holds before anyone writes it: as a 16-bit or 32-bit float, NaN.
POISON = 0xFF


@dataclass(frozen=True, slots=True)
class Launch:
    """What all batches of a launch share; `params` are the bytes of the parameter space."""

    kernel: "Lowered"
    grid: tuple[int, int, int]
    threads: int
    params: bytes
    dynamic_shared: int
    races: bool
    cluster: int = 1
    maps: tuple[BoundMap, ...] = ()


class Machine:
    """One batch of CTAs of one launch.

    `mask` marks the lanes of the running group, `indices` their numbers, `count` how many;
    `everyone` says that no live lane is outside it, `whole` that it is all lanes. Warps, lanes and
    CTAs are counted through the batch; `member_of` and `stamp_of` count warps and lanes through
    their cluster.
    """

    grid: tuple[int, int, int]
    threads: int
    warps: int
    lanes: int
    dynamic_shared: int
    shared_size: int
    ready: dict[int, Array]
    thread_of: Array
    warp_of: Array
    cta_of: Array
    cluster: int
    grid_cta_of: Array

    def __init__(self, launch: Launch, space: GlobalSpace, counters: Counters, ctas: range) -> None:
        self.launch, self.space, self.counters = launch, space, counters
        self.kernel = launch.kernel
        self.grid, self.threads, self.params = launch.grid, launch.threads, launch.params
        self.ctas = len(ctas)
        self.warps = -(-launch.threads // 32)
        self.lanes = self.ctas * self.warps * 32
        lane = np.arange(self.lanes)
        self.warp_of = lane >> 5
        self.cta_of = self.warp_of // self.warps
        self.thread_of = lane - self.cta_of * (self.warps * 32)
        self.grid_cta_of = (self.cta_of + ctas.start).astype(np.int32)
        self.cluster = launch.cluster
        members = self.warps * self.cluster
        self.cluster_of = self.warp_of // members
        self.member_of = self.warp_of % members
        self.stamp_of = lane % (members * 32)
        self.clocks = Clocks(
            self.lanes >> 5, self.warps, members, single_lanes=self.kernel.single_lanes
        )
        self.shadow: SharedShadow | None = None
        self._make_memories()
        self.transfers = Transfers(self.lanes)
        self.operands = Operands()
        self.barriers = Barriers(self.ctas, self.warps)
        self._make_agents()
        self.regs: list[Array] = self.kernel.fresh_registers(self)
        self.born = self.live = self.thread_of < launch.threads
        # Lanes that the launch before may still run beside, of kernels that wait for it.
        self.early = np.ones(self.lanes, bool) if self.kernel.dependent else None
        self.visits = [0] * len(self.kernel.blocks)
        self.ready = {0: self.live}
        self.blocks_run = 0
        self.enter(self.live)

    def _make_memories(self) -> None:
        kernel = self.kernel
        self.dynamic_shared = self.launch.dynamic_shared
        self.shared_size = kernel.dynamic_start - SHARED_ORIGIN + self.dynamic_shared
        self.shared_stride = -(-max(self.shared_size, 16) // 128) * 128
        self.shared = Memory(np.full(self.ctas * self.shared_stride, POISON, np.uint8))
        self.shared_base = self.cta_of * self.shared_stride - SHARED_ORIGIN
        self.local = Memory(np.full(self.lanes * kernel.local_size, POISON, np.uint8))
        if self.launch.races:
            self.shadow = SharedShadow(
                self.clocks, len(self.shared.bytes), kernel.granule, proxies=kernel.proxies
            )

    def _make_agents(self) -> None:
        """What works or waits beside the lanes."""
        self.parking = Parking()
        self.mbarriers = MBarriers()
        self.landings = Landings()
        self.bulk_stores = BulkStores(self.lanes)
        self.warpgroups = Warpgroups(self.kernel.watched)
        self.registers = RegisterPool(self.ctas, self.warps, self.kernel.register_limit)
        self.cluster_barriers = ClusterBarriers(self)
        self.departures = Departures()

    def enter(self, mask: Array) -> None:
        """Make `mask` the running group."""
        self.mask = mask
        self.count = int(np.count_nonzero(mask))
        self.everyone = mask is self.live or bool(np.array_equal(mask, self.live))
        self.whole = self.count == self.lanes
        self._indices: Array | None = None
        self._warp_bits = 0

    @property
    def warp_bits(self) -> int:
        """Warps with a lane in the running group, as bits."""
        if not self._warp_bits:
            active = self.mask.reshape(-1, 32).any(axis=1)
            packed = np.packbits(active, bitorder="little").tobytes()
            self._warp_bits = int.from_bytes(packed, "little")
        return self._warp_bits

    @property
    def indices(self) -> Array:
        """Numbers of the lanes of the running group, increasing."""
        if self._indices is None:
            self._indices = np.flatnonzero(self.mask)
        return self._indices

    def within(self, mask: Array, step: Callable[["Machine"], None]) -> None:
        """Run one step with a smaller group, then return to the present one."""
        saved = self.mask, self.count, self.everyone, self.whole, self._indices
        bits = self._warp_bits
        self.enter(mask)
        step(self)
        self.mask, self.count, self.everyone, self.whole, self._indices = saved
        self._warp_bits = bits

    def pick(self, values: Array) -> Array:
        """The group's entries of a register, one per lane of `indices`."""
        if len(values) == 1:
            return np.broadcast_to(values, (self.count, *values.shape[1:]))
        return values if self.whole else values[self.indices]

    def spread(self, values: Array) -> Array:
        """Group entries back to an array over all lanes; the others hold zeros."""
        if self.whole:
            return values
        full = np.zeros((self.lanes, *values.shape[1:]), values.dtype)
        full[self.indices] = values
        return full

    def spread_warps(self, values: Array, warps: Array | slice) -> Array:
        """Entries of some whole warps back to an array over all lanes."""
        if isinstance(warps, slice):
            return values
        full = np.zeros((self.lanes >> 5, 32), values.dtype)
        full[warps] = values.reshape(-1, 32)
        return full.reshape(-1)

    def refuse_early(self, lanes: Array, site: Site) -> None:
        """Global memory belongs to the launch before until a lane has waited for it."""
        if self.early is not None and self.early[lanes].any():
            lane = int(lanes[np.flatnonzero(self.early[lanes])[0]])
            what = "global memory before griddepcontrol.wait, beside the launch before"
            raise self.fault("race", what, site, lane)

    def go(self, block: int, mask: Array) -> None:
        """Let the lanes of `mask` run next at `block`."""
        waiting = self.ready.get(block)
        if waiting is not None:
            mask = waiting | mask
        if mask is not self.live and np.array_equal(mask, self.live):
            mask = self.live
        self.ready[block] = mask

    def retire(self) -> None:
        """End the lanes of the running group."""
        self.bulk_stores.refuse_outstanding(self)
        self.live = self.live & ~self.mask
        self.departures.leave(self)
        self.clocks.retire(np.flatnonzero(~self.live.reshape(-1, 32).any(axis=1)))
        self.parking.progress += 1
        self.landings.refuse_orphans(self)
        self.cluster_barriers.settle(self)

    def run(self) -> None:
        """Run every lane to its end; SimulationFault when one breaks a rule or none can go on."""
        blocks, ready = self.kernel.blocks, self.ready
        while ready or self.parking.stall(self):
            index = min(ready)
            mask = ready.pop(index)
            if self.parking.split:
                mask = self.parking.hold_back(self, index, mask)
                if not mask.any():
                    continue
            if mask is not self.mask or not self.everyone:
                self.enter(mask)
            block = blocks[index]
            self.visits[index] += self.active_warps()
            for step in block.steps:
                step(self)
            block.end(self)
            self.blocks_run += 1
            if self.blocks_run > MAX_BLOCKS:
                raise SimulationFault(
                    "deadlock", f"no end after {MAX_BLOCKS} blocks", site=block.site
                )
        self.warpgroups.refuse_early(self)
        self.parking.refuse_waiting(self)
        self.barriers.refuse_waiting(self)

    def active_warps(self) -> int:
        """How many warps have a lane in the running group."""
        if self.whole:
            return self.lanes >> 5
        return int(np.count_nonzero(self.mask.reshape(-1, 32).any(axis=1)))

    def whole_warps(self, site: Site, *, full: bool = False) -> Array | slice:
        """Warp numbers of the group for an `.aligned` instruction; a partial warp is a fault.

        `full` asks for 32 lanes even in the last warp of a CTA whose threads do not fill it.
        """
        if self.whole:
            return slice(None)
        lanes = self.mask.reshape(-1, 32)
        active = lanes.any(axis=1)
        missing = ~lanes if full else self.born.reshape(-1, 32) & ~lanes
        partial = active & missing.any(axis=1)
        if partial.any():
            self.parking.blame(self, missing.reshape(-1) & active.repeat(32))
            warp = int(np.flatnonzero(partial)[0])
            first = int(np.flatnonzero(missing[warp])[0])
            raise self.fault(
                "divergent barrier",
                f"only {int(lanes[warp].sum())} of 32 lanes of warp {warp % self.warps} reach it",
                site,
                warp * 32 + first,
            )
        return np.flatnonzero(active)

    def shared_start(self, cta: int) -> int:
        """What to add to a shared address of a CTA for a byte of the batch's memory."""
        return cta * self.shared_stride - SHARED_ORIGIN

    def shared_address(self, index: int) -> int:
        """Shared-memory address, as the kernel sees it, of a byte of the batch's memory."""
        return index % self.shared_stride + SHARED_ORIGIN

    def site(self, number: int) -> Site:
        """The instruction with a number, as race shadows store it."""
        return self.kernel.sites[number]

    def coordinates(self, cta: int) -> tuple[int, int, int]:
        """ctaid of a CTA's linear number."""
        x, y, _ = self.grid
        return cta % x, cta // x % y, cta // (x * y)

    def fault(
        self,
        kind: Kind,
        sentence: str,
        site: Site | None,
        lane: int,
        *,
        other: Site | None = None,
        address: int | None = None,
        buffer: str | None = None,
    ) -> SimulationFault:
        """A fault of one lane, with its thread and CTA."""
        return SimulationFault(
            kind,
            sentence,
            site=site,
            other=other,
            cta=self.coordinates(int(self.grid_cta_of[lane])),
            thread=int(self.thread_of[lane]),
            address=address,
            buffer=buffer,
        )
