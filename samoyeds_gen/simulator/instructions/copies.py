"""Asynchronous copy rows, cp.async (PTX ISA, "Asynchronous copy").

Source bytes are read at issue; the destination is poisoned until the issuing thread's wait.
"""

from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.access import addresses, load, shared_index
from samoyeds_gen.simulator.instructions.loads import touch
from samoyeds_gen.simulator.lowering import Read
from samoyeds_gen.simulator.program import Immediate, Instruction, Register
from samoyeds_gen.simulator.rows import Modifiers, Step, row
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.lowering import Lowering
    from samoyeds_gen.simulator.machine import Machine

_RAW = {4: np.uint32, 8: np.uint64, 16: np.complex128}


def _copy(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    destination, source, size_operand, *rest = instruction.operands
    if not isinstance(size_operand, Immediate) or size_operand.value not in _RAW:
        raise lowering.refuse(instruction, "copies 4, 8 or 16 bytes")
    size = size_operand.value
    if "hint" in modifiers:
        rest = rest[:-1]
    live = _source_size(lowering, rest[0], size) if rest else None
    to, start = (addresses(lowering, instruction, operand) for operand in (destination, source))
    site = lowering.site(instruction)
    touch(lowering, "shared", size)

    def run(m: "Machine") -> None:
        lanes = m.indices
        address = to(m)
        index = shared_index(m, address, size, lanes, site)
        m.counters.shared("cp.async", address, lanes, size)
        count = None if live is None else m.pick(live(m.regs))
        data = _fetch(m, start(m), size, count, lanes, site)
        m.transfers.issue(m, lanes, index, data, size, site)

    return run


def _source_size(lowering: "Lowering", operand: object, size: int) -> Read:
    """Bytes to read, the rest is zeros; an ignore-src predicate reads none."""
    assert isinstance(operand, Register | Immediate)
    if isinstance(operand, Register) and operand.type == "pred":
        ignore = lowering.read(operand, "pred")
        return lambda regs: np.where(ignore(regs), np.uint32(0), np.uint32(size))
    return lowering.read(operand, "u32")


def _fetch(
    m: "Machine", address: Array, size: int, count: Array | None, lanes: Array, site: int
) -> Array:
    """Items of `size` bytes of which the first `count` bytes are read and the others zero."""
    if count is None or (count == size).all():
        return load(m, "global", "cp.async", address, size, lanes, site)
    if (count > size).any():
        at = int(np.flatnonzero(count > size)[0])
        raise m.fault(
            "out of bounds",
            f"a source size of {int(count[at])} for a copy of {size} bytes",
            m.site(site),
            int(lanes[at]),
        )
    data: Array = np.zeros(len(lanes), _RAW[size])
    full = np.flatnonzero(count == size)
    if len(full):
        data[full] = load(m, "global", "cp.async", address[full], size, lanes[full], site)
    bytes_ = data.view(np.uint8).reshape(-1, size)
    for place in range(int(count[count < size].max())):
        part = np.flatnonzero((count < size) & (count > place))
        where = address[part] + place
        bytes_[part, place] = load(m, "global", "cp.async", where, 1, lanes[part], site)
    return data


def _commit(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    return lambda m: m.transfers.commit(m)


def _wait(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    (allowed,) = instruction.operands
    if not isinstance(allowed, Immediate):
        raise lowering.refuse(instruction, "takes an immediate number of groups")
    return lambda m: m.transfers.wait(m, allowed.value)


def _wait_all(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    return lambda m: m.transfers.wait(m, -1)


ROWS = (
    row(
        "cp.async.<how:ca|cg>.shared[::<where:cta>].global[.L2::<hint:cache_hint>]"
        "[.L2::<prefetch:64B|128B|256B>]",
        _copy,
        family="cp.async",
    ),
    row("cp.async.commit_group", _commit, family="cp.async.commit_group"),
    row("cp.async.wait_group", _wait, family="cp.async.wait_group"),
    row("cp.async.wait_all", _wait_all, family="cp.async.wait_all"),
)
