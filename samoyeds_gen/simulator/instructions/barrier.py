"""Barrier rows (PTX ISA, "Parallel Synchronization and Communication Instructions")."""

from typing import TYPE_CHECKING

import numpy as np

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
        number = lowering.read(operands[0], "u32")
        zero = Immediate(0)
        threads = lowering.read(operands[1] if len(operands) > 1 else zero, "u32")
        plain = wait and len(operands) == 1 and operands[0] == zero
        site, following = instruction.site, lowering.next_block

        def run(m: "Machine") -> None:
            if plain and m.barriers.sync_everyone(m):
                m.go(following, m.mask)
            else:
                count = threads(m.regs)
                m.barriers.arrive(m, number(m.regs), count, site, following, wait=wait)

        return run

    return build


def _warp_sync(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    members: Read = lowering.read(instruction.operands[0], "u32")
    site = instruction.site

    def run(m: "Machine") -> None:
        refuse_absent(m, members(m.regs), site)
        warps = np.flatnonzero(m.mask.reshape(-1, 32).any(axis=1))
        m.clocks.tick(warps // m.warps, warps % m.warps)

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
    row("bar.warp.sync", _warp_sync, family="bar.warp.sync"),
)
