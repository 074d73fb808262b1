"""Barrier rows (PTX ISA, "Parallel Synchronization and Communication Instructions")."""

from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.barriers import Arrival
from samoyeds_gen.simulator.lowering import Read
from samoyeds_gen.simulator.program import Immediate, Instruction, Site
from samoyeds_gen.simulator.rows import Build, Modifiers, Step, row
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.lowering import Lowering
    from samoyeds_gen.simulator.machine import Machine


def _barrier(*, wait: bool) -> Build:
    def build(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
        operands = instruction.operands
        zero = Immediate(0)
        number = lowering.read(operands[0], "u32")
        threads = lowering.read(operands[1] if len(operands) > 1 else zero, "u32")
        plain = wait and operands == (zero,)
        following = lowering.next_block
        arrival = Arrival(instruction.site, following, wait)

        def run(m: "Machine") -> None:
            if plain and m.barriers.sync_everyone(m):
                m.go(following, m.mask)
            else:
                m.barriers.arrive(m, number(m.regs), threads(m.regs), arrival)

        return run

    return build


def _vote_barrier(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    """bar.red: a barrier that counts or combines a predicate of all its threads."""
    target, number_operand, *rest = instruction.operands
    operation = modifiers["op"]
    write = lowering.write(target, modifiers["t"])
    number, vote = lowering.read(number_operand, "u32"), lowering.read(rest[-1], "pred")
    threads = lowering.read(rest[0] if len(rest) > 1 else Immediate(0), "u32")

    def deliver(m: "Machine", yes: int, votes: int) -> None:
        if operation == "popc":
            write(m, np.array([yes], np.uint32))
        else:
            write(m, np.array([yes == votes if operation == "and" else yes > 0]))

    arrival = Arrival(instruction.site, lowering.next_block, True, deliver)
    return lambda m: m.barriers.arrive(m, number(m.regs), threads(m.regs), arrival, vote(m.regs))


def _warp_sync(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    members: Read = lowering.read(instruction.operands[0], "u32")
    site = instruction.site

    def run(m: "Machine") -> None:
        refuse_absent(m, members(m.regs), site)
        warps = np.flatnonzero(m.mask.reshape(-1, 32).any(axis=1))
        m.clocks.tick(warps)

    return run


def refuse_absent(m: "Machine", members: Array, site: Site) -> None:
    """A warp instruction whose member mask names a live lane that is not here, or not itself."""
    if m.whole:
        return
    lanes = m.mask.reshape(-1, 32)
    live = m.live.reshape(-1, 32)
    wanted = np.broadcast_to(members, m.mask.shape).reshape(-1, 32)
    bits = (wanted[:, :, None] >> np.arange(32, dtype=np.uint32)) & np.uint32(1)
    absent = (bits.astype(bool) & (live & ~lanes)[:, None, :]).any(axis=2) & lanes
    if absent.any():
        m.parking.blame(m, m.live & ~m.mask & absent.any(axis=1).repeat(32))
        warp, lane = (int(i) for i in np.argwhere(absent)[0])
        raise m.fault(
            "divergent barrier",
            f"member mask {int(wanted[warp, lane]):#010x} names lanes that do not reach it",
            site,
            warp * 32 + lane,
        )


ROWS = (
    row("bar[.cta].sync", _barrier(wait=True), family="bar.sync", ends=True),
    row("barrier[.cta].sync[.aligned]", _barrier(wait=True), family="bar.sync", ends=True),
    row("bar[.cta].arrive", _barrier(wait=False), family="bar.arrive", ends=True),
    row("barrier[.cta].arrive[.aligned]", _barrier(wait=False), family="bar.arrive", ends=True),
    row("bar[.cta].red.<op:popc>.<t:u32>", _vote_barrier, family="bar.red", ends=True),
    row("bar[.cta].red.<op:and|or>.<t:pred>", _vote_barrier, family="bar.red", ends=True),
    row(
        "barrier[.cta].red.<op:popc>[.aligned].<t:u32>", _vote_barrier, family="bar.red", ends=True
    ),
    row(
        "barrier[.cta].red.<op:and|or>[.aligned].<t:pred>",
        _vote_barrier,
        family="bar.red",
        ends=True,
    ),
    row("bar.warp.sync", _warp_sync, family="bar.warp.sync"),
)
