"""mbarrier rows (PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier").

A wait that fails answers false at once the first time, as the hardware may; from the second time on
it sets its lanes aside until the phase ends, which makes spin loops cheap.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.access import addresses, shared_index
from samoyeds_gen.simulator.clusters import located
from samoyeds_gen.simulator.instructions.loads import touch
from samoyeds_gen.simulator.landings import CopyArrival
from samoyeds_gen.simulator.lowering import Read, Write
from samoyeds_gen.simulator.mbarriers import MBarrier
from samoyeds_gen.simulator.parking import Parked
from samoyeds_gen.simulator.program import Immediate, Instruction, Operand
from samoyeds_gen.simulator.rows import Build, Modifiers, Step, row
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.lowering import Lowering
    from samoyeds_gen.simulator.machine import Machine

SIZE = 8
Named = Callable[["Machine"], list[tuple[MBarrier, Array]]]
_TRUE, _FALSE = np.array([True]), np.array([False])


def named(lowering: "Lowering", instruction: Instruction, operand: Operand) -> Named:
    """A reader of the mbarriers that an address operand names, each with the lanes naming it."""
    where, site = addresses(lowering, instruction, operand), lowering.site(instruction)
    lowering.single_lanes = True

    def find(m: "Machine") -> list[tuple[MBarrier, Array]]:
        ctas, local = located(m, where(m), SIZE, m.indices, site)
        if m.cluster > 1:
            m.departures.visit(m, m.indices, ctas, instruction.site)
        return list(m.mbarriers.named(m, local, ctas, instruction.site))

    return find


def _life(act: str) -> Build:
    """mbarrier.init and mbarrier.inval: the object's bytes are nobody else's in between."""

    def build(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
        where, number = addresses(lowering, instruction, instruction.operands[0]), lowering.site
        count = lowering.read((*instruction.operands, Immediate(1))[1], "u32")
        site, place = instruction.site, number(instruction)
        lowering.single_lanes = True
        touch(lowering, "shared", SIZE)

        def run(m: "Machine") -> None:
            lanes = m.indices
            _, local = located(m, where(m), SIZE, lanes, place)
            index = shared_index(m, local, SIZE, lanes, place)
            if m.shadow is not None:
                change = m.shadow.issue if act == "init" else m.shadow.arrive
                change(m, index, SIZE, lanes, place)
            counts = m.pick(count(m.regs))
            for lane, address, value in zip(lanes, local, counts, strict=True):
                if act == "init":
                    m.mbarriers.begin(m, int(lane), int(address), int(value), site)
                else:
                    m.mbarriers.end(m, int(lane), int(address), site)

        return run

    return build


def _over_lanes(m: "Machine", read: Read) -> Array:
    values = read(m.regs)
    return np.broadcast_to(values, (m.lanes,)) if len(values) == 1 else values


def _arrive(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    target, place, *rest = instruction.operands
    find, write = named(lowering, instruction, place), lowering.write(target, "b64")
    expects = "tx" in modifiers
    amount = lowering.read(rest[0] if rest else Immediate(1), "u32")
    hand, site = modifiers.get("sem") != "relaxed", instruction.site

    def run(m: "Machine") -> None:
        states = np.zeros(m.lanes, np.uint64)
        amounts = _over_lanes(m, amount)
        for barrier, lanes in find(m):
            states[lanes] = barrier.phase << 32 | barrier.pending
            if expects:
                total = int(amounts[lanes].sum())
                m.mbarriers.expect(m, barrier, total, site, int(lanes[0]))
            counts = np.ones(len(lanes), np.int64) if expects else amounts[lanes]
            for count in np.unique(counts).tolist():
                mine = lanes[counts == count]
                m.mbarriers.arrive(m, barrier, mine, count, site, hand=hand)
        write(m, states)

    return run


def _transaction(*, sign: int) -> Build:
    def build(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
        find = named(lowering, instruction, instruction.operands[0])
        amount, site = lowering.read(instruction.operands[1], "u32"), instruction.site

        def run(m: "Machine") -> None:
            for barrier, lanes in find(m):
                total = sign * int(_over_lanes(m, amount)[lanes].sum())
                m.mbarriers.expect(m, barrier, total, site, int(lanes[0]))

        return run

    return build


class _Wait:
    """test_wait or try_wait as written."""

    def __init__(
        self, lowering: "Lowering", instruction: Instruction, modifiers: Modifiers
    ) -> None:
        target, place, wanted = instruction.operands[:3]
        self.find = named(lowering, instruction, place)
        self.write: Write = lowering.write(target, "pred")
        self.parity = "parity" in modifiers
        self.wanted = lowering.read(wanted, "u32" if self.parity else "u64")
        self.learns = modifiers.get("sem") != "relaxed"
        self.resume, self.site = lowering.next_block, instruction.site

    def run(self, m: "Machine") -> None:
        """Split the running lanes: those whose phase is over, first failures, and the rest."""
        wanted = _over_lanes(m, self.wanted).copy()
        pairs = self.find(m)
        over = self._over(pairs, wanted, m.mask)
        spun = m.mbarriers.spun.setdefault(self.resume, np.zeros(m.lanes, bool))
        failed = m.mask & ~over
        again = failed & spun
        spun[failed] = True
        if again.any():
            self._park(m, again, pairs, wanted)
        for mask, step in ((over, self._granter(pairs)), (failed & ~again, self._deny)):
            if mask.any():
                m.within(mask, step)
                m.go(self.resume, mask)

    def _over(self, pairs: list[tuple[MBarrier, Array]], wanted: Array, mask: Array) -> Array:
        over = np.zeros(len(mask), bool)
        for barrier, lanes in pairs:
            if self.parity:
                over[lanes] = wanted[lanes] & 1 != barrier.phase & 1
            else:
                over[lanes] = wanted[lanes] >> np.uint64(32) != barrier.phase
        return over & mask

    def _granter(self, pairs: list[tuple[MBarrier, Array]]) -> Step:
        def grant(m: "Machine") -> None:
            self.write(m, _TRUE)
            m.mbarriers.spun[self.resume][m.mask] = False
            for barrier, lanes in pairs:
                warps = np.unique(lanes[m.mask[lanes]] >> 5)
                if self.learns and len(warps):
                    m.clocks.learn(warps, barrier.settled)

        return grant

    def _deny(self, m: "Machine") -> None:
        self.write(m, _FALSE)

    def _park(
        self, m: "Machine", mask: Array, pairs: list[tuple[MBarrier, Array]], wanted: Array
    ) -> None:
        def explain(m: "Machine", lane: int) -> str:
            barrier = next(barrier for barrier, lanes in pairs if lane in lanes)
            return f"waits for {barrier}"

        def ready(m: "Machine", mask: Array) -> Array:
            return self._over(pairs, wanted, mask)

        granted = self._granter(pairs)
        wait = Parked(mask, self.resume, self.site, ready, explain, granted, self._deny)
        m.parking.park(m, wait)


def _wait(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    return _Wait(lowering, instruction, modifiers).run


def _pending_count(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    write = lowering.write(instruction.operands[0], "b32")
    read = lowering.read(instruction.operands[1], "b64")
    return lambda m: write(m, (read(m.regs) & np.uint64(0xFFFFFFFF)).astype(np.uint32))


def _copy_arrive(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    """cp.async.mbarrier.arrive: arrive when the lane's earlier cp.async have been delivered."""
    find = named(lowering, instruction, instruction.operands[0])
    number, counted = lowering.site(instruction), "noinc" not in modifiers

    def run(m: "Machine") -> None:
        for barrier, lanes in find(m):
            if counted:
                barrier.pending += len(lanes)
            ticket = m.transfers.mark(lanes)
            m.landings.add(CopyArrival(barrier.cta, int(lanes[0]), number, lanes, ticket, barrier))

    return run


_WHERE = "[.<space:shared|shared::cta|shared::cluster>].b64"
_ORDER = "[.<sem:release|acquire|relaxed>][.<scope:cta|cluster>]"
ROWS = (
    row("mbarrier.init[.shared[::cta]].b64", _life("init"), family="mbarrier.init"),
    row("mbarrier.inval[.shared[::cta]].b64", _life("inval"), family="mbarrier.inval"),
    row(f"mbarrier.arrive{_ORDER}{_WHERE}", _arrive, family="mbarrier.arrive"),
    row(f"mbarrier.arrive.<tx:expect_tx>{_ORDER}{_WHERE}", _arrive, family="mbarrier.arrive"),
    row(f"mbarrier.expect_tx{_ORDER}{_WHERE}", _transaction(sign=1), family="mbarrier.expect_tx"),
    row(
        f"mbarrier.complete_tx{_ORDER}{_WHERE}",
        _transaction(sign=-1),
        family="mbarrier.complete_tx",
    ),
    *(
        row(
            f"mbarrier.{name}[.<parity:parity>]{_ORDER}{_WHERE}",
            _wait,
            family=f"mbarrier.{name}",
            ends=True,
        )
        for name in ("test_wait", "try_wait")
    ),
    row("mbarrier.pending_count.b64", _pending_count, family="mbarrier.pending_count"),
    row(
        "cp.async.mbarrier.arrive[.<noinc:noinc>][.shared[::cta]].b64",
        _copy_arrive,
        family="cp.async.mbarrier.arrive",
    ),
)
