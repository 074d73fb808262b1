"""Control rows: where lanes go next (PTX ISA, "Control Flow Instructions")."""

from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.program import Instruction, Symbol
from samoyeds_gen.simulator.rows import Modifiers, Step, row

if TYPE_CHECKING:
    from samoyeds_gen.simulator.lowering import Lowering
    from samoyeds_gen.simulator.machine import Machine


def _branch(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    target = instruction.operands[0]
    if not isinstance(target, Symbol) or target.name not in lowering.labels:
        raise lowering.refuse(instruction, "names no label of its function")
    block = lowering.labels[target.name]
    return lambda m: m.go(block, m.mask)


def _branch_indexed(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    index, targets = lowering.read(instruction.operands[0], "u32"), instruction.operands[1]
    if not isinstance(targets, Symbol) or targets.name not in lowering.target_lists:
        raise lowering.refuse(instruction, "names no list of targets")
    blocks = [lowering.labels[name] for name in lowering.target_lists[targets.name]]

    def run(m: "Machine") -> None:
        chosen = np.broadcast_to(index(m.regs), m.mask.shape)
        for number, block in enumerate(blocks):
            mask = m.mask & (chosen == number)
            if mask.any():
                m.go(block, mask)

    return run


def _exit(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    return lambda m: m.retire()


def _trap(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    site = instruction.site

    def run(m: "Machine") -> None:
        raise m.fault("out of bounds", "the kernel trapped", site, int(m.indices[0]))

    return run


def nothing(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    """An instruction without an effect that the simulator models."""
    return lambda m: None


ROWS = (
    row("bra[.uni]", _branch, ends=True),
    row("brx.idx[.uni]", _branch_indexed, ends=True),
    row("ret[.uni]", _exit, ends=True),
    row("exit", _exit, ends=True),
    row("trap", _trap),
    row("brkpt", nothing),
    row("nanosleep.u32", nothing),
    row("pmevent[.mask]", nothing),
)
