"""Rows of clusters, launch dependences, register budgets and proxy fences (PTX ISA, "mapa",
"getctarank", "barrier.cluster", "griddepcontrol", "setmaxnreg", "membar/fence").
"""

from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator import agent_races
from samoyeds_gen.simulator.clusters import RANK_SHIFT, mapped
from samoyeds_gen.simulator.instructions.control import nothing
from samoyeds_gen.simulator.program import Immediate, Instruction
from samoyeds_gen.simulator.register_pool import LARGEST, STEP
from samoyeds_gen.simulator.rows import Modifiers, Step, row

if TYPE_CHECKING:
    from samoyeds_gen.simulator.lowering import Lowering
    from samoyeds_gen.simulator.machine import Machine

_FEWEST = 24


def _map_address(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    target, source, rank_operand = instruction.operands
    write, read = lowering.write(target, modifiers["t"]), lowering.read(source, modifiers["t"])
    rank, site = lowering.read(rank_operand, "u32"), instruction.site

    def run(m: "Machine") -> None:
        placed = mapped(m, m.pick(read(m.regs)), m.pick(rank(m.regs)), site)
        write(m, m.spread(placed))

    return run


def _rank_of(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    target, source = instruction.operands
    write, read = lowering.write(target, "b32"), lowering.read(source, modifiers["t"])

    def run(m: "Machine") -> None:
        rank = (read(m.regs).astype(np.int64) >> RANK_SHIFT) & 0xFF
        own = m.cta_of % m.cluster
        write(m, np.where(rank == 0, own, rank - 1).astype(np.uint32))

    return run


def _arrive(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    hand, site = modifiers.get("sem") != "relaxed", instruction.site
    return lambda m: m.cluster_barriers.arrive(m, site, hand=hand)


def _wait(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    following, site = lowering.next_block, instruction.site
    return lambda m: m.cluster_barriers.wait(m, following, site)


def _await_launch(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    """From here on the launch before has ended: global memory may be read and written."""
    lowering.dependent = True

    def run(m: "Machine") -> None:
        assert m.early is not None
        m.early[m.indices] = False

    return run


def _set_registers(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    (count,) = instruction.operands
    if not isinstance(count, Immediate) or not _FEWEST <= count.value <= LARGEST:
        raise lowering.refuse(instruction, f"takes an immediate from {_FEWEST} to {LARGEST}")
    if count.value % STEP:
        raise lowering.refuse(instruction, f"takes a multiple of {STEP}")
    value, way = count.value, modifiers["way"]
    following, site = lowering.next_block, instruction.site

    def run(m: "Machine") -> None:
        if m.warpgroups.gather(m, following, site):
            m.registers.change(m, value, way, following, site)

    return run


def _proxy_fence(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    def run(m: "Machine") -> None:
        m.mbarriers.fence(m)
        if m.shadow is not None:
            agent_races.fence(m, m.shadow)

    return run


def _barrier_fence(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    return lambda m: m.mbarriers.fence(m)


ROWS = (
    row("mapa[.shared::cluster].<t:u32|u64>", _map_address),
    row("getctarank[.shared::cluster].<t:u32|u64>", _rank_of),
    row(
        "barrier.cluster.arrive[.<sem:release|relaxed>][.aligned]",
        _arrive,
        family="barrier.cluster.arrive",
    ),
    row(
        "barrier.cluster.wait[.acquire][.aligned]", _wait, family="barrier.cluster.wait", ends=True
    ),
    row("griddepcontrol.launch_dependents", nothing),
    row("griddepcontrol.wait", _await_launch),
    row("setmaxnreg.<way:inc|dec>.sync.aligned.u32", _set_registers, ends=True),
    row(
        "fence.proxy.async[.shared::<where:cta|cluster>]", _proxy_fence, family="fence.proxy.async"
    ),
    row("fence.proxy.async.global", nothing),
    row("fence.mbarrier_init.release.cluster", _barrier_fence, family="fence.mbarrier_init"),
    row("fence.proxy.tensormap::generic.release.<scope:SCOPE>", nothing),
)
